"""Answers belong to the server: stopping, leaving, coming back, and processes that die."""

import asyncio
import time
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient
from django.utils import timezone

from conftest import bearer
from inference import generations, live
from inference.ask import Ask
from inference.event_log import event_logs
from inference.live import live_answers
from inference.mirror import event_mirror
from inference.models import Conversation, Generation, Message, Status
from inference.providers import scripted
from inference.providers.scripted import Script
from inference.replay import replay
from inference.sweeper import SILENCE_SECONDS, Sweeper
from inference.tests.doors import connect, events_of, joined, post, sse, until_end
from inference.tests.waiting import until

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.flows,
    pytest.mark.usefixtures("settled"),
]


async def started(user, model="endless", **values):
    turn = await generations.start(Ask(user=user, door="test", prompt="Go on", model=model, **values))
    await until(lambda: any(call.pieces >= 3 for call in scripted.calls))
    return turn


async def ended(turn):
    rows = Generation.objects.select_related("message").filter(pk=turn.generation.pk)
    return await until(rows.exclude(status__in=["queued", "streaming"]).first)


async def test_stop_reaches_the_provider_and_keeps_the_text(alice, models):
    turn = await started(alice)

    answer = await post(alice, f"/api/generations/{turn.generation.pk}/stop", {})

    assert answer.status_code == 200
    row = await ended(turn)
    assert scripted.calls[-1].outcome == "closed"
    assert (row.status, row.finish_reason) == (Status.STOPPED, "cancelled")
    assert row.message.content.startswith("The quick brown")
    assert row.usage_estimated
    assert row.output_tokens > 0


async def test_a_stop_asked_for_in_another_process_is_seen_within_a_beat(alice, models):
    turn = await started(alice)

    assert await sync_to_async(turn.generation.request_stop)()

    assert (await ended(turn)).status == Status.STOPPED
    assert scripted.calls[-1].outcome == "closed"


async def test_a_reader_hears_of_the_end_though_the_door_and_the_beat_both_stop_the_answer(alice, models):
    turn = await started(alice)

    for _ in range(2):
        live_answers.stop(turn.generation.pk)

    async with asyncio.timeout(10):
        events = [numbered.event async for numbered in generations.follow(turn.generation) if numbered]
    assert (events[-1].type, events[-1].finish_reason) == ("finished", "cancelled")
    assert (await ended(turn)).status == Status.STOPPED


@pytest.mark.parametrize("is_stopped_too", [False, True])
async def test_a_reader_hears_of_the_end_of_an_answer_that_somebody_else_cancels(
    is_stopped_too, alice, models
):
    """As a library may do with the task that it runs in; nobody is to wait for ever."""
    turn = await started(alice)

    live_answers._answers[turn.generation.pk]._waiting.cancel()
    if is_stopped_too:
        live_answers.stop(turn.generation.pk)

    async with asyncio.timeout(10):
        events = [numbered.event async for numbered in generations.follow(turn.generation) if numbered]
    assert (events[-1].type, events[-1].code) == ("error", "interrupted")
    assert (await ended(turn)).status == Status.STOPPED


async def test_deleting_a_conversation_stops_its_answer(alice, models):
    await started(alice)

    await Conversation.objects.all().adelete()

    await until(lambda: scripted.calls[-1].outcome == "closed")
    await until(lambda: not live_answers)


async def test_leaving_a_stream_changes_nothing(alice, models):
    scripted.play(Script(pieces=("a", "b", "c", "d"), delay=0.05))
    answer = await post(alice, "/api/predict/stream", {"prompt": "Letters?"})
    async for _ in sse(answer):
        break
    answer.close()

    row = await until(lambda: Generation.objects.select_related("message").filter(status="finished").first())

    assert row.message.content == "abcd"
    assert scripted.calls[-1].outcome == "finished"


