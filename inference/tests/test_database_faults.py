"""PostgreSQL goes, comes back, ends connections, and gives up transactions: what those who ask see of it."""

import asyncio
import json
import socket
import threading
import time
import urllib.request
from contextlib import contextmanager, suppress
from urllib.error import HTTPError

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections
from django.test import AsyncClient

from conftest import bearer
from inference.models import Conversation, Generation, Message, Status
from inference.tests.test_faults import call, read_events
from inference.tests.waiting import until
from llmsite.testing.site import Site

# Collected where the tests run on PostgreSQL (conftest.py): SQLite has none of these faults.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.flows]


class Cable:
    """What a site's connections to the database go through; it can be pulled out and put in again."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._plug_in()

    def pull(self) -> None:
        """As where the server has ended: connections are gone, new ones are refused."""
        self.is_in = False
        # It blocks in `accept`, and goes on holding the port until somebody comes.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in list(self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def put_in(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._plug_in()

    def _plug_in(self) -> None:
        self.is_in = True
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._target)
                self._open |= {client, server}
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=_pass_on, args=(source, sink), daemon=True).start()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    for one in (source, sink):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def cable():
    values = connection.settings_dict
    made = Cable(f"{values['HOST']}/.s.PGSQL.{values['PORT']}")
    yield made
    if made.is_in:
        made.pull()


@pytest.fixture
def away(cable):
    """A site whose database can be taken away."""
    values = connection.settings_dict
    url = f"postgres://{values['USER']}@127.0.0.1:{cable.port}/{values['NAME']}"
    with Site(DATABASE_URL=url) as running:
        yield running


def end_all_connections() -> int:
    """Those of the site, by the server itself; how many there were."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'site'"
        )
        return cursor.fetchone()[0]


def status_of(site, headers):
    """Of one question: the status, and the code of the error. It is answered within three seconds."""
    body = json.dumps({"prompt": "Hello?", "model": "echo"}).encode()
    headers = {**headers, "Content-Type": "application/json"}
    request = urllib.request.Request(f"{site.url}/api/predict", data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=3) as answer:
            return answer.status, ""
    except HTTPError as error:
        return error.code, json.load(error)["error"]["code"]


def row_of(generation):
    return Generation.objects.select_related("message").get(pk=generation)


async def begun(site, headers, model):
    """A stream of which the first piece was told, and the reading of the rest."""
    body = {"prompt": "Go on", "model": model}
    stream = await asyncio.to_thread(call, site, headers, "/api/predict/stream", body)
    reading = asyncio.ensure_future(asyncio.to_thread(read_events, stream))
    await until(lambda: Generation.objects.exclude(delta_lengths=[]).exists())
    return reading


@pytest.fixture
def site(transactional_db):
    with Site(PGAPPNAME="site") as running:
        yield running


async def test_connections_that_the_server_ends_cost_no_answer(alice, models, site):
    headers = await sync_to_async(bearer)(alice)
    reading = await begun(site, headers, "slow")
    assert await sync_to_async(end_all_connections)() >= 1
    events = await reading
    assert events[-1]["type"] == "finished"
    row = await sync_to_async(row_of)(events[0]["id"])
    assert row.status == Status.FINISHED
    assert row.message.content == "".join(event.get("text", "") for event in events)
    # Each of its threads has a connection of its own, and finds it gone.
    assert [await asyncio.to_thread(status_of, site, headers) for _ in range(3)] == [(200, "")] * 3


async def test_while_it_is_away_everybody_is_told_soon_and_streams_end_saved_once_it_is_back(
    alice, models, cable, away
):
    headers = await sync_to_async(bearer)(alice)
    reading = await begun(away, headers, "slow")
    cable.pull()
    for _ in range(2):
        told = await asyncio.to_thread(status_of, away, headers)
        assert told == (503, "database_unavailable")
    await asyncio.sleep(0.7)
    cable.put_in()
    events = await reading
    assert events[-1]["type"] == "finished"
    row = await sync_to_async(row_of)(events[0]["id"])
    assert row.status == Status.FINISHED
    assert row.message.content == "".join(event.get("text", "") for event in events)
    assert (await asyncio.to_thread(status_of, away, headers))[0] == 200


@pytest.mark.slow  # All tries of storing the end have to fail.
async def test_an_answer_that_cannot_be_saved_says_so(alice, models, cable, away):
    headers = await sync_to_async(bearer)(alice)
    reading = await begun(away, headers, "slow")
    cable.pull()
    events = await reading
    cable.put_in()
    assert events[-1]["type"] == "error"
    assert events[-1]["code"] == "not_saved"
    assert "could not be saved" in events[-1]["message"]
    assert (await asyncio.to_thread(status_of, away, headers))[0] == 200
    await until(
        lambda: Generation.objects.filter(pk=events[0]["id"], status=Status.INTERRUPTED).exists(), seconds=60
    )


