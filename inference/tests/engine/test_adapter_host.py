"""Adapters come and go while others answer; here they are scripted models, and the clock is ours."""

import threading

import pytest

from inference.adapter_files import AdapterRefused
from inference.engine.adapter_host import LINGER_SECONDS, RETRY_SECONDS, AdapterHost, Wanted
from inference.engine.runner import EngineError
from inference.tests.engine.fakes import ScriptedRunner, counting, saying
from inference.tests.engine.serving import scripted_model, serving
from inference.tests.engine.test_scheduler import wait_until

ONE, TWO = Wanted("tiny-1", "a" * 64, "b" * 64), Wanted("tiny-2", "c" * 64, "b" * 64)


class Bench:
    """A host, what it is given to load, and its clock."""

    def __init__(self):
        self.now = 0.0
        self.loads = []
        self.runners = {}
        self.errors = {}
        self.gate = threading.Event()
        self.gate.set()
        self.changes = 0
        self.host = AdapterHost(self.load, changed=self.changed, clock=lambda: self.now)

    def load(self, wanted):
        self.loads.append(wanted.name)
        self.gate.wait()
        if error := self.errors.get(wanted.name):
            raise error
        runner = self.runners.setdefault(wanted.name, ScriptedRunner(saying(f"I am {wanted.name}.")))
        model = scripted_model(runner)
        object.__setattr__(model, "name", wanted.name)
        return model

    def changed(self):
        self.changes += 1

    def states(self):
        return {name: told.state for name, told in self.host.told().items()}

    def want(self, *adapters, at=None):
        self.now = self.now if at is None else at
        self.host.want(adapters)

    def ready(self, *adapters):
        self.want(*adapters)
        wait_until(lambda: set(self.states().values()) <= {"ready"})

    # What the server asks of the service around a host.

    def start(self):
        pass

    def close(self):
        self.gate.set()
        self.host.close()


@pytest.fixture
def bench():
    made = Bench()
    yield made
    made.close()


@pytest.fixture
def served(bench):
    with serving(ScriptedRunner(saying("I am the base model.")), adapters=bench) as running:
        yield running


def test_an_adapter_answers_under_its_own_name_beside_the_base_model(bench, served):
    bench.ready(ONE, TWO)
    assert served.text("Hi", model="tiny-1") == "I am tiny-1."
    assert served.text("Hi", model="tiny-2") == "I am tiny-2."
    assert served.text("Hi", model="scripted") == served.text("Hi") == "I am the base model."
    assert served.chat("Hi", model="tiny-1")[1]["model"] == "tiny-1"
    assert {chunk["model"] for chunk in served.stream("Hi", model="tiny-1") if chunk != "[DONE]"} == {
        "tiny-1"
    }


def test_the_list_of_models_has_those_that_answer_and_what_they_come_from(bench, served):
    bench.ready(ONE)
    bench.gate.clear()
    bench.want(ONE, TWO)
    cards = served.send("GET", "/v1/models")[1]["data"]
    assert [(card["id"], card["parent"]) for card in cards] == [("scripted", None), ("tiny-1", "scripted")]
    assert cards[0]["max_model_len"] == cards[1]["max_model_len"]


def test_health_says_how_each_of_them_is(bench, served):
    bench.ready(ONE)
    bench.errors["tiny-2"] = EngineError("No memory is left.")
    bench.want(ONE, TWO)
    wait_until(lambda: bench.states()["tiny-2"] == "failed")
    assert served.send("GET", "/health")[1]["adapters"] == {
        "tiny-1": {"status": "ready", "slots_in_use": 0, "queued": 0},
        "tiny-2": {"status": "failed"},
    }


def test_tokens_are_counted_by_the_adapters_name_too(bench, served):
    bench.ready(ONE)
    messages = {"messages": [{"role": "user", "content": "Hi"}]}
    counts = [
        served.send("POST", "/tokenize", {**messages, "model": name}) for name in ("scripted", "tiny-1")
    ]
    assert [(status, body["count"]) for status, body, _ in counts] == [(200, 4)] * 2


def test_nobody_waits_for_one_that_is_being_loaded(bench, served):
    bench.gate.clear()
    bench.want(ONE)
    status, body, headers = served.send("POST", "/v1/chat/completions", {
        "model": "tiny-1", "messages": [{"role": "user", "content": "Hi"}]
    })  # fmt: skip
    assert (status, body["error"]["code"], headers["retry-after"]) == (503, "adapter_loading", "1")
    assert served.text("Hi") == "I am the base model."
    bench.gate.set()
    wait_until(lambda: bench.states() == {"tiny-1": "ready"})
    assert served.text("Hi", model="tiny-1") == "I am tiny-1."


