"""Calls of every kind to real web processes, with the stand-in as both vendors: what a ledger has to bear.

Which kind a call is stands in its question, so that the stand-in knows how to answer whatever order the
calls come in, and a test finds the vendor's side of each.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, aclosing, suppress
from dataclasses import dataclass
from typing import Any

import httpx2
from websockets.asyncio.client import connect

from inference.tests.doors import END
from inference.tests.standin import Answer, Call, StandIn
from llmsite.testing.site import Site

PIECES = ("One", " two", " three", " four", " five")
ENDLESS = PIECES * 2000
AT_ONCE = 24
UNLIMITED = f"{10**9}/m"
MOST_SECONDS = 120
"""A call ends within seconds; a socket that is kept open would wait for ever."""


@dataclass(frozen=True, slots=True)
class Asking:
    """One question of one program, on its way to one web process."""

    client: httpx2.AsyncClient
    """It knows the process's address and has the program's key."""
    standin: StandIn
    body: dict[str, Any]

    def upstream(self) -> Call | None:
        """The vendor's side of it, once it is there."""
        return next((c for c in self.standin.calls if question_of(c.body) == self.body["prompt"]), None)

    async def until_upstream(self, *, pieces: int = 0) -> None:
        async with asyncio.timeout(30):
            while (call := self.upstream()) is None or call.billed[1] < pieces:  # noqa: ASYNC110 - another thread's
                await asyncio.sleep(0.01)