async def test_leaving_a_socket_changes_nothing_and_another_one_resumes(alice, models):
    scripted.play(Script(pieces=("a", "b", "c", "d", "e"), delay=0.05))
    socket = await connect(alice)
    await socket.send_json_to({"type": "ask", "prompt": "Letters?"})
    first = [await socket.receive_json_from(timeout=5) for _ in range(3)]
    await socket.disconnect()

    socket = await connect(alice)
    await socket.send_json_to({"type": "resume", "id": first[0]["id"], "after": first[-1]["seq"]})
    rest = await until_end(socket)
    await socket.disconnect()

    assert joined(first + rest) == "abcde"


@pytest.mark.parametrize("source", ["memory", "mirror", "row"])
async def test_every_cursor_gets_exactly_what_is_missing(source, alice, models, settings):
    if source == "mirror" and not settings.REDIS_URL:
        source = "row"  # Without Redis the row is what another process reads.
    scripted.play(Script(pieces=("Zwölf", " Ärzte", "\n", "日本", " 🦊", "")[:5]))
    answer = await post(alice, "/api/predict/stream", {"prompt": "?"})
    whole = [event async for event in sse(answer)]
    generation = whole[0]["id"]
    if source == "mirror":
        await event_mirror.flush()
    if source != "memory":
        event_logs._logs.clear()
    if source == "row":
        await event_mirror.flush()
        await sync_to_async(forget_mirror)(settings.REDIS_URL)

    headers = await sync_to_async(bearer)(alice)
    for seq in range(-1, len(whole) - 1):
        cursor = {"Last-Event-ID": str(seq)} if seq >= 0 else {}
        rest = [event async for event in events_of(AsyncClient(), generation, **headers, **cursor)]
        assert rest == whole[seq + 1 :]
    last = await AsyncClient().get(
        f"/api/generations/{generation}/events", headers={**headers, "Last-Event-ID": str(len(whole) - 1)}
    )
    assert last.status_code == 204


def forget_mirror(url):
    if url:
        import redis

        redis.Redis.from_url(url).flushdb()


async def test_a_reader_in_another_process_sees_it_grow(alice, models):
    scripted.play(Script(pieces=tuple("abcdefghijkl"), delay=0.1))
    turn = await generations.start(Ask(user=alice, door="test", prompt="Letters?"))
    event_logs._logs.clear()

    events = [n.as_dict() async for n in generations.follow(turn.generation) if n is not None]

    assert joined(events) == "abcdefghijkl"
    assert len(events) == 14


async def test_a_reader_elsewhere_that_comes_early_reads_from_redis(alice, models, settings, monkeypatch):
    if not settings.REDIS_URL:
        return  # There is nothing to read from but the row, and the test before this one does.
    monkeypatch.setattr(generations, "_follow_row", refuse)
    scripted.play(Script(pieces=tuple("abcdef"), delay=0.2))
    turn = await generations.start(Ask(user=alice, door="test", prompt="Letters?"))
    event_logs._logs.clear()

    events = [n.as_dict() async for n in generations.follow(turn.generation) if n is not None]

    assert joined(events) == "abcdef"


async def test_what_breaks_off_is_kept_and_told(alice, models):
    answer = await post(alice, "/api/predict/stream", {"prompt": "Count", "model": "cut"})
    events = [event async for event in sse(answer)]

    assert [event["type"] for event in events] == ["started", "delta", "delta", "delta", "error"]
    assert events[-1]["code"] == "upstream_cut"
    row = await Generation.objects.select_related("message").aget()
    assert (row.status, row.error_code, row.message.content) == (Status.CUT, "upstream_cut", "One two three")
    assert [n.as_dict() for n in await sync_to_async(replay)(row)] == events


