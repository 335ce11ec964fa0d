import asyncio
from contextlib import asynccontextmanager, suppress

import pytest

from llmsite.core import http
from llmsite.core.outlet import EXTENSION, Outlet
from llmsite.testing.site import free_port


@asynccontextmanager
async def serving(*parts: bytes, then_wait: bool = False, pause: float = 0):
    """A server that answers each request with `parts`, whatever it asks."""
    writers: list[asyncio.StreamWriter] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause)
            if then_wait:
                await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        async with asyncio.timeout(10):  # A client that waits for ever is to fail its test.
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/path?x=1"
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()


async def body_of(url: str) -> tuple[int, bytes]:
    async with http.send("GET", url, connect_timeout=1) as response:
        status, body = response.status, b""
        while received := await response.read():
            body += received
        return status, body


async def test_a_body_of_known_length() -> None:
    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", then_wait=True) as url:
        assert await body_of(url) == (200, b"hello")


async def test_a_body_in_chunks() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with serving(head, b"3\r\nhel\r\n2\r", b"\nlo\r\n0\r\n\r\n", then_wait=True) as url:
        assert await body_of(url) == (200, b"hello")


async def test_a_body_until_the_connection_closes() -> None:
    async with serving(b"HTTP/1.0 404 Not Found\r\n\r\nhel", b"lo") as url:
        assert await body_of(url) == (404, b"hello")


async def test_an_early_hint_is_no_response() -> None:
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    async with serving(hint, response, then_wait=True, pause=0.02) as url:
        assert await body_of(url) == (200, b"ok")


async def test_headers_have_lower_case_names() -> None:
    async with (
        serving(b"HTTP/1.1 429 X\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n", then_wait=True) as url,
        http.send("GET", url, connect_timeout=1) as response,
    ):
        assert response.headers["retry-after"] == "2"


@pytest.mark.parametrize("garbage", [b"SSH-2.0-OpenSSH\r\n\r\n", b"\x16\x03\x01\r\n\r\n"])
async def test_what_is_no_http_is_refused(garbage: bytes) -> None:
    async with serving(garbage) as url:
        with pytest.raises(http.BadResponse):
            await body_of(url)


async def test_a_server_that_hangs_up() -> None:
    async with serving() as url:
        with pytest.raises(ConnectionError):
            await body_of(url)


async def test_a_body_over_the_limit_is_refused() -> None:
    async with (
        serving(b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 2_000_000) as url,
        http.send("GET", url, connect_timeout=1) as response,
    ):
        with pytest.raises(http.BadResponse):
            await response.read_json(limit=1000)


async def test_a_server_that_sends_faster_than_we_read_has_to_wait() -> None:
    async with (
        serving(b"HTTP/1.1 200 OK\r\nContent-Length: 8000000\r\n\r\n", *[b"x" * 100_000] * 80) as url,
        http.send("GET", url, connect_timeout=1) as response,
    ):
        largest = total = 0
        while received := await response.read():
            largest, total = max(largest, len(received)), total + len(received)
            await asyncio.sleep(0.001)
        assert total == 8_000_000
        assert largest <= 2 * http.HIGH_WATER


@pytest.mark.parametrize("value", ["a\r\nEvil: 1", "a\nb", "a\0b"])
async def test_a_header_is_one_line(value: str) -> None:
    closed_url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ValueError, match="one line"):
        async with http.send("GET", closed_url, headers={"X-Request-ID": value}, connect_timeout=1):
            pass


class Connection:
    """A server's connection that keeps what is written into it."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def takes_pieces(self) -> bool:
        return True

    def write_piece(self, piece: bytes) -> None:
        self.written.append(piece)


class TestPouring:
    """Nobody waits for the body: it is handed on in the turn of the loop in which it comes."""

    async def poured(self, url: str, *, most: int = 1000) -> list[bytes]:
        taken: list[bytes] = []

        def take(received: bytes) -> bool:
            taken.append(received)
            return len(taken) < most

        async with http.send("GET", url, connect_timeout=1) as response:
            await response.pour(take)
        return taken

    async def test_each_read_is_handed_on_as_it_comes(self) -> None:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        parts = [b"3\r\nhel\r\n", b"2\r\nlo\r\n1\r\n!\r\n", b"0\r\n\r\n"]
        async with serving(head, *parts, then_wait=True, pause=0.02) as url:
            assert await self.poured(url) == [b"hel", b"lo!"]

    async def test_what_came_with_the_head(self) -> None:
        async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", then_wait=True) as url:
            assert await self.poured(url) == [b"hello"]

    async def test_it_ends_where_nothing_more_is_wanted(self) -> None:
        parts = [b"a"] * 3
        async with serving(b"HTTP/1.1 200 OK\r\n\r\n", *parts, then_wait=True, pause=0.02) as url:
            assert await self.poured(url, most=2) == [b"a", b"a"]

    @pytest.mark.parametrize("early", [True, False], ids=["with the head", "later"])
    async def test_what_the_taker_raises_ends_it(self, *, early: bool) -> None:
        def take(received: bytes) -> bool:
            raise LookupError

        head = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
        parts = (head + b"a",) if early else (head, b"a")
        async with serving(*parts, then_wait=True, pause=0.02) as url:
            with pytest.raises(LookupError):
                async with http.send("GET", url, connect_timeout=1) as response:
                    await response.pour(take)

    async def test_what_is_no_http_any_more_is_told(self) -> None:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        async with serving(head, b"zz\r\n", then_wait=True, pause=0.02) as url:
            with pytest.raises(http.BadResponse):
                await self.poured(url)

    async def test_what_one_read_brings_is_one_write(self) -> None:
        outlet, connection = Outlet(), Connection()
        outlet.open({"extensions": {EXTENSION: {"connection": connection}}})

        def take(received: bytes) -> bool:
            return all(outlet.write(bytes([byte])) for byte in received)

        head = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"
        async with (
            serving(head, b"one", b"two", then_wait=True, pause=0.02) as url,
            http.send("GET", url, connect_timeout=1) as response,
        ):
            await response.pour(take)

        assert connection.written == [b"one", b"two"]
        assert outlet.write(b"alone")
        assert connection.written[-1] == b"alone"