def question_of(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


# --- The ways to ask -----------------------------------------------------------------------------


async def whole(asking: Asking) -> None:
    await asking.client.post("/api/predict", json=asking.body)


async def read(asking: Asking) -> None:
    async with aclosing(_events(asking)) as events:
        async for _ in events:
            pass


async def twice(asking: Asking) -> None:
    """The second answer is that of the first, and costs nothing."""
    for _ in range(2):
        await whole(asking)


async def look_in(asking: Asking) -> None:
    """Read the first events and go; the answer goes on."""
    async with aclosing(_events(asking)) as events:
        await anext(events)


async def leave(asking: Asking) -> None:
    """Go away in the middle of a plain call, which nobody could come back to."""
    waiting = asyncio.ensure_future(whole(asking))
    await asking.until_upstream(pieces=3)
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting


async def stop(asking: Asking) -> None:
    async with aclosing(_events(asking)) as events:
        async for event in events:
            if event["type"] == "delta":
                await asking.client.post(f"/api/generations/{event['id']}/stop", json={})


async def stop_early(asking: Asking) -> None:
    """Stop what the vendor has not begun to answer."""
    body = dict(asking.body)
    conversation = (await asking.client.post("/api/conversations", json={})).json()["id"]
    asked = await asking.client.post(f"/api/conversations/{conversation}/messages", json=body)
    await asking.until_upstream()
    generation = asked.json()["message"]["generation"]["id"]
    await asking.client.post(f"/api/generations/{generation}/stop", json={})


async def by_socket(asking: Asking) -> None:
    async with _socket(asking) as socket:
        await socket.send(json.dumps({"type": "ask", **asking.body}))
        async for text in socket:
            if json.loads(text)["type"] in END:
                return


async def stop_by_socket(asking: Asking) -> None:
    async with _socket(asking) as socket:
        await socket.send(json.dumps({"type": "ask", **asking.body}))
        async for text in socket:
            event = json.loads(text)
            if event["type"] in END:
                return
            if event["type"] == "delta" and event["seq"] == 3:
                await socket.send(json.dumps({"type": "stop", "id": event["id"]}))


async def _events(asking: Asking) -> AsyncIterator[dict[str, Any]]:
    async with asking.client.stream("POST", "/api/predict/stream", json=asking.body) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                yield json.loads(line[6:])


def _socket(asking: Asking) -> Any:
    url = str(asking.client.base_url).replace("http://", "ws://").rstrip("/")
    headers = {"Authorization": asking.client.headers["Authorization"]}
    return connect(f"{url}/ws/chat/", additional_headers=headers, proxy=None)


# --- The kinds -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kind:
    """How a call goes on both sides, and whether the vendor told what it took."""

    ask: Callable[[Asking], Awaitable[None]]
    answer: Answer
    is_reported: bool


_SLOW = Answer(pieces=ENDLESS, gap=0.03)
_OVERLOADED = {"type": "overloaded_error", "message": "Overloaded"}

KINDS = {
    "whole": Kind(whole, Answer(pieces=PIECES), True),
    "read": Kind(read, Answer(pieces=PIECES), True),
    "cached": Kind(twice, Answer(pieces=PIECES), True),
    "socket": Kind(by_socket, Answer(pieces=PIECES), True),
    "looked-in": Kind(look_in, Answer(pieces=PIECES, gap=0.01), True),
    "refused": Kind(whole, Answer(status=400), True),
    "limited": Kind(read, Answer(status=429), True),
    "failing": Kind(by_socket, Answer(status=500), True),
    "overloaded": Kind(whole, Answer(status=529), True),
    "uncounted": Kind(whole, Answer(pieces=PIECES, reports_usage=False), False),
    "cut": Kind(read, Answer(pieces=PIECES, end="fin"), False),
    "reset": Kind(by_socket, Answer(pieces=PIECES, end="rst"), False),
    "unfinished": Kind(whole, Answer(pieces=PIECES, end="no_end_mark"), False),
    "broken": Kind(read, Answer(pieces=PIECES, error=_OVERLOADED), False),
    "mute": Kind(read, Answer(pieces=(), end="fin"), False),
    "stopped": Kind(stop, _SLOW, False),
    "stopped-by-socket": Kind(stop_by_socket, _SLOW, False),
    "stopped-early": Kind(stop_early, Answer(head_start=60), False),
    "left": Kind(leave, _SLOW, False),
}


VENDORS = ("gpt", "claude")


def model_of(vendor: str, kind: str) -> str:
    """Each kind has a model of its own: the failures of one pause no other."""
    return f"{vendor}-{kind}"


def kind_of(question: str) -> Kind:
    return KINDS[question.split(" ", 1)[0]]


def choose(body: dict[str, Any]) -> Answer:
    """The stand-in's answer to a question that names its kind."""
    return kind_of(question_of(body)).answer


def sites(stack: ExitStack, standin: StandIn, count: int, **settings: str) -> list[Site]:
    """Real web processes whose vendors are the stand-in, and that limit nothing but budgets."""
    environment = {
        "OPENAI_API_KEY": "sk-test",
        "OPENAI_BASE_URL": f"{standin.url}/v1",
        "ANTHROPIC_API_KEY": "sk-test",
        "ANTHROPIC_BASE_URL": standin.url,
        "RATE_LIMIT": UNLIMITED,
        "RATE_LIMIT_ADDRESS": UNLIMITED,
        "LOG_LEVEL": "error",
        **settings,
    }
    return [stack.enter_context(Site(**environment)) for _ in range(count)]


def client_of(site: Site, headers: dict[str, str]) -> httpx2.AsyncClient:
    # A connection for each request: the site closes an idle one, perhaps just as the next goes out on it.
    limits = httpx2.Limits(max_keepalive_connections=0)
    return httpx2.AsyncClient(base_url=site.url, headers=headers, timeout=60, trust_env=False, limits=limits)


async def ask_all(count: int, *, clients: list[httpx2.AsyncClient], standin: StandIn) -> None:
    """Ask `count` questions, each kind of both vendors in turn, spread over `clients`."""
    standin.choose = choose
    gate = asyncio.Semaphore(AT_ONCE)
    names = list(KINDS)

    async def one(number: int) -> None:
        kind = names[number % len(names)]
        vendor = VENDORS[number // len(names) % len(VENDORS)]
        body = {
            "prompt": f"{kind} {number} of many questions",
            "model": model_of(vendor, kind),
            "max_tokens": 100,
        }
        async with gate:
            try:
                async with asyncio.timeout(MOST_SECONDS):
                    await KINDS[kind].ask(Asking(clients[number % len(clients)], standin, body))
            except TimeoutError as error:
                raise AssertionError(f"{vendor}, {kind}: nobody told its end") from error

    await asyncio.gather(*map(one, range(count)))
