"""Who a request comes from: the one place where a bearer or a cookie becomes a user.

The order is fixed: an `Authorization` header counts alone, and one that is bad never falls back
to the cookie. A cookie may change something only together with a CSRF proof.
"""

from dataclasses import dataclass

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware

from accounts.keys import KEY_PREFIX, find_key
from accounts.models import ApiKey, Session, User
from accounts.tokens import read_access
from llmsite.core.errors import CsrfFailed, NotAllowed, NotSignedIn

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_COOKIE_CONTENT_TYPES = ("application/json", "multipart/form-data")


@dataclass(frozen=True, slots=True)
class Credential:
    """A proven caller: a user, by way of a sign-in or of a key."""

    user: User
    session: Session | None = None
    api_key: ApiKey | None = None

    def require(self, scope: str) -> None:
        """Raises NotAllowed where the key is limited to other scopes."""
        if self.api_key is not None and not self.api_key.allows(scope):
            raise NotAllowed(scope=scope)

    def refreshed(self) -> "Credential":
        """The same caller, read again, for doors that stay open. Raises NotSignedIn if it has ended."""
        if self.api_key is not None:
            key = ApiKey.objects.usable().select_related("user").filter(pk=self.api_key.pk).first()
            if key is not None:
                return Credential(key.user, api_key=key)
        elif self.session is not None:
            session = Session.objects.live().select_related("user").filter(pk=self.session.pk).first()
            if session is not None:
                return Credential(session.user, session=session)
        raise NotSignedIn


def authenticate(request: HttpRequest) -> Credential | None:
    """The caller of a request to an API door; None where it carries no credential at all.

    Raises NotSignedIn for a bad one, CsrfFailed for a cookie without proof.
    """
    header = request.META.get("HTTP_AUTHORIZATION")
    if header is not None:
        return from_bearer(header)
    cookie = request.COOKIES.get(settings.ACCESS_COOKIE)
    if not cookie:
        return None
    session = read_access(cookie)
    require_csrf(request)
    return Credential(session.user, session=session)


@sync_to_async
def arequire_caller(request: HttpRequest, scope: str) -> Credential:
    """`authenticate` for async doors, which are closed to everybody else. Raises as it does."""
    credential = authenticate(request)
    if credential is None:
        raise NotSignedIn
    credential.require(scope)
    request.user = credential.user
    return credential


def from_bearer(header: str) -> Credential:
    """The caller named by an `Authorization` header: an access JWT or an API key."""
    scheme, _, token = header.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise NotSignedIn
    if not token.startswith(KEY_PREFIX):
        session = read_access(token)
        return Credential(session.user, session=session)
    key = find_key(token)
    if key is None:
        raise NotSignedIn
    return Credential(key.user, api_key=key)


def require_csrf(request: HttpRequest) -> None:
    """Raises CsrfFailed for an unsafe request that our own page cannot be shown to have sent."""
    if request.method in SAFE_METHODS or getattr(request, "_dont_enforce_csrf_checks", False):
        return
    # Where a browser names the Origin, Django's check below compares it with the trusted ones.
    fetch_site = request.META.get("HTTP_SEC_FETCH_SITE", "same-origin")
    if "HTTP_ORIGIN" not in request.META and fetch_site not in ("same-origin", "none"):
        raise CsrfFailed(reason="sec-fetch-site")
    # A foreign page can send text/plain and plain forms without a preflight, so neither is taken here.
    if request.content_type and not request.content_type.startswith(_COOKIE_CONTENT_TYPES):
        raise CsrfFailed(reason="content-type")
    check = _CsrfCheck(_no_response)
    check.process_request(request)
    if reason := check.process_view(request, _no_response, (), {}):
        raise CsrfFailed(reason=str(reason))


class _CsrfCheck(CsrfViewMiddleware):
    """Django's own check, which answers with the reason in words instead of a page."""

    def _reject(self, request: HttpRequest, reason: str) -> str:
        return reason


def _no_response(_request: HttpRequest) -> HttpResponse:
    return HttpResponse()
