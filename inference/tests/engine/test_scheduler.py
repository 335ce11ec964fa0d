"""Continuous batching: joining, leaving, stopping, and never mixing two answers up."""

import queue
import threading

import pytest

from inference.engine.sampling import Sampling
from inference.engine.scheduler import Done, Failed, Generation, Piece, QueueFull, Scheduler, SchedulerClosed
from inference.tests.engine.fakes import END, ScriptedRunner, counting, decode_bytes, saying

PATIENCE = 10


class Answer:
    """One job and what it reported."""

    def __init__(self, scheduler, generation):
        self.events = queue.Queue()
        self.job = scheduler.submit(generation, self.events.put)

    def next(self):
        return self.events.get(timeout=PATIENCE)

    def read(self):
        text = ""
        while isinstance(event := self.next(), Piece):
            text += event.text
        return text, event


@pytest.fixture
def make():
    """Schedulers over scripted runners; each is closed at the end, its gate open."""
    made = []

    def make(next_token, *, queue_limit=64, gated=False, **options):
        runner = ScriptedRunner(next_token, **options)
        runner.gated = gated
        scheduler = Scheduler(runner, decode_bytes, end_tokens=frozenset({END}), queue_limit=queue_limit)
        made.append((runner, scheduler))
        return runner, scheduler

    yield make
    for runner, scheduler in made:
        runner.gated = False
        runner.gate.release(1000)
        scheduler.close()


def prompt(*tokens):
    return [*tokens, 255]


def wait_until(condition):
    """Poll for what another thread brings about."""
    event = threading.Event()
    for _ in range(PATIENCE * 200):
        if condition():
            return
        event.wait(0.005)
    raise AssertionError("it did not come about")


def test_an_answer_streams_ends_with_stop_and_is_counted(make):
    _, scheduler = make(saying("Hi é"))
    answer = Answer(scheduler, Generation(prompt=prompt(1, 2, 3), max_tokens=20))
    assert [answer.next() for _ in range(5)] == [
        *(Piece(text) for text in ("H", "i", " ", "é")),
        Done("stop", input_tokens=4, output_tokens=6),
    ]


def test_max_tokens_ends_with_length_after_exactly_so_many(make):
    _, scheduler = make(saying("abcdef"))
    text, done = Answer(scheduler, Generation(prompt=prompt(1), max_tokens=3)).read()
    assert (text, done) == ("abc", Done("length", 2, 3))


def test_a_stop_string_across_tokens_ends_the_answer_before_it(make):
    _, scheduler = make(saying("one. STOP two"))
    text, done = Answer(scheduler, Generation(prompt=prompt(1), max_tokens=50, stop=["STOP"])).read()
    assert (text, done) == ("one. ", Done("stop", 2, 9))


def test_text_held_back_for_a_stop_string_is_shown_when_the_answer_ends(make):
    _, scheduler = make(saying("one ST"))
    text, done = Answer(scheduler, Generation(prompt=prompt(1), max_tokens=50, stop=["STOP"])).read()
    assert (text, done.finish_reason) == ("one ST", "stop")


def test_half_a_character_at_max_tokens_never_shows_as_half(make):
    _, scheduler = make(saying("aé"))
    text, _ = Answer(scheduler, Generation(prompt=prompt(1), max_tokens=2)).read()
    assert text == "a\N{REPLACEMENT CHARACTER}"


def test_batched_answers_are_equal_to_each_on_its_own(make):
    prompts = [[(7 * turn + at) % 90 + 1 for at in range(1 + 3 * turn)] for turn in range(9)]
    lengths = [3 + (5 * turn) % 17 for turn in range(9)]
    _, alone = make(counting, slots=1)
    _, batched = make(counting, slots=4)
    jobs = [Generation(prompt=tokens, max_tokens=most) for tokens, most in zip(prompts, lengths, strict=True)]
    together = [Answer(batched, job) for job in jobs]
    assert [answer.read() for answer in together] == [Answer(alone, job).read() for job in jobs]


