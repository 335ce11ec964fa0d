"""Which addresses of the network a call may go to, and a name's addresses of that kind.

Two kinds of network are told apart: the world (public addresses alone) and our own (private ones and this
machine). Some addresses belong to neither, above all those where clouds hand out credentials.
"""

import asyncio
import re
import socket
from collections.abc import Sequence
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

PORTS = {"http": 80, "https": 443}

Address = IPv4Address | IPv6Address


class Network(Enum):
    """Where an address may lie."""

    WORLD = "world"
    OWN = "own"


class ForbiddenAddress(OSError):
    """The name leads, by one of its addresses at least, to where no call may go."""


# The services that tell a machine its own secrets, where they are not link-local.
_METADATA = frozenset(
    ip_address(address) for address in ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254")
)
_OWN = tuple(
    ip_network(network)
    for network in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "127.0.0.0/8",
        "100.64.0.0/10",
        "fc00::/7",
        "::1/128",
    )
)
_NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
_V4_COMPATIBLE = IPv6Network("::/96")
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)

_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*")


def is_allowed(address: Address, network: Network) -> bool:
    """Whether a call to `network` may go to `address`."""
    inner = _embedded(address)
    if inner is not None:
        # Public addresses are reached like this from networks of IPv6 alone; our own network never is.
        return network is Network.WORLD and isinstance(address, IPv6Address) and is_allowed(inner, network)
    if address in _METADATA or address.is_multicast or address.is_link_local or address.is_unspecified:
        return False
    if isinstance(address, IPv6Address) and address.is_site_local:
        return False
    if network is Network.OWN:
        return any(address in own for own in _OWN if own.version == address.version)
    return address.is_global and not address.is_reserved


def _embedded(address: Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for, by any of the ways to write one in it."""
    if isinstance(address, IPv4Address) or address in (IPv6Address("::"), IPv6Address("::1")):
        return None
    last = IPv4Address(int(address) & 0xFFFF_FFFF)
    if address in _V4_COMPATIBLE or any(address in network for network in _NAT64):
        return last
    if int(address) >> 32 & 0xFFFF_FFFF in _ISATAP:
        return last
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)


def is_plain_host(host: str) -> bool:
    """Whether `host` is a name or an address in its one usual form.

    The system's resolver also takes 2130706433, 0x7f.1 and 0177.0.0.1 for 127.0.0.1, and other code reads
    them in other ways: such a host is refused.
    """
    try:
        return "%" not in host and str(ip_address(host)) == host
    except ValueError:
        return bool(_NAME.fullmatch(host)) and not _NUMBER.fullmatch(host.rpartition(".")[2])


def plain_url(url: str) -> str:
    """The one form of a base URL: scheme, host, port unless it is the usual one, and path.

    Raises ValueError for what has anything else in it, or is to be read in more than one way.
    """
    if not url.isascii() or not url.isprintable() or set(url) & set(" \\?#@%"):
        raise ValueError("characters that have no place in a base URL")
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme not in PORTS or not is_plain_host(host) or parts.port == 0 or parts.netloc.endswith(":"):
        raise ValueError("no address")
    if {".", ".."} & set(parts.path.split("/")) or "//" in parts.path:
        raise ValueError("a path with steps in it")
    host = f"[{host}]" if ":" in host else host
    port = "" if parts.port in (None, PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"


def addresses_of(host: str, port: int, network: Network) -> list[str]:
    """The addresses of `host`, all of them in `network`. Raises ForbiddenAddress, or OSError for no name."""
    if not is_plain_host(host):
        raise ForbiddenAddress(f"{host} is no usual form of a host")
    return _checked(host, socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), network)


async def resolve(host: str, port: int, network: Network) -> list[str]:
    """The same without holding up the event loop."""
    if not is_plain_host(host):
        raise ForbiddenAddress(f"{host} is no usual form of a host")
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return _checked(host, found, network)


def _checked(host: str, found: Sequence[tuple[int, int, int, str, tuple]], network: Network) -> list[str]:
    """One forbidden address among several is enough to refuse: somebody put it there."""
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        if not is_allowed(ip_address(address.partition("%")[0]), network):
            raise ForbiddenAddress(f"{host} leads to {address}, where no call may go")
    return addresses
