"""Where a request comes from, as limits count it and as the audit log may keep it.

The address is that of the peer. Behind a proxy named in TRUSTED_PROXIES, uvicorn has put the client's address
in its place before Django sees it: the right-most of X-Forwarded-For that is no trusted proxy.
"""

from contextvars import ContextVar
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

UNKNOWN = "unknown"
"""Stands for every peer that has no address: they share one bucket."""

CACHED = 10_000
LONGEST = 64
"""Characters; no address is longer, and the cache shall not be filled with long nonsense."""


def client_address(remote_addr: str) -> str:
    """The peer as limits count it: an IPv4 address, or the /64 of an IPv6 one, which is one line's share."""
    return _counted_as(remote_addr[:LONGEST])


@lru_cache(CACHED)
def _counted_as(remote_addr: str) -> str:
    address = _parse(remote_addr)
    if address is None:
        return UNKNOWN
    return str(address) if address.version == 4 else _network(address, 64)


current_network: ContextVar[str] = ContextVar("network", default="")
"""The network that the running code's request came from; empty outside of one."""


@lru_cache(CACHED)
def network_of(address: str) -> str:
    """The part of an address that names nobody: its /24, or its /48 of IPv6. A `client_address` will do."""
    parsed = _parse(address.partition("/")[0])
    if parsed is None:
        return UNKNOWN
    return _network(parsed, 24 if parsed.version == 4 else 48)


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.strip())
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def _network(address: IPv4Address | IPv6Address, bits: int) -> str:
    return str(ip_network((int(address) if address.version == 4 else address.packed, bits), strict=False))