@pytest.mark.parametrize(
    "error",
    [
        AdapterRefused("changed", "Its file is not as it was sealed."),
        EngineError("No."),
        MemoryError("no memory"),
    ],
)
def test_one_that_cannot_be_loaded_is_told_and_the_rest_goes_on(bench, served, error):
    bench.errors["tiny-1"] = error
    bench.want(ONE, TWO)
    wait_until(lambda: bench.states() == {"tiny-1": "failed", "tiny-2": "ready"})
    assert str(error) in bench.host.told()["tiny-1"].error
    status, body = served.chat("Hi", model="tiny-1")
    assert (status, body["error"]["code"]) == (503, "adapter_failed")
    assert served.text("Hi", model="tiny-2") == "I am tiny-2."
    assert served.text("Hi") == "I am the base model."


def test_one_that_nobody_wants_is_not_there(bench, served):
    status, body = served.chat("Hi", model="tiny-1")
    assert (status, body["error"]["code"], body["error"]["param"]) == (404, "model_not_found", "model")


def test_it_is_loaded_once_however_often_it_is_wanted(bench):
    bench.ready(ONE)
    bench.want(ONE)
    bench.want(ONE)
    # They are loaded one after the other: one more of the first would come before the second.
    bench.ready(ONE, TWO)
    wait_until(lambda: bench.changes >= 2)
    assert (bench.loads, bench.changes) == (["tiny-1", "tiny-2"], 2)


def test_one_that_nobody_wants_any_more_stays_a_while_is_told_no_more_and_goes(bench):
    bench.ready(ONE)
    scheduler = bench.host.find("tiny-1").scheduler
    bench.want(at=1.0)
    bench.want(at=1.0 + LINGER_SECONDS - 0.1)
    assert bench.states() == {"tiny-1": "ready"}
    bench.want(at=1.0 + LINGER_SECONDS)
    # Whoever reads now what was told does not count on it, and it is there still.
    assert bench.states() == {}
    assert bench.host.find("tiny-1") is not None
    bench.want()
    assert bench.host.find("tiny-1") is None
    assert not scheduler._thread.is_alive()


@pytest.mark.parametrize("at", [5.0, 1.0 + LINGER_SECONDS])
def test_one_that_is_wanted_again_in_time_stays(bench, at):
    bench.ready(ONE)
    bench.want(at=1.0)
    bench.want(at=at)
    bench.want(ONE)
    assert bench.states() == {"tiny-1": "ready"}
    bench.want(ONE, at=at + 100)
    bench.want(ONE)
    assert (bench.states(), bench.loads) == ({"tiny-1": "ready"}, ["tiny-1"])


def test_answers_under_way_are_ended_before_it_goes(bench, served):
    runner = bench.runners["tiny-1"] = ScriptedRunner(counting, context=4096)
    runner.gated = True
    bench.ready(ONE)
    scheduler = bench.host.find("tiny-1").scheduler
    events = served.stream("Hi", model="tiny-1", max_tokens=20)
    assert next(events)
    for at in (1.0, 1.0 + LINGER_SECONDS, 2.0 + LINGER_SECONDS, 3.0 + LINGER_SECONDS):
        bench.want(at=at)
    assert bench.host.find("tiny-1") is None
    assert scheduler._thread.is_alive()

    runner.gated = False
    runner.gate.release(1000)
    *chunks, done = events
    assert (chunks[-1]["choices"][0]["finish_reason"], done) == ("length", "[DONE]")
    wait_until(lambda: not scheduler.slots_in_use)
    bench.want()
    assert not scheduler._thread.is_alive()


def test_one_that_failed_is_tried_again_after_a_while(bench):
    bench.errors["tiny-1"] = EngineError("The volume is not there.")
    bench.want(ONE)
    wait_until(lambda: bench.states() == {"tiny-1": "failed"})
    bench.want(ONE, at=RETRY_SECONDS - 1)
    assert bench.loads == ["tiny-1"]

    del bench.errors["tiny-1"]
    bench.want(ONE, at=RETRY_SECONDS)
    wait_until(lambda: bench.states() == {"tiny-1": "ready"})


def test_one_that_failed_is_forgotten_at_once_and_tried_anew(bench):
    bench.errors["tiny-1"] = EngineError("No.")
    bench.want(ONE)
    wait_until(lambda: bench.states() == {"tiny-1": "failed"})
    bench.want()
    assert bench.states() == {}
    del bench.errors["tiny-1"]
    bench.ready(ONE)


def test_one_that_is_given_up_while_it_loads_leaves_nothing(bench):
    bench.gate.clear()
    bench.want(ONE)
    wait_until(lambda: bench.loads == ["tiny-1"])
    for at in (1.0, 1.0 + LINGER_SECONDS, 2.0 + LINGER_SECONDS):
        bench.want(at=at)
    assert bench.states() == {}
    before = threading.active_count()
    bench.gate.set()
    wait_until(lambda: bench.changes == 1)
    assert bench.host.models() == []
    assert threading.active_count() == before


def test_closing_ends_all_of_them(bench):
    bench.ready(ONE, TWO)
    threads = [bench.host.find(name).scheduler._thread for name in ("tiny-1", "tiny-2")]
    bench.close()
    assert not any(thread.is_alive() for thread in threads)
