"""The main flows over two web processes; each connection meets the other one, nothing sticks to either."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from http.cookiejar import CookieJar
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener

import pytest
from django.conf import settings
from websockets.sync.client import connect

from accounts.tests.redis_servers import own_redis
from accounts.tests.two_processes import cookies
from accounts.tokens import sign_in
from conftest import PASSWORD, bearer
from embeddings.tests.conftest import encoder, served  # noqa: F401 - fixtures
from embeddings.tests.documents import TEXT, work
from llmsite.testing.balancer import Balancer
from llmsite.testing.site import Site

# Two processes have to start, which takes seconds.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


@pytest.fixture
def webs(served, settings) -> Iterator[Balancer]:  # noqa: F811
    """Two processes with a Redis of their own, and a model process with a scripted encoder."""
    settings.MODEL_URL = f"http://127.0.0.1:{served.port}"
    with ExitStack() as stack:
        redis = stack.enter_context(own_redis())
        values = {"REDIS_URL": redis.url, "MODEL_URL": settings.MODEL_URL}
        sites = [stack.enter_context(Site(**values)) for _ in range(2)]
        yield stack.enter_context(Balancer(sites))


class Visitor:
    """Asks through the proxy; each request is a connection of its own."""

    def __init__(self, webs: Balancer, **headers: str) -> None:
        self.webs = webs
        self.jar = CookieJar()
        self._opener = build_opener(HTTPCookieProcessor(self.jar))
        self._headers = headers

    def open(self, method, path, body=None, kind="application/json"):
        if body is not None and not isinstance(body, bytes):
            body = (json.dumps(body) if kind == "application/json" else urlencode(body)).encode()
        headers = {**self._headers, "Content-Type": kind, "Origin": self.webs.url}
        return self._opener.open(Request(self.webs.url + path, body, headers, method=method), timeout=30)

    def ask(self, method, path, body=None, kind="application/json"):
        """The status and the JSON of an answer, or its text."""
        try:
            with self.open(method, path, body, kind) as answer:
                status, text = answer.status, answer.read().decode()
        except HTTPError as error:
            status, text = error.code, error.read().decode()
        return status, json.loads(text) if text.startswith(("{", "[")) else text


def test_the_main_flows_need_no_sticky_sessions(webs, alice, staff, models):
    signs_in_at_one_and_is_known_at_the_other(webs)
    program = Visitor(webs, **bearer(staff))
    streams_from_one_and_is_stopped_by_the_other(program)
    asks_over_a_socket_and_reads_on_at_the_other(webs, alice)
    shares_what_was_answered_until_it_is_cleared(program)
    uploads_to_one_and_finds_at_the_other(program)
    is_limited_by_both_together(Visitor(webs, **bearer(alice, rate_limit="4/m")))
    counts = webs.passed.values()
    assert min(counts) > 5
    assert max(counts) - min(counts) <= 1


def signs_in_at_one_and_is_known_at_the_other(webs):
    visitor = Visitor(webs)
    assert visitor.ask("GET", "/login/")[0] == 200
    token = next(one.value for one in visitor.jar if one.name == settings.CSRF_COOKIE_NAME)
    form = {"username": "alice", "password": PASSWORD, "csrfmiddlewaretoken": token}
    visitor.ask("POST", "/login/", form, "application/x-www-form-urlencoded")
    for _ in range(2):
        with visitor.open("GET", "/account/") as page:
            assert page.url == f"{webs.url}/account/"
            assert "alice" in page.read().decode()


def streams_from_one_and_is_stopped_by_the_other(program):
    with program.open("POST", "/api/predict/stream", {"prompt": "Go on", "model": "endless"}) as stream:
        events = (json.loads(line[6:]) for line in stream if line.startswith(b"data: "))
        started = next(events)
        assert next(events)["type"] == "delta"
        status, _ = program.ask("POST", f"/api/generations/{started['id']}/stop")
        assert status in (200, 202, 204)
        last = list(events)[-1]
    assert (last["type"], last["finish_reason"]) == ("finished", "cancelled")
    # What one has written, the other one tells again.
    whole = program.ask("GET", f"/api/generations/{started['id']}/events")[1]
    assert last["type"] in whole


def asks_over_a_socket_and_reads_on_at_the_other(webs, alice):
    headers = {"Origin": webs.url, **cookies(sign_in(alice))}
    address = webs.url.replace("http", "ws") + "/ws/chat/"
    with connect(address, additional_headers=headers, compression=None) as first:
        first.send(json.dumps({"type": "ask", "prompt": "Slowly", "model": "slow"}))
        started = json.loads(first.recv(10))
        with connect(address, additional_headers=headers, compression=None) as other:
            other.send(json.dumps({"type": "resume", "id": started["id"], "after": 0}))
            there = until_the_end(other)
        here = until_the_end(first)
    assert [event["seq"] for event in there] == [event["seq"] for event in here]
    assert there[-1]["type"] == "finished"


def until_the_end(socket):
    events = []
    while not events or events[-1]["type"] not in ("finished", "error"):
        events.append(json.loads(socket.recv(10)))
    return events


def shares_what_was_answered_until_it_is_cleared(program):
    question = {"prompt": "Say it once", "model": "scripted"}
    levels = [program.ask("POST", "/api/predict", question)[1]["cache"] for _ in range(6)]
    # The answer is kept in Redis a moment after it was told.
    assert levels[0] is None
    assert {"l1", "l2"} >= set(levels[-2:])
    assert program.ask("DELETE", "/api/cache")[0] == 200
    assert program.ask("POST", "/api/predict", question)[1]["cache"] is None


def uploads_to_one_and_finds_at_the_other(program):
    head = 'Content-Disposition: form-data; name="file"; filename="fox.txt"\r\nContent-Type: text/plain'
    body = f"--edge\r\n{head}\r\n\r\n{TEXT}\r\n--edge--\r\n".encode()
    status, _ = program.ask("POST", "/api/documents", body, "multipart/form-data; boundary=edge")
    assert status in (200, 201, 202)
    assert [ended.how for ended in work()] == ["done"]
    for _ in range(2):
        found = program.ask("POST", "/api/search", {"query": "Where does the fox live?"})[1]
        assert "fox" in json.dumps(found)


def is_limited_by_both_together(program):
    statuses = [program.ask("GET", "/api/models")[0] for _ in range(6)]
    assert statuses == [200] * 4 + [429] * 2