# --- Transactions that are given up ----------------------------------------------------------------


@contextmanager
def conflicts(number: int):
    """The first `number` messages that are written meet a serialization failure; how many were tried."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE SEQUENCE tries")
        cursor.execute(
            "CREATE FUNCTION in_the_way() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF nextval('tries') <= {number} THEN"
            " RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '40001'; END IF;"
            " RETURN NEW; END $$"
        )
        cursor.execute(
            "CREATE TRIGGER in_the_way BEFORE INSERT ON inference_message FOR EACH ROW"
            " WHEN (NEW.role = 'user') EXECUTE FUNCTION in_the_way()"
        )
        try:
            yield lambda: cursor.execute("SELECT last_value FROM tries").fetchone()[0]
        finally:
            cursor.execute("DROP TRIGGER in_the_way ON inference_message")
            cursor.execute("DROP FUNCTION in_the_way()")
            cursor.execute("DROP SEQUENCE tries")


async def ask(headers, **values):
    body = {"prompt": "Why?", "model": "echo", **values}
    return await AsyncClient().post("/api/predict", body, content_type="application/json", headers=headers)


def counts():
    return Conversation.objects.count(), Message.objects.count(), Generation.objects.count()


@pytest.fixture
def meets_conflicts():
    with conflicts(3) as tried:
        yield tried


async def test_a_transaction_that_met_another_one_is_repeated(alice, models, meets_conflicts):
    headers = await sync_to_async(bearer)(alice)
    answer = await ask(headers)
    assert answer.status_code == 200
    assert await sync_to_async(meets_conflicts)() == 4
    assert await sync_to_async(counts)() == (1, 2, 1)


@pytest.fixture
def meets_conflicts_for_ever():
    with conflicts(1000) as tried:
        yield tried


async def test_it_is_repeated_three_times_and_nothing_is_half_written(
    alice, models, meets_conflicts_for_ever
):
    headers = await sync_to_async(bearer)(alice)
    answer = await ask(headers)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "database_unavailable"
    assert answer["Retry-After"] == "5"
    assert await sync_to_async(meets_conflicts_for_ever)() == 4
    assert await sync_to_async(counts)() == (0, 0, 0)


@pytest.fixture
def short_patience():
    """New connections wait 0.2 seconds for a lock, and not ten."""
    options = connection.settings_dict["OPTIONS"]
    before = options["options"]
    assert "lock_timeout=10s" in before
    options["options"] = "-c lock_timeout=200ms"
    connections.close_all()
    yield
    options["options"] = before
    connections.close_all()


@contextmanager
def another_session():
    values = connection.settings_dict
    with psycopg.connect(
        host=values["HOST"], port=values["PORT"], user=values["USER"], dbname=values["NAME"]
    ) as session:
        yield session


async def test_who_waits_for_a_lock_is_told_and_nothing_is_half_written(alice, models, short_patience):
    headers = await sync_to_async(bearer)(alice)
    conversation = await Conversation.objects.acreate(owner=alice, title="Mine")
    with another_session() as session:
        session.execute("SELECT 1 FROM inference_conversation FOR UPDATE")
        answer = await ask(headers, conversation=str(conversation.pk))
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "database_unavailable"
        assert await sync_to_async(counts)() == (1, 0, 0)
    answer = await ask(headers, conversation=str(conversation.pk))
    assert answer.status_code == 200
    assert await sync_to_async(counts)() == (1, 2, 1)


async def test_of_a_deadlock_the_question_is_asked_again(alice, models):
    """The other session has the person, and wants the conversation, which the question has."""
    headers = await sync_to_async(bearer)(alice)
    conversation = await Conversation.objects.acreate(owner=alice, title="Mine")

    def be_in_the_way(session) -> None:
        waits = (
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        with another_session() as looking:
            looking.autocommit = True
            while not looking.execute(waits).fetchone():
                time.sleep(0.01)
        session.execute("SELECT 1 FROM inference_conversation FOR UPDATE")
        session.rollback()

    with another_session() as session:
        # Who looks first gives up its own transaction; this one has time.
        session.execute("SET deadlock_timeout = '20s'")
        session.execute(f"SELECT 1 FROM accounts_user WHERE id = {alice.pk} FOR UPDATE")
        in_the_way = asyncio.ensure_future(asyncio.to_thread(be_in_the_way, session))
        answer = await ask(headers, conversation=str(conversation.pk))
        await in_the_way
    assert answer.status_code == 200
    assert await sync_to_async(counts)() == (1, 2, 1)
