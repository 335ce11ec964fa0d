"""The sign-in pages: plain forms."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, resolve_url
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from accounts.authentication import user_of
from accounts.cookies import begin_sign_in, end_sign_in
from accounts.forms import LoginForm, RegisterForm
from accounts.limits.forms import count_form
from accounts.models import User
from accounts.pages.form_pages import form_page, too_often
from accounts.passwords import check_password
from llmsite.core.errors import NotAllowed, PublicError, RateLimited, WrongCredentials, describe


@sensitive_post_parameters()
@require_http_methods(["GET", "POST"])
def login(request: HttpRequest) -> HttpResponse:
    if request.method == "GET" and request.user.is_authenticated:
        return redirect(_next_page(request))
    form, refusal = LoginForm(request.POST or None), None
    if request.method == "POST":
        try:
            count_form(request, "login")
            if form.is_valid():
                return _signed_in(request, check_password(**form.cleaned_data, request=request))
        except WrongCredentials as error:
            form.add_error(None, describe(error).message)
        except RateLimited as error:
            refusal = describe(error)
    return _sign_in_page(request, "accounts/login.html", form, refusal)


@sensitive_post_parameters()
@require_http_methods(["GET", "POST"])
def register(request: HttpRequest) -> HttpResponse:
    if not settings.REGISTRATION_OPEN:
        raise NotAllowed
    if request.method == "GET" and request.user.is_authenticated:
        return redirect(_next_page(request))
    form, refusal = RegisterForm(request.POST or None), None
    if request.method == "POST":
        refusal = too_often(request, "register")
        if not refusal and (user := form.register()):
            return _signed_in(request, user)
    return _sign_in_page(request, "accounts/register.html", form, refusal)


@require_POST
def logout(request: HttpRequest) -> HttpResponse:
    return end_sign_in(request, redirect(settings.LOGOUT_REDIRECT_URL))


def admin_login(request: HttpRequest) -> HttpResponse:
    """Where the admin sends those who may not enter. To sign in does not help who is signed in already."""
    if request.user.is_authenticated and not user_of(request).is_staff:
        raise NotAllowed
    return redirect(f"{resolve_url('login')}?{request.META['QUERY_STRING']}")


def _sign_in_page(
    request: HttpRequest, template: str, form: LoginForm | RegisterForm, refusal: PublicError | None
) -> HttpResponse:
    if refusal:
        # Who asks too often is told nothing about what they sent: no name is looked up.
        form = type(form)(initial=request.POST.dict())
    return form_page(
        request,
        template,
        form,
        refusal=refusal,
        next=_next_page(request),
        registration_open=settings.REGISTRATION_OPEN,
    )


def _signed_in(request: HttpRequest, user: User) -> HttpResponse:
    return begin_sign_in(request, redirect(_next_page(request)), user)


def _next_page(request: HttpRequest) -> str:
    target = request.POST.get("next") or request.GET.get("next") or ""
    own = url_has_allowed_host_and_scheme(target, {request.get_host()}, require_https=request.is_secure())
    return target if own else resolve_url(settings.LOGIN_REDIRECT_URL)