def test_rows_share_steps(make):
    runner, scheduler = make(counting, slots=4, gated=True)
    answers = [Answer(scheduler, Generation(prompt=[turn + 1], max_tokens=8)) for turn in range(4)]
    wait_until(lambda: scheduler.queued + scheduler.slots_in_use == 4)
    runner.gate.release(1000)
    for answer in answers:
        answer.read()
    decodes = [rows for kind, rows in runner.calls if kind == "decode"]
    assert max(decodes) == 4
    assert sum(decodes) == 4 * 7
    assert len(decodes) < 4 * 7 / 2


def test_a_long_prompt_does_not_stall_a_running_answer(make):
    runner, scheduler = make(counting, chunk=4, gated=True)
    running = Answer(scheduler, Generation(prompt=[1], max_tokens=30))
    runner.gate.release(3)  # Its prompt and two tokens.
    for _ in range(3):
        running.next()
    Answer(scheduler, Generation(prompt=list(range(1, 33)), max_tokens=1))
    runner.gate.release(1000)
    running.read()
    kinds = [kind for kind, _ in runner.calls]
    first, last = kinds.index("prefill", 1), len(kinds) - 1 - kinds[::-1].index("prefill")
    assert kinds[first : last + 1] == ["prefill", "decode"] * 7 + ["prefill"]


def test_a_short_prompt_waits_for_one_chunk_of_a_long_one(make):
    runner, scheduler = make(counting, chunk=4, gated=True)
    long = Answer(scheduler, Generation(prompt=list(range(1, 41)), max_tokens=1))
    wait_until(lambda: scheduler.slots_in_use == 1)
    short = Answer(scheduler, Generation(prompt=[9], max_tokens=1))
    runner.gate.release(2)
    assert isinstance(short.next(), Piece)
    assert runner.calls[:2] == [("prefill", 4), ("prefill", 1)]
    assert long.events.empty()
    runner.gate.release(1000)
    long.read()


def test_a_cancelled_answer_frees_its_row_before_the_next_token(make):
    runner, scheduler = make(counting, slots=2, gated=True)
    kept, dropped = (Answer(scheduler, Generation(prompt=[token], max_tokens=40)) for token in (1, 2))
    runner.gate.release(6)
    wait_until(lambda: len(runner.calls) == 6)
    scheduler.cancel(dropped.job)
    runner.gate.release(1)  # The step that had begun.
    wait_until(lambda: scheduler.slots_in_use == 1)
    runner.gate.release(1000)
    text, done = kept.read()
    assert (len(text), done.output_tokens) == (40, 40)
    assert {rows for kind, rows in runner.calls[8:] if kind == "decode"} == {1}


def test_a_waiting_request_that_is_cancelled_never_takes_a_row(make):
    runner, scheduler = make(counting, slots=1, gated=True)
    first = Answer(scheduler, Generation(prompt=[1], max_tokens=3))
    waiting = Answer(scheduler, Generation(prompt=[2, 2], max_tokens=3))
    scheduler.cancel(waiting.job)
    runner.gate.release(1000)
    first.read()
    wait_until(lambda: scheduler.queued == 0)
    assert ("prefill", 2) not in runner.calls
    assert waiting.events.empty()


def test_cancelling_in_the_middle_of_a_prompt_frees_the_row(make):
    runner, scheduler = make(counting, slots=2, chunk=4, gated=True)
    other = Answer(scheduler, Generation(prompt=[5], max_tokens=20))
    wait_until(lambda: scheduler.slots_in_use == 1)
    reading = Answer(scheduler, Generation(prompt=[3] * 30, max_tokens=3))
    runner.gate.release(4)
    wait_until(lambda: scheduler.slots_in_use == 2)
    scheduler.cancel(reading.job)
    runner.gate.release(1000)
    assert other.read()[1] == Done("length", 1, 20)
    assert sum(size for kind, size in runner.calls if kind == "prefill") < 31


