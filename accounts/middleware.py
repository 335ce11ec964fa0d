"""One sign-in for pages, API and admin: `request.user` comes from the access cookie."""

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import middleware
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.functional import SimpleLazyObject

from accounts.cookies import clear_cookies, set_cookies
from accounts.models import User
from accounts.tokens import TokenPair, read_access, rotate
from llmsite.core.errors import NotSignedIn
from llmsite.core.paths import is_api_path


class AuthenticationMiddleware(middleware.AuthenticationMiddleware):
    """Sets `request.user` for pages, and renews an expired access cookie on the way.

    API doors do not use it: they read the credential themselves, with its scopes and CSRF proof
    (`accounts.credentials`), and their scripts renew through `/api/auth/refresh`.
    """

    def process_request(self, request: HttpRequest) -> None:
        sign_in = _PageSignIn(request)
        request.page_sign_in = sign_in  # type: ignore[attr-defined]
        request.user = SimpleLazyObject(sign_in.user)  # type: ignore[assignment]
        request.auser = sync_to_async(sign_in.user)
        request.session = _NoSession()  # type: ignore[assignment]

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        sign_in: _PageSignIn | None = getattr(request, "page_sign_in", None)
        # A view that signed somebody in or out has set the cookies already.
        if sign_in is None or settings.ACCESS_COOKIE in response.cookies:
            return response
        if sign_in.renewed is not None:
            return set_cookies(response, sign_in.renewed)
        return clear_cookies(response) if sign_in.ended else response


class _NoSession(dict[str, object]):
    """What Django's own views find where they expect a session: nothing is kept in it.

    The admin, for one, renews the session after a password was changed. Our sign-ins know no more
    of it than that they have ended (`User.save`).
    """

    def cycle_key(self) -> None: ...

    def flush(self) -> None:
        self.clear()


class _PageSignIn:
    """The sign-in of one page request, read at most once."""

    def __init__(self, request: HttpRequest) -> None:
        self._request = request
        self._user: User | AnonymousUser | None = None
        self.renewed: TokenPair | None = None
        self.ended = False

    def user(self) -> User | AnonymousUser:
        if self._user is None:
            self._user = self._read() or AnonymousUser()
        return self._user

    def _read(self) -> User | None:
        cookies = self._request.COOKIES
        # A header that names somebody is never overruled by a cookie that names somebody else.
        if "HTTP_AUTHORIZATION" in self._request.META or not cookies.get(settings.ACCESS_COOKIE):
            return None
        try:
            return read_access(cookies[settings.ACCESS_COOKIE]).user
        except NotSignedIn:
            return self._renew(cookies.get(settings.REFRESH_COOKIE))

    def _renew(self, refresh: str | None) -> User | None:
        if not refresh or is_api_path(self._request.path):
            return None
        try:
            self.renewed = rotate(refresh)
        except NotSignedIn:
            self.ended = True
            return None
        return read_access(self.renewed.access).user
