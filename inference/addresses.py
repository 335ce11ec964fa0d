"""Which base URLs the row of a model may name: those the operator lists, and nothing that looks like them.

`PROVIDER_BASE_URLS` is the list. An `https` address has to lie in the world, an `http` one in our own
network; that is checked when a row is saved, and again for every connection, because a name may lead
elsewhere later.
"""

from urllib.parse import urlsplit

from django.conf import settings
from django.utils.translation import gettext as _

from llmsite.core.destinations import PORTS, ForbiddenAddress, Network, addresses_of, plain_url
from llmsite.core.errors import InvalidInput

_OWN = {
    "anthropic": "ANTHROPIC_BASE_URL",
    "local": "LOCAL_BASE_URL",
    "openai": "OPENAI_BASE_URL",
}
"""The providers that are reached over the network, and the setting of their own address."""


def is_listed(url: str, *, provider: str = "") -> bool:
    """Whether the operator allows `url`: it is in the list, or the address of this very provider.

    Another provider's does not do, because the key goes along.
    """
    own = getattr(settings, _OWN.get(provider, ""), "")
    listed = {_plain_or_none(one) for one in (*settings.PROVIDER_BASE_URLS, own)} - {None}
    return _plain_or_none(url) in listed


def has_address(provider: str) -> bool:
    """Whether the provider is reached over the network, so that a base URL means something."""
    return provider in _OWN


def network_of(url: str) -> Network:
    """Where the server of a listed URL has to be: in clear text only within our own network."""
    return Network.WORLD if url.lower().startswith("https:") else Network.OWN


def vet(url: str, *, provider: str = "") -> str:
    """The form in which the row keeps `url`. Raises InvalidInput (base_url) where it may not be asked."""
    try:
        plain = plain_url(url)
    except ValueError:
        raise _refusal(_("Write a full address such as https://llm.example.org/v1, and no more.")) from None
    if not is_listed(plain, provider=provider):
        raise _refusal(_("The operator has not listed this address in PROVIDER_BASE_URLS."))
    parts = urlsplit(plain)
    try:
        addresses_of(parts.hostname or "", parts.port or PORTS[parts.scheme], network_of(plain))
    except ForbiddenAddress:
        reason = _("https leads to public addresses and http to our own network; this one leads elsewhere.")
        raise _refusal(reason) from None
    except OSError:
        raise _refusal(_("Nothing in the network has this name.")) from None
    return plain


def _plain_or_none(url: str) -> str | None:
    try:
        return plain_url(url)
    except ValueError:
        return None


def _refusal(reason: str) -> InvalidInput:
    return InvalidInput(field="base_url", reason=reason)
