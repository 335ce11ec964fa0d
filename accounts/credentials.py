"""Who a request comes from: the one place where a bearer or a cookie becomes a user.

The order is fixed: an `Authorization` header counts alone, and one that is bad never falls back
to the cookie. A cookie may change something only together with a CSRF proof.
"""

import asyncio
import re
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from asgiref.sync import SyncToAsync, sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse, QueryDict
from django.middleware.csrf import CsrfViewMiddleware
from django.utils import timezone

from accounts.keys import KEY_PREFIX, find_key
from accounts.limits.buckets import Hit
from accounts.models import ApiKey, Session, User
from accounts.models.api_keys import PERMISSION_OF_SCOPE
from accounts.recent import recent_credentials
from accounts.tokens import read_access
from llmsite.core.dialects import is_vendor_path, takes_api_key_header
from llmsite.core.errors import CsrfFailed, NotAllowed, NotSignedIn
from llmsite.core.rates import Rate

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_SECRET_IN_ADDRESS = re.compile(r"(^|&)(api_?key|access_token|token)=|llm_[a-z0-9]{8}_", re.IGNORECASE)
_COOKIE_CONTENT_TYPES = ("application/json", "multipart/form-data")


@dataclass(frozen=True, slots=True)
class Credential:
    """A proven caller: a user, by way of a sign-in or of a key.

    It may be shared by requests that run at the same time, so its rows are only read.
    """

    user: User
    session: Session | None = None
    api_key: ApiKey | None = None
    expires_at: datetime | None = None
    """When the token or the key ends by itself."""

    def require(self, scope: str) -> None:
        """Raises NotAllowed where the key is limited to other scopes, or its owner may not do this."""
        if self.api_key is not None and not self.api_key.allows(scope):
            raise NotAllowed(scope=scope)
        permission = PERMISSION_OF_SCOPE.get(scope)  # type: ignore[call-overload]
        if permission is not None and not self.user.has_perm(permission):
            raise NotAllowed(scope=scope)

    def has_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now

    def hits(self) -> list[Hit]:
        """Where a request of this caller counts.

        A person's sign-ins count together, and so do all their keys: whoever holds a key cannot keep its
        owner from revoking it. A key with a limit of its own counts there as well.
        """
        rate = Rate.parse(self.user.rate_limit) if self.user.rate_limit else settings.RATE_LIMIT
        if self.api_key is None:
            return [Hit(f"user:{self.user.pk}", rate)]
        hits = [Hit(f"keys-of:{self.user.pk}", rate)]
        if self.api_key.rate_limit:
            hits.append(Hit(f"key:{self.api_key.pk}", Rate.parse(self.api_key.rate_limit)))
        return hits

    def refreshed(self) -> "Credential":
        """The same caller, read again, for doors that stay open. Raises NotSignedIn if it has ended."""
        if self.has_expired(timezone.now()):
            raise NotSignedIn
        if self.api_key is not None:
            key = ApiKey.objects.usable().select_related("user").filter(pk=self.api_key.pk).first()
            if key is not None:
                return Credential(key.user, api_key=key, expires_at=key.expires_at)
        elif self.session is not None:
            session = Session.objects.live().select_related("user").filter(pk=self.session.pk).first()
            if session is not None:
                return Credential(session.user, session=session, expires_at=self.expires_at)
        raise NotSignedIn


def holds_secret(query: str) -> bool:
    """Whether the query of an address names a key or a token: logs and histories keep addresses."""
    return bool(_SECRET_IN_ADDRESS.search(query))


def presented_token(header: str | None, cookies: Mapping[str, str]) -> str | None:
    """The token that came with a request; None where there is none. Raises NotSignedIn for nonsense."""
    if header is None:
        cookie = cookies.get(settings.ACCESS_COOKIE)
        # A browser is never given a key, so a key in a cookie was put there by somebody else.
        if cookie and cookie.startswith(KEY_PREFIX):
            raise NotSignedIn
        return cookie or None
    scheme, _, token = header.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise NotSignedIn
    return token


def token_of(request: HttpRequest) -> str | None:
    """The token that came with a request, by the rules of its address. Raises NotSignedIn for nonsense.

    Below `/v1/` there are programs only, and no cookie counts; Anthropic's send a key in a header of its own.
    """
    header = request.META.get("HTTP_AUTHORIZATION")
    if not is_vendor_path(request.path):
        return presented_token(header, request.COOKIES)
    if header is None and takes_api_key_header(request.path) and "HTTP_X_API_KEY" in request.META:
        header = f"Bearer {request.META['HTTP_X_API_KEY']}"
    return presented_token(header, {})


