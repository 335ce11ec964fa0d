"""Pages that are for operators alone."""

from collections.abc import Callable
from functools import wraps

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse

from accounts.authentication import user_of
from llmsite.core.errors import NotAllowed

View = Callable[..., HttpResponse]


def for_operators(view: View) -> View:
    """Sends others to the sign-in, or raises NotAllowed before anything is looked up."""

    @wraps(view)
    def checked(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        if not user_of(request).has_perm("accounts.operate"):
            raise NotAllowed
        return view(request, *args, **kwargs)

    return login_required(checked)
