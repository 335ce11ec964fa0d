"""The tests' own net: nothing leaves this machine."""

import asyncio
import socket

import pytest

from llmsite.testing.network import NetworkBlocked, is_local


def test_a_connection_to_another_machine_is_refused_and_noted(network_attempts):
    with socket.socket() as client, pytest.raises(NetworkBlocked):
        client.connect(("192.0.2.1", 80))
    assert network_attempts == ["socket.connect '192.0.2.1'"]
    network_attempts.clear()


async def test_so_are_those_of_asyncio_and_the_look_up_of_names(network_attempts):
    with pytest.raises(NetworkBlocked):
        await asyncio.open_connection("www.example.org", 80)
    assert network_attempts == ["socket.getaddrinfo 'www.example.org'"]
    network_attempts.clear()


def test_this_machine_can_be_reached():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.8.8", "::1", "::1%lo", "localhost", b"localhost", "0.0.0.0", None]
)
def test_names_of_this_machine(host):
    assert is_local(host)


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "169.254.169.254", "::ffff:8.8.8.8", "example.org", "localhost.example.org"]
)
def test_names_of_others(host):
    assert not is_local(host)