def prove(token: str) -> Credential:
    """The caller that an access JWT or an API key stands for; reads the database. Raises NotSignedIn."""
    if not token.startswith(KEY_PREFIX):
        session, expires_at = read_access(token)
        return Credential(session.user, session=session, expires_at=expires_at)
    key = find_key(token)
    if key is None:
        raise NotSignedIn
    return Credential(key.user, api_key=key, expires_at=key.expires_at)


async def prove_for_a_while(token: str, *, in_thread: type[SyncToAsync] = SyncToAsync) -> Credential:
    """`prove`, but a token that was proved a moment ago is believed, without a query.

    A door outside of Django's requests, which look after their connection to the database themselves,
    passes `database_sync_to_async`. Raises NotSignedIn.
    """
    known: Credential | None = recent_credentials.find(token)
    if known is not None:
        return known
    loop, generation = asyncio.get_running_loop(), recent_credentials.generation
    proof = _Proof(token, generation, loop)
    if (under_way := _proofs.get(proof)) is None:
        return await _prove_and_keep(proof, in_thread)
    # A busy program asks many times at once when its moment is over: one query is enough for all of them.
    await asyncio.wait([under_way])
    return recent_credentials.find(token) or await in_thread(prove)(token)


class _Proof(NamedTuple):
    """A check that is under way. What began before a revocation is nothing for those who ask after it."""

    token: str
    generation: int
    loop: asyncio.AbstractEventLoop


_proofs: dict[_Proof, asyncio.Future[None]] = {}


async def _prove_and_keep(proof: _Proof, in_thread: type[SyncToAsync]) -> Credential:
    ended = _proofs[proof] = proof.loop.create_future()
    try:
        credential = await in_thread(prove)(proof.token)
        left = credential.expires_at and (credential.expires_at - timezone.now()).total_seconds()
        recent_credentials.keep(proof.token, credential, generation=proof.generation, until=left)
        return credential
    finally:
        del _proofs[proof]
        ended.set_result(None)


def authenticate(request: HttpRequest) -> Credential | None:
    """The caller of a request to an API door; None where it carries no credential at all.

    Raises NotSignedIn for a bad one (the middleware has looked), CsrfFailed for a cookie without proof.
    """
    found: Credential | NotSignedIn | None = request.credential  # type: ignore[attr-defined]
    if isinstance(found, NotSignedIn):
        raise found
    if found is None:
        return None
    if "HTTP_AUTHORIZATION" not in request.META and not is_vendor_path(request.path):
        require_csrf(request)
    request.user = found.user
    return found


async def arequire_caller(request: HttpRequest, scope: str) -> Credential:
    """`authenticate` for async doors, which are closed to everybody else. Raises as it does."""
    credential = authenticate(request)
    if credential is None:
        raise NotSignedIn
    if scope in PERMISSION_OF_SCOPE:  # Permissions are in the database.
        await sync_to_async(credential.require)(scope)
    else:
        credential.require(scope)
    return credential


def require_csrf(request: HttpRequest) -> None:
    """Raises CsrfFailed for an unsafe request that our own page cannot be shown to have sent.

    And for any that a page of another origin has sent: for those a cookie does not even read.
    """
    check = _CsrfCheck(_no_response)
    if getattr(request, "_dont_enforce_csrf_checks", False):
        return
    if "HTTP_ORIGIN" in request.META and not check._origin_verified(request):  # type: ignore[attr-defined]
        raise CsrfFailed(reason="origin")
    if request.method in SAFE_METHODS:
        return
    # Where a browser names the Origin, Django's check below compares it with the trusted ones.
    fetch_site = request.META.get("HTTP_SEC_FETCH_SITE", "same-origin")
    if "HTTP_ORIGIN" not in request.META and fetch_site not in ("same-origin", "none"):
        raise CsrfFailed(reason="sec-fetch-site")
    # A foreign page can send text/plain and plain forms without a preflight, so neither is taken here.
    if request.content_type and not request.content_type.startswith(_COOKIE_CONTENT_TYPES):
        raise CsrfFailed(reason="content-type")
    check.process_request(request)
    if reason := check.process_view(_without_body(request), _no_response, (), {}):
        raise CsrfFailed(reason=str(reason))


def _without_body(request: HttpRequest) -> HttpRequest:
    """The request for a check that would read its form: the proof of an API door is a header."""
    bare = copy(request)
    bare._post = QueryDict()  # type: ignore[attr-defined]
    return bare


class _CsrfCheck(CsrfViewMiddleware):
    """Django's own check, which answers with the reason in words instead of a page."""

    def _reject(self, request: HttpRequest, reason: str) -> str:
        return reason


def _no_response(_request: HttpRequest) -> HttpResponse:
    return HttpResponse()
