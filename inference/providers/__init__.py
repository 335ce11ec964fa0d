"""The providers: where answers come from.

A new provider is one file here, one line in `BACKENDS`, and one line in the contract test
(inference/tests/providers/test_contract.py).
"""

from threading import Lock
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from inference.addresses import has_address, is_listed, network_of
from inference.providers.base import ChatProvider, Timeouts
from inference.providers.deadlines import Deadlines
from inference.providers.limits import Bounded
from llmsite.core.errors import InvalidInput, ProviderAddressRefused

BACKENDS = {
    "anthropic": "inference.providers.anthropic.AnthropicProvider",
    "echo": "inference.providers.echo.EchoProvider",
    "local": "inference.providers.local.LocalProvider",
    "openai": "inference.providers.openai.OpenAIProvider",
    "scripted": "inference.providers.scripted.ScriptedProvider",
}
KEYS = {"anthropic": "ANTHROPIC_API_KEY", "openai": "OPENAI_API_KEY"}
"""The setting without which a provider cannot be asked."""
ADDRESSES = {
    "anthropic": "ANTHROPIC_BASE_URL",
    "local": "LOCAL_BASE_URL",
    "openai": "OPENAI_BASE_URL",
}
"""The setting that puts another address in the place of a provider's own."""
ALIASES = {"claude": "anthropic", "huggingface": "local"}

_SETTINGS = frozenset(
    {
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_BASE_URL",
        "CONNECT_TIMEOUT",
        "FIRST_TOKEN_TIMEOUT",
        "IDLE_TIMEOUT",
        "LOCAL_BASE_URL",
        "MODEL_URL",
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "PROVIDER_BASE_URLS",
        "PROVIDER_CONCURRENCY",
        "PROVIDER_QUEUE",
        "TOTAL_TIMEOUT",
    }
)
_providers: dict[tuple[str, str], ChatProvider] = {}
_lock = Lock()


def provider_names() -> list[str]:
    """The names that `get_provider` knows, without aliases."""
    return sorted(BACKENDS)


def provider_name(name: str) -> str:
    """`name` with an alias resolved. Raises InvalidInput where there is no such provider."""
    name = ALIASES.get(name, name)
    if name not in BACKENDS:
        choices = ", ".join(provider_names())
        reason = _("There is no provider “%(name)s”. Choose one of: %(choices)s.")
        raise InvalidInput(field="provider", reason=reason % {"name": name, "choices": choices})
    return name


def is_configured(name: str) -> bool:
    """Whether the provider has the key it needs."""
    return name not in KEYS or bool(getattr(settings, KEYS[name]))


def address_of(name: str, base_url: str = "") -> str:
    """Where the provider is asked; empty stands for the vendor's own address, or our own model process."""
    return base_url or str(getattr(settings, ADDRESSES.get(name, ""), ""))


def get_provider(name: str, base_url: str = "") -> ChatProvider:
    """The provider called `name`, at its own address or at `base_url`, within the limits of the settings.

    One instance serves a whole process, from any thread and event loop. Raises InvalidInput for an
    unknown name, ProviderNotConfigured where a key is missing, and ProviderAddressRefused for an address that
    is not listed.
    """
    place = (provider_name(name), base_url)
    with _lock:
        if place not in _providers:
            _providers[place] = _build(*place)
        return _providers[place]


def _build(name: str, base_url: str) -> ChatProvider:
    if base_url and not (has_address(name) and is_listed(base_url, provider=name)):
        raise ProviderAddressRefused(provider=name, detail=f"{base_url} is not listed")
    elsewhere = {"base_url": base_url, "network": network_of(base_url)} if base_url else {}
    # Within the bounds: the time in our own queue is not the provider's.
    return Bounded(
        Deadlines(import_string(BACKENDS[name]).from_settings(**elsewhere), _timeouts()),
        running=settings.PROVIDER_CONCURRENCY,
        waiting=settings.PROVIDER_QUEUE,
        seconds=settings.FIRST_TOKEN_TIMEOUT,
    )


def ready_provider(name: str, base_url: str = "") -> ChatProvider | None:
    """The same where it has been asked for before; None where getting it may import a module."""
    return _providers.get((ALIASES.get(name, name), base_url))


def reset_providers() -> None:
    """Forget all instances, so that the next call builds them from the settings of then."""
    with _lock:
        _providers.clear()


def _timeouts() -> Timeouts:
    return Timeouts(
        connect=settings.CONNECT_TIMEOUT,
        first_token=settings.FIRST_TOKEN_TIMEOUT,
        idle=settings.IDLE_TIMEOUT,
        total=settings.TOTAL_TIMEOUT,
    )


def _on_setting_changed(*, setting: str, **kwargs: Any) -> None:
    if setting in _SETTINGS:
        reset_providers()


setting_changed.connect(_on_setting_changed, dispatch_uid="inference.providers.reset")
