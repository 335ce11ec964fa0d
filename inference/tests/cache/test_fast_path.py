"""What an answer from memory costs, in things that can be counted: no thread, no query, no connection."""

import asyncio
import json
import threading

import pytest
from asgiref.sync import SyncToAsync, sync_to_async
from django.db import connections
from django.db.backends.utils import CursorWrapper

from conftest import bearer
from inference.hit_writer import hit_writer
from inference.models import Generation, VerifiedAnswer
from inference.providers import scripted
from inference.providers.base import ChatMessage
from inference.verified import digest_of
from llmsite.asgi import application

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("settled", "models")]

CAPITAL = "What is the capital of France?"
QUESTIONS = {
    "/api/predict": {"prompt": CAPITAL, "model": "scripted"},
    "/v1/chat/completions": {"model": "scripted", "messages": [{"role": "user", "content": CAPITAL}]},
}


class Counts:
    def __init__(self):
        self.hops = self.threads = self.queries = 0

    def as_tuple(self):
        return self.hops, self.threads, self.queries


@pytest.fixture
def counts(monkeypatch):
    """Counts what this process does from now on."""
    counts = Counts()

    def counted(target, name, attribute):
        original = getattr(target, name)

        def call(*args, **kwargs):
            setattr(counts, attribute, getattr(counts, attribute) + 1)
            return original(*args, **kwargs)

        monkeypatch.setattr(target, name, call)

    counted(SyncToAsync, "__call__", "hops")
    counted(threading.Thread, "start", "threads")
    counted(CursorWrapper, "execute", "queries")
    counted(CursorWrapper, "executemany", "queries")
    return counts


async def ask(path, headers):
    """One request to the site's own ASGI application, as its server would hand it over."""
    body = json.dumps(QUESTIONS[path]).encode()
    sent, messages = [], [{"type": "http.request", "body": body, "more_body": False}]
    never = asyncio.get_running_loop().create_future()

    async def receive():
        return messages.pop() if messages else await never

    async def send(message):
        sent.append(message)

    given = {**headers, "Host": "127.0.0.1", "Content-Type": "application/json"}
    given["Content-Length"] = str(len(body))
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    await application(scope, receive, send)
    head = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], head, json.loads(b"".join(message.get("body", b"") for message in sent[1:]))


@pytest.fixture
def headers(alice):
    return bearer(alice)


@pytest.fixture
def verified_elsewhere(alice, bob):
    """Answers that curators have verified: to other questions, and to this one for somebody else."""
    for user, words in ((None, "What is the capital of Spain?"), (bob, CAPITAL)):
        digest = digest_of([ChatMessage("user", words)])
        VerifiedAnswer.objects.create(digest=digest, question=words, answer="Verified.", user=user)


@pytest.mark.usefixtures("verified_elsewhere")
@pytest.mark.parametrize("path", QUESTIONS)
async def test_a_hit_takes_no_thread_and_no_query(path, headers, counts, monkeypatch):
    # The rows are written behind the answers, and the catalogue is read beside them: not within this test.
    monkeypatch.setattr("inference.hit_writer.FLUSH_SECONDS", 2)
    await ask(path, headers)
    assert (await ask(path, headers))[1]["x-llmsite-cache"] == "hit-l1"
    monkeypatch.setattr("inference.catalogue.REFRESH_SECONDS", 1000)
    monkeypatch.setattr("inference.catalogue.MOST_SECONDS", 1000)
    counts.__init__()

    answers = [await ask(path, headers) for _ in range(10)]

    assert counts.as_tuple() == (0, 0, 0)
    for status, head, _ in answers:
        assert status == 200
        assert head["x-llmsite-cache"] == "hit-l1"
    assert len(scripted.calls) == 1


async def test_a_verified_answer_takes_one_query(alice, headers, counts, monkeypatch):
    monkeypatch.setattr("inference.hit_writer.FLUSH_SECONDS", 2)
    digest = digest_of([ChatMessage("user", CAPITAL)])
    await VerifiedAnswer.objects.acreate(digest=digest, question=CAPITAL, answer="Paris.", user=alice)
    assert (await ask("/api/predict", headers))[1]["x-llmsite-cache"] == "hit-verified"
    monkeypatch.setattr("inference.catalogue.REFRESH_SECONDS", 1000)
    monkeypatch.setattr("inference.catalogue.MOST_SECONDS", 1000)
    counts.__init__()

    for _ in range(10):
        await ask("/api/predict", headers)

    assert counts.queries == 10
    assert not scripted.calls


async def test_it_has_passed_every_check_all_the_same(headers):
    path = "/api/predict"
    await ask(path, headers)
    status, head, answer = await ask(path, headers)
    await hit_writer.flush()

    assert status == 200
    assert answer["cache"] == "l1"
    for name in (
        "content-security-policy",
        "cross-origin-opener-policy",
        "referrer-policy",
        "x-content-type-options",
        "x-frame-options",
        "x-ratelimit-remaining",
        "x-request-id",
    ):
        assert name in head, name
    assert head["cache-control"] == "no-store"
    assert await Generation.objects.filter(pk=answer["id"], cache="l1").aexists()
    refused = await ask(path, {"Authorization": "Bearer nonsense"})
    assert refused[0] == 401


async def test_the_connections_that_a_miss_opened_are_closed(headers, models):
    opened = []

    def note():
        opened.extend(c for c in connections.all(initialized_only=True) if c.connection is not None)

    await ask("/api/predict", headers)
    await hit_writer.flush()
    await sync_to_async(note)()
    # At most this test's own.
    assert len(opened) <= 1
