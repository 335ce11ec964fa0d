"""At the gate: how many requests an address and a caller may send, and who the caller is.

Every request passes here, whichever door it goes to. It is native in async, and where the caller was
seen a moment ago it costs no thread and no query (`accounts.recent`).
"""

from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils import translation
from django.utils.translation import gettext_lazy as _

from accounts.cookies import clear_cookies, set_cookies
from accounts.credentials import Credential, holds_secret, presented_token, prove, prove_for_a_while, token_of
from accounts.limits.addresses import client_address, current_network, network_of
from accounts.limits.buckets import Hit
from accounts.limits.rate_limits import Tally
from accounts.models import User
from accounts.recent import recent_credentials
from accounts.tokens import TokenPair, rotate
from llmsite.core.cors import is_preflight
from llmsite.core.error_pages import render_error
from llmsite.core.errors import InvalidInput, MethodNotAllowed, NotSignedIn, SiteError
from llmsite.core.paths import is_api_path

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""All that any address takes; some of the admin's look at no method, and would take TRACE too."""

UNCOUNTED = frozenset({"/health/live", "/health/ready", "/metrics"})
"""Who watches the site must not be refused because others ask too much."""


class GateMiddleware:
    """Counts the request, finds its caller, and tells both on: `request.credential`, `X-RateLimit-*`.

    `request.credential` is a Credential, None, or the NotSignedIn that a bad token earned; API doors take
    it from `accounts.credentials.authenticate`, which asks a cookie for its CSRF proof. Pages find their
    user in `request.user`; an expired access cookie is renewed on the way.
    """

    sync_capable = False
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]]) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        _enter_as(request, None)
        request.session = _NoSession()  # type: ignore[assignment]
        if request.path in UNCOUNTED:
            return await self.get_response(request)
        network = current_network.set(network_of(request.META.get("REMOTE_ADDR", "")))
        try:
            return await self._let_through(request)
        finally:
            current_network.reset(network)

    async def _let_through(self, request: HttpRequest) -> HttpResponseBase:
        visit = _visit_of(request)
        try:
            if request.method not in METHODS:
                await visit.tally.count(visit.by_address)
                raise MethodNotAllowed(method=request.method, allowed=METHODS)
            await visit.admit()
        except SiteError as refusal:
            response: HttpResponseBase = await sync_to_async(_refuse)(request, refusal)
        else:
            response = await visit.answer(self.get_response)
            if response.status_code == 500 and await visit.caller_is_gone():
                response = await sync_to_async(_refuse)(request, NotSignedIn())
        return visit.leave(response)


class _Visit:
    """One request on its way through the gate."""

    def __init__(self, request: HttpRequest) -> None:
        self.request = request
        self.tally = Tally()
        address = client_address(request.META.get("REMOTE_ADDR", ""))
        self.by_address = Hit(f"address:{address}", settings.RATE_LIMIT_ADDRESS)

    async def admit(self) -> None:
        """Raises RateLimited."""
        raise NotImplementedError

    async def answer(
        self, get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]]
    ) -> HttpResponseBase:
        return await get_response(self.request)

    async def caller_is_gone(self) -> bool:
        """Whether a failure comes from this: who was believed is erased, and so are the rows of theirs."""
        return False

    def leave(self, response: HttpResponseBase) -> HttpResponseBase:
        for name, value in self.tally.headers().items():
            response[name] = value
        return response


def _visit_of(request: HttpRequest) -> _Visit:
    if is_preflight(request):
        return _Preflight(request)
    return _ApiVisit(request) if is_api_path(request.path) else _PageVisit(request)


class _Preflight(_Visit):
    """A browser's question before a request of a page elsewhere; `llmsite.core.cors` says what it may."""

    async def admit(self) -> None:
        await self.tally.count(self.by_address)

    async def answer(self, get_response: object) -> HttpResponseBase:
        return HttpResponse(status=204)


class _ApiVisit(_Visit):
    """To a door of programs, or of a page's script."""

    async def admit(self) -> None:
        if holds_secret(self.request.META.get("QUERY_STRING", "")):
            await self.tally.count(self.by_address)
            # What stands in an address is kept in logs and histories.
            raise InvalidInput(
                reason=_("Send a key or a token in the Authorization header, not in the address.")
            )
        try:
            token = token_of(self.request)
            self.request.credential = await self._count_caller(token)  # type: ignore[attr-defined]
        except NotSignedIn as error:
            self.request.credential = error  # type: ignore[attr-defined]
            if self.tally.verdict is None:
                await self.tally.count(self.by_address)

    async def caller_is_gone(self) -> bool:
        credential = self.request.credential  # type: ignore[attr-defined]
        if not isinstance(credential, Credential):
            return False
        try:
            await sync_to_async(credential.refreshed)()
        except NotSignedIn:
            recent_credentials.forget()
            return True
        return False

    async def _count_caller(self, token: str | None) -> Credential | None:
        known: Credential | None = recent_credentials.find(token) if token else None
        if known:
            # One question for all buckets, so a request is counted in all of them or in none.
            await self.tally.count(self.by_address, *known.hits())
            return known
        await self.tally.count(self.by_address)
        if token is None:
            return None
        credential = await prove_for_a_while(token)
        await self.tally.count(*credential.hits())
        return credential


class _PageVisit(_Visit):
    """To a page. Its sign-in is always read from the database: what a page shows must not lag behind."""

    renewed: TokenPair | None = None
    ended = False

    async def admit(self) -> None:
        await self.tally.count(self.by_address)
        # A header that names somebody is never overruled by a cookie that names somebody else.
        if not self.request.COOKIES.get(settings.ACCESS_COOKIE) or "HTTP_AUTHORIZATION" in self.request.META:
            return
        credential = await sync_to_async(self._read)()
        if credential is not None:
            _enter_as(self.request, credential)
            await self.tally.count(*credential.hits())

    def _read(self) -> Credential | None:
        try:
            return prove(presented_token(None, self.request.COOKIES) or "")
        except NotSignedIn:
            return self._renew(self.request.COOKIES.get(settings.REFRESH_COOKIE))

    def _renew(self, refresh: str | None) -> Credential | None:
        if not refresh:
            return None
        try:
            self.renewed = rotate(refresh)
        except NotSignedIn:
            self.ended = True
            return None
        return prove(self.renewed.access)

    def leave(self, response: HttpResponseBase) -> HttpResponseBase:
        super().leave(response)
        # A view that signed somebody in or out has set the cookies already.
        if settings.ACCESS_COOKIE in response.cookies:
            return response
        if self.renewed is not None:
            return set_cookies(response, self.renewed)
        return clear_cookies(response) if self.ended else response


def _enter_as(request: HttpRequest, credential: Credential | None) -> None:
    request.credential = credential  # type: ignore[attr-defined]
    user: User | AnonymousUser = AnonymousUser() if credential is None else credential.user

    async def auser() -> User | AnonymousUser:
        return user

    request.user = user
    request.auser = auser


def _refuse(request: HttpRequest, refusal: SiteError) -> HttpResponse:
    # The middleware that chooses the language comes behind this one.
    with translation.override(translation.get_language_from_request(request)):
        return render_error(request, refusal)


class _NoSession(dict[str, object]):
    """What Django's own views find where they expect a session: nothing is kept in it.

    The admin, for one, renews the session after a password was changed. Our sign-ins know no more
    of it than that they have ended (`User.save`).
    """

    def cycle_key(self) -> None: ...

    def flush(self) -> None:
        self.clear()