async def test_what_breaks_off_is_an_error_for_a_plain_call(alice, models):
    answer = await post(alice, "/api/predict", {"prompt": "Count", "model": "cut"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_cut")
    assert (await Message.objects.aget(role="assistant")).content == "One two three"


@pytest.mark.parametrize("path", ["/api/predict", "/api/predict/stream"])
async def test_an_early_failure_is_a_true_status_and_the_question_is_kept(path, alice, models):
    answer = await post(alice, path, {"prompt": "Anybody there?", "model": "unavailable"})

    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "provider_unavailable"
    assert int(answer["Retry-After"]) > 0
    assert (await Message.objects.aget(role="user")).content == "Anybody there?"
    assert (await Generation.objects.aget()).status == Status.FAILED


async def test_the_beat_saves_what_there_is(alice, models):
    turn = await started(alice, model="hangs")

    await until(lambda: Message.objects.get(pk=turn.generation.message_id).content == "One two three")

    row = await Generation.objects.aget()
    assert (row.status, row.delta_lengths) == (Status.STREAMING, [3, 4, 6])
    await generations.stop(row)
    await ended(turn)


async def test_the_beat_saves_some_at_a_time(alice, models, monkeypatch):
    """So that no token waits for the saving of hundreds of answers."""
    rows = [await left_behind(alice, status="streaming") for _ in range(5)]
    saved = []
    monkeypatch.setattr(live, "SAVED_AT_ONCE", 2)
    monkeypatch.setattr(
        live, "_save", lambda answers, texts: saved.append([one.generation.pk for one in answers]) or []
    )
    answers = live.LiveAnswers()
    running = [live.LiveAnswer(row) for row in rows]
    answers._answers = {one.generation.pk: one for one in running[:4]}

    await answers._save_all(running)

    # The last one has ended meanwhile.
    assert saved == [[rows[0].pk, rows[1].pk], [rows[2].pk, rows[3].pk]]


async def test_of_many_answers_half_of_the_texts_are_saved_at_a_beat(alice, models, monkeypatch):
    rows = [await left_behind(alice, status="streaming") for _ in range(4)]
    beats, texts = [], []
    monkeypatch.setattr(live, "MANY", 3)

    def save(answers, some):
        beats.append(len(answers))
        texts.append({*some})
        return []

    monkeypatch.setattr(live, "_save", save)
    answers = live.LiveAnswers()
    running = [live.LiveAnswer(row) for row in rows]
    answers._answers = {one.generation.pk: one for one in running}

    for _ in range(2):
        await answers._save_all(running)

    assert beats == [4, 4]
    assert [len(some) for some in texts] == [2, 2]
    assert texts[0] | texts[1] == {*running}


async def refuse(*args):
    raise AssertionError("the row was read")
    yield


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@sync_to_async
def left_behind(user, **values):
    conversation = Conversation.objects.create(owner=user)
    message = Message.objects.create(conversation=conversation, role="assistant", content="Half an ans")
    return Generation.objects.create(
        user=user, message=message, model_alias="echo", provider="echo", delta_lengths=[4, 7], **values
    )


async def test_the_sweep_ends_what_a_dead_process_left(alice, models):
    sweeper = Sweeper(clock=(clock := Clock()))
    dead = await left_behind(alice, status="streaming")
    alive = await left_behind(alice, status="streaming")
    done = await left_behind(alice, status="finished")

    assert await sweeper.sweep() == 0
    clock.now += SILENCE_SECONDS
    await Generation.objects.filter(pk=alive.pk).aupdate(heartbeat_at=timezone.now() + timedelta(seconds=1))
    assert await sweeper.sweep() == 1
    assert await sweeper.sweep() == 0

    states = {row.pk: row.status async for row in Generation.objects.all()}
    assert states == {dead.pk: "interrupted", alive.pk: "streaming", done.pk: "finished"}
    events = [
        n.as_dict() for n in replay(await Generation.objects.select_related("message").aget(pk=dead.pk))
    ]
    assert [event["type"] for event in events] == ["started", "delta", "delta", "error"]
    assert "".join(event.get("text", "") for event in events) == "Half an ans"


async def test_the_sweep_reads_no_texts_of_those_that_live(alice, models, monkeypatch):
    await left_behind(alice, status="streaming")
    monkeypatch.setattr(type(Generation.objects.all()), "to_tell", None)
    assert await Sweeper().sweep() == 0


async def test_neither_own_answers_nor_foreign_clocks_look_dead(alice, models):
    sweeper = Sweeper(clock=(clock := Clock()))
    await started(alice, model="hangs")
    await left_behind(alice, status="streaming", heartbeat_at=timezone.now() - timedelta(days=1))
    await sweeper.sweep()

    clock.now += SILENCE_SECONDS - 1
    assert await sweeper.sweep() == 0
    clock.now += 10 * SILENCE_SECONDS
    assert await sweeper.sweep() == 1
    assert len(live_answers) == 1


async def test_an_answer_that_was_taken_for_dead_has_one_end(alice, models):
    turn = await started(alice)
    await Generation.objects.aupdate(status="interrupted", error_code="interrupted")

    await until(lambda: scripted.calls[-1].outcome == "closed")
    await until(lambda: not live_answers)

    assert (await Generation.objects.aget()).status == "interrupted"
    events = [n.as_dict() async for n in generations.follow(turn.generation) if n is not None]
    assert events[-1]["code"] == "interrupted"


async def test_a_reader_that_knows_more_than_was_saved_gets_the_end(alice, models, settings):
    row = await left_behind(alice, status="interrupted", error_code="interrupted")
    headers = await sync_to_async(bearer)(alice)

    events = [e async for e in events_of(AsyncClient(), str(row.pk), **headers, **{"Last-Event-ID": "7"})]
    after = await AsyncClient().get(
        f"/api/generations/{row.pk}/events", headers={**headers, "Last-Event-ID": str(events[-1]["seq"])}
    )

    assert [event["code"] for event in events] == ["interrupted"]
    assert after.status_code == 204


async def test_the_end_is_stored_before_a_process_counts_as_drained(alice, models, monkeypatch):
    end = Generation.end

    def slow_end(*args, **values):
        time.sleep(0.3)
        return end(*args, **values)

    monkeypatch.setattr(Generation, "end", slow_end)
    monkeypatch.setattr(live_answers, "is_draining", False)
    turn = await started(alice)

    await generations.drain(0)

    row = await Generation.objects.aget(pk=turn.generation.pk)
    assert (row.status, row.error_code) == ("interrupted", "server_restarting")


@pytest.mark.parametrize("path", ["/api/predict", "/api/predict/stream"])
async def test_a_process_that_is_about_to_stop_takes_no_question(path, alice, models, monkeypatch):
    monkeypatch.setattr(live_answers, "is_draining", True)

    answer = await post(alice, path, {"prompt": "One more?"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "server_restarting")
    assert not await Message.objects.aexists()


async def test_a_hanging_tokenizer_does_not_hold_up_the_end(alice, models, monkeypatch):
    async def hang(*args):
        await asyncio.get_running_loop().create_future()

    turn = await started(alice, model="hangs")
    monkeypatch.setattr(scripted.ScriptedProvider, "count_tokens", hang)

    await generations.stop(turn.generation)

    row = await ended(turn)
    assert row.usage_estimated
    assert row.output_tokens > 0


@pytest.mark.parametrize("call", ["events", "stop"])
async def test_a_foreign_answer_is_like_a_missing_one(call, alice, charlie, models):
    turn = await started(alice)
    method = {"events": "get", "stop": "post"}[call]
    headers = await sync_to_async(bearer)(charlie)

    answers = [
        await getattr(AsyncClient(), method)(f"/api/generations/{pk}/{call}", headers=headers)
        for pk in (turn.generation.pk, turn.conversation.pk)
    ]

    bodies = [answer.json()["error"] | {"request_id": None} for answer in answers]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert bodies[0] == bodies[1]
    assert scripted.calls[-1].outcome == "running"
    await generations.stop(turn.generation)
    await ended(turn)
