"""What the vendors' official SDKs have in common. Both are made by one generator, and are alike."""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from inference.providers.base import ChatProvider
from inference.providers.clients import LoopClients
from inference.providers.failures import Failures
from llmsite.core.destinations import ForbiddenAddress, Network
from llmsite.core.errors import (
    ProviderAddressRefused,
    ProviderNotConfigured,
    ProviderTimeout,
    ProviderUnavailable,
    SiteError,
)

if TYPE_CHECKING:
    import ssl

    import httpx2


class Reader(Protocol):
    """What has been read of an answer."""

    @property
    def started(self) -> bool: ...


class SDKProvider(ChatProvider):
    """A provider reached through its SDK, which is imported with the first call, not with this file."""

    key_setting: ClassVar[str]

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str = "",
        connect_timeout: float = 3.0,
        network: Network | None = None,
    ) -> None:
        # A key with any other character cannot be sent, and the attempt would name it in an exception.
        if not (api_key.isascii() and api_key.isprintable() and api_key.strip()):
            raise ProviderNotConfigured(provider=self.name, setting=self.key_setting)
        self._api_key = api_key
        self._base_url = base_url
        self._connect_timeout = connect_timeout
        self._network = network
        self._failures = Failures(self.name, secrets=(api_key,))
        self._clients: LoopClients[Any] = LoopClients(self._build_client)

    @abstractmethod
    def _build_client(self) -> Any:
        """A new client of the SDK. Runs in a thread, because it imports the SDK."""

    async def aclose(self) -> None:
        await self._clients.close()

    def _client_options(self, sdk: ModuleType) -> dict[str, Any]:
        """The arguments of the SDK's client: no retries and no deadline but connecting, both are ours."""
        import httpx2

        timeout = httpx2.Timeout(None, connect=self._connect_timeout)
        return {
            "api_key": self._api_key,
            "base_url": self._base_url or None,
            "max_retries": 0,
            "timeout": timeout,
            # A vendor never redirects; what does would get the prompt and the key.
            "http_client": sdk.DefaultAsyncHttpxClient(
                follow_redirects=False, timeout=timeout, verify=_tls(), transport=self._transport()
            ),
        }

    def _transport(self) -> "httpx2.AsyncHTTPTransport | None":
        """One that stays in the network of a vetted address; None is the client's own."""
        if self._network is None:
            return None
        from inference.providers.vetted import vetted_transport

        return vetted_transport(self._network, _tls())

    @contextmanager
    def _translated(self, sdk: ModuleType, reader: Reader) -> Iterator[None]:
        """Turn what the SDK and its HTTP client raise into errors of ours.

        Without `from None` a traceback in a log would show the SDK's error, which repeats what the
        provider said, keys included.
        """
        try:
            yield
        except (sdk.APIError, ForbiddenAddress) as error:
            for cause in (error, error.__cause__):  # One SDK wraps what its HTTP client does not know.
                if isinstance(cause, ForbiddenAddress):
                    raise ProviderAddressRefused(provider=self.name, detail=str(cause)) from None
            raise self._from_api_error(sdk, error, reader) from None
        except Exception as error:
            if isinstance(error, SiteError):
                raise
            # The HTTP client's own error in mid-stream, or events that are not of the vendor's shape.
            what = "the stream broke, or was of another shape"
            raise self._failures.broken(what, started=reader.started, error=error) from None

    def _from_api_error(self, sdk: ModuleType, error: Any, reader: Reader) -> SiteError:
        if isinstance(error, sdk.APITimeoutError):
            return ProviderTimeout(provider=self.name, phase="connect")
        if isinstance(error, sdk.APIConnectionError):
            return ProviderUnavailable(provider=self.name, phase="connect", detail=self._why_away(error))
        body = error.body if error.body is not None else error.message
        if isinstance(error, sdk.APIStatusError) and error.status_code != 200:
            return self._failures.from_status(error.status_code, body, error.response.headers)
        return self._failures.from_event(body)

    def _why_away(self, error: Any) -> str:
        """Without a connection nobody has said anything but this machine: that may be told."""
        import httpx2

        cause = error.__cause__ or error
        if isinstance(cause, httpx2.ConnectError):
            return self._failures.detail(str(cause))
        return self._failures.kind_of(cause)


@lru_cache(maxsize=1)
def _tls() -> "ssl.SSLContext":
    """Reading the system's certificates takes 30 ms; every client of the process shares them."""
    import httpx2

    return httpx2.create_ssl_context()