def test_a_full_queue_refuses(make):
    runner, scheduler = make(counting, slots=1, queue_limit=2, gated=True)
    answers = [Answer(scheduler, Generation(prompt=[1], max_tokens=2))]
    wait_until(lambda: scheduler.slots_in_use == 1)
    answers += [Answer(scheduler, Generation(prompt=[1], max_tokens=2)) for _ in range(2)]
    with pytest.raises(QueueFull):
        scheduler.submit(Generation(prompt=[1], max_tokens=2), print)
    runner.gate.release(1000)
    assert [answer.read()[1] for answer in answers] == [Done("length", 1, 2)] * 3
    Answer(scheduler, Generation(prompt=[1], max_tokens=2)).read()


def test_a_cancelled_request_gives_its_place_in_the_queue_back(make):
    runner, scheduler = make(counting, slots=1, queue_limit=2, gated=True)
    first = Answer(scheduler, Generation(prompt=[1], max_tokens=2))
    wait_until(lambda: scheduler.slots_in_use == 1)
    waiting = [Answer(scheduler, Generation(prompt=[1], max_tokens=2)) for _ in range(2)]
    for answer in waiting:
        scheduler.cancel(answer.job)

    last = Answer(scheduler, Generation(prompt=[1], max_tokens=2))

    runner.gate.release(1000)
    assert [first.read()[1], last.read()[1]] == [Done("length", 1, 2)] * 2


def test_a_prompt_that_breaks_the_model_fails_alone(make):
    runner, scheduler = make(counting)
    runner.fail_when = lambda kind, tokens: kind == "prefill" and 66 in tokens
    fine = Answer(scheduler, Generation(prompt=[1], max_tokens=30))
    broken = Answer(scheduler, Generation(prompt=[66], max_tokens=3))
    assert broken.read() == ("", Failed())
    assert fine.read()[1] == Done("length", 1, 30)


def test_a_step_that_breaks_fails_its_answers_and_the_engine_goes_on(make):
    runner, scheduler = make(counting)
    runner.fail_when = lambda kind, _tokens: kind == "decode"
    assert Answer(scheduler, Generation(prompt=[1], max_tokens=3)).read()[1] == Failed()
    runner.fail_when = lambda _kind, _tokens: False
    assert Answer(scheduler, Generation(prompt=[1], max_tokens=3)).read()[1] == Done("length", 1, 3)
    assert scheduler.slots_in_use == 0


def test_a_fault_of_the_scheduler_itself_leaves_nobody_waiting(make, monkeypatch):
    runner, scheduler = make(counting)
    monkeypatch.setattr(runner, "release", lambda _row: 1 / 0)
    first = Answer(scheduler, Generation(prompt=[1], max_tokens=2))
    assert first.read()[1] == Done("length", 1, 2)
    monkeypatch.undo()
    assert Answer(scheduler, Generation(prompt=[1], max_tokens=3)).read()[1] == Done("length", 1, 3)


def test_closing_fails_what_is_unfinished_and_takes_nothing_more(make):
    runner, scheduler = make(counting, slots=1, gated=True)
    answers = [Answer(scheduler, Generation(prompt=[1], max_tokens=50)) for _ in range(3)]
    runner.gate.release(2)
    closing = threading.Thread(target=scheduler.close)
    closing.start()
    runner.gate.release(1000)
    closing.join(PATIENCE)
    assert [answer.read()[1] for answer in answers] == [Failed()] * 3
    with pytest.raises(SchedulerClosed):
        scheduler.submit(Generation(prompt=[1], max_tokens=1), print)


def test_a_seeded_answer_is_the_same_beside_others(make):
    def spread(tokens):
        return 97 + len(tokens) % 26

    sampled = Generation(prompt=[1], max_tokens=20, sampling=Sampling(temperature=5.0, seed=3))
    _, alone = make(spread, slots=1)
    _, busy = make(spread, slots=4)
    expected = Answer(alone, sampled).read()
    answers = [Answer(busy, Generation(prompt=[2] * turn, max_tokens=20)) for turn in (1, 2)]
    assert Answer(busy, sampled).read() == expected
    for answer in answers:
        answer.read()
