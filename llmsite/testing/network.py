"""A pytest plugin: no test reaches beyond this machine.

Python reports every connection and every name look-up to its audit hooks, whichever library makes it,
so one hook sees them all. The test fails even where the library under test swallows the refusal.
"""

import ipaddress
import sys
from collections.abc import Iterator
from typing import Any

import pytest

_attempts: list[str] = []
_closed = False


class NetworkBlocked(ConnectionError):
    """A test tried to leave this machine."""


def _connected(arguments: tuple[Any, ...]) -> object:
    """The host of a connection or a datagram; a Unix socket has none."""
    return arguments[1][0] if isinstance(arguments[1], tuple) else None


def _looked_up(arguments: tuple[Any, ...]) -> object:
    """The name that is looked up; an address written in numbers asks nobody."""
    try:
        ipaddress.ip_address(arguments[0])
    except ValueError:
        return arguments[0]
    return None


_READERS = {
    "socket.connect": _connected,
    "socket.sendto": _connected,
    "socket.getaddrinfo": _looked_up,
    "socket.gethostbyname": _looked_up,
}


def is_local(host: object) -> bool:
    """Whether `host` (a name, an address, or None for the wildcard) is this machine."""
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host in (None, "", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(str(host).partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _refuse_remote(event: str, arguments: tuple[Any, ...]) -> None:
    if not _closed or event not in _READERS:
        return
    target = _READERS[event](arguments)
    if is_local(target):
        return
    _attempts.append(f"{event} {target!r}")
    raise NetworkBlocked(f"tests do not leave this machine, but this one asked for {target!r}")


def pytest_configure() -> None:
    global _closed
    if not _closed:
        sys.addaudithook(_refuse_remote)
    _closed = True


def pytest_unconfigure() -> None:
    global _closed
    _closed = False  # An audit hook cannot be taken out again, only put to sleep.


@pytest.fixture
def network_attempts() -> list[str]:
    """What the test asked of other machines so far; emptied by a test that expects attempts."""
    return _attempts


@pytest.fixture(autouse=True)
def _stay_on_this_machine() -> Iterator[None]:
    _attempts.clear()
    yield
    if _attempts:
        pytest.fail(f"the test tried to leave this machine: {', '.join(_attempts)}")
