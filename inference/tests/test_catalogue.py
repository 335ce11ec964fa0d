"""The models in memory: never older than a second, and free of queries meanwhile."""

import asyncio

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError, connections
from django.test import AsyncClient
from django.test.utils import CaptureQueriesContext

from conftest import bearer
from inference import catalogue as module
from inference.catalogue import Catalogue, _read_snapshot, catalogue
from inference.models import ChatModelConfig, ModelFallback, Version
from llmsite.core.errors import ModelNotFound

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def reads(monkeypatch):
    """Counts how often the database is asked."""
    counted = []

    def read(known):
        counted.append(known)
        return _read_snapshot(known)

    monkeypatch.setattr(module, "_read_snapshot", read)
    return counted


@pytest.fixture
def now(monkeypatch):
    class Now:
        seconds = 1000.0

    monkeypatch.setattr(module.time, "monotonic", lambda: Now.seconds)
    return Now


async def test_a_change_in_this_process_is_seen_at_once(models):
    assert (await catalogue.current()).named(None).alias == "scripted"
    await ChatModelConfig.objects.filter(alias="scripted").aupdate(is_default=False)
    await ChatModelConfig.objects.filter(alias="echo").aupdate(is_default=True)
    assert (await catalogue.current()).named(None).alias == "echo"

    echo = await ChatModelConfig.objects.aget(alias="echo")
    echo.is_active = False
    await echo.asave()
    with pytest.raises(ModelNotFound):
        (await catalogue.current()).named("echo")

    await sync_to_async(models["slow"].delete)()
    assert "slow" not in (await catalogue.current()).by_alias
    await sync_to_async(ModelFallback.objects.create)(model=models["scripted"], fallback=models["cut"])
    snapshot = await catalogue.current()
    assert [row.alias for row in snapshot.fallbacks(snapshot.by_alias["scripted"])] == ["cut"]


async def test_a_busy_process_reads_beside_its_questions_and_an_idle_one_before_them(models, reads, now):
    elsewhere = Catalogue()
    first = await elsewhere.current()
    now.seconds += 0.4
    assert await elsewhere.current() is first
    assert len(reads) == 1

    # Half a second later it answers from what it has, and reads.
    now.seconds += 0.2
    assert await elsewhere.current() is first
    await elsewhere._refreshing
    assert len(reads) == 2

    # After a second it waits.
    now.seconds += 1.1
    assert await elsewhere.current() is not first
    assert len(reads) == 3


async def test_what_another_process_changed_is_there_after_a_second(models, now):
    elsewhere = Catalogue()
    assert (await elsewhere.current()).named("echo").system_prompt == ""
    await ChatModelConfig.objects.filter(alias="echo").aupdate(system_prompt="Rhyme.")
    assert (await elsewhere.current()).named("echo").system_prompt == ""
    now.seconds += 1.0
    assert (await elsewhere.current()).named("echo").system_prompt == "Rhyme."


def test_unchanged_rows_are_not_read_again(models):
    snapshot = _read_snapshot(None)
    with CaptureQueriesContext(connections["default"]) as queries:
        again = _read_snapshot(snapshot)
    assert len(queries) == 1
    assert again.rows is snapshot.rows


async def test_a_reading_that_a_change_overtook_is_repeated(models, monkeypatch):
    elsewhere = Catalogue()
    module.version_bumped.connect(elsewhere.forget)

    def read(known):
        snapshot = _read_snapshot(known)
        if not reads:
            ChatModelConfig.objects.filter(alias="echo").update(label="Later")
        reads.append(1)
        return snapshot

    reads = []
    monkeypatch.setattr(module, "_read_snapshot", read)
    assert (await elsewhere.current()).named("echo").label == "Later"
    assert len(reads) == 2
    module.version_bumped.disconnect(elsewhere.forget)


async def test_a_hundred_questions_share_a_reading(models, reads):
    elsewhere = Catalogue()
    snapshots = await asyncio.gather(*(elsewhere.current() for _ in range(100)))
    assert len(reads) == 1
    assert len(set(map(id, snapshots))) == 1


@pytest.mark.parametrize("alias", [None, "echo", "cut"])
@pytest.mark.parametrize("provider", [None, "echo", "scripted", "local"])
async def test_it_chooses_as_the_database_does(alias, provider, models):
    snapshot = await catalogue.current()

    def choose(named):
        try:
            return named(alias, provider=provider).alias
        except ModelNotFound as error:
            return error.data

    assert choose(snapshot.named) == await sync_to_async(choose)(ChatModelConfig.objects.named)


async def test_every_change_is_counted(models):
    before = await sync_to_async(Version.objects.numbers)()
    await sync_to_async(ChatModelConfig.objects.all().served_locally)("new", context_window=10)
    after = await sync_to_async(Version.objects.numbers)()
    assert after[Version.MODELS] > before[Version.MODELS]


async def test_a_database_that_is_away_is_told_as_such(alice, models, monkeypatch):
    headers = await sync_to_async(bearer)(alice)

    def away(_known):
        raise OperationalError("the connection is closed")

    monkeypatch.setattr(module, "_read_snapshot", away)
    for path, body in (
        ("/api/predict", {"prompt": "Hi"}),
        ("/v1/chat/completions", {"model": "scripted", "messages": [{"role": "user", "content": "Hi"}]}),
    ):
        catalogue.reset()
        answer = await AsyncClient().post(path, body, content_type="application/json", headers=headers)
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "database_unavailable"
        assert answer["Retry-After"] == "5"
