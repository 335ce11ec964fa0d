"""Which texts go through the model together, and in which order."""

import threading
from concurrent.futures import wait

import numpy as np
import pytest

from embeddings import batches as module
from embeddings.batches import BATCH_TEXTS, Batches
from embeddings.errors import EmbedderClosed, QueueFull
from embeddings.tests.fakes import ScriptedEncoder, vector_of

PATIENCE = 20


class Running:
    """A queue with its thread, which stands in the middle of a first batch until `go`."""

    def __init__(self, encoder, most_tokens):
        self.encoder = encoder
        self.batches = Batches(most_tokens=most_tokens)
        self._thread = threading.Thread(target=self.batches.run, args=(encoder.encode,))

    def __enter__(self):
        self.encoder.gated = True
        self._thread.start()
        self._results = []
        self.submit("first")
        assert self.encoder.started.acquire(timeout=PATIENCE)
        return self

    def submit(self, *texts, kind="passage"):
        result = self.batches.submit(texts, self.encoder.lengths(texts, kind), kind)
        self._results.append(result)
        return result

    def go(self):
        """Let everything run, and give the batches after the first."""
        self.encoder.release_all()
        wait([result for result in self._results if not result.cancelled()], PATIENCE)
        return self.encoder.batches[1:]

    def __exit__(self, *_):
        self.encoder.release_all()
        self.batches.close()
        self._thread.join()


@pytest.fixture
def running(encoder):
    with Running(encoder, most_tokens=40) as queue:
        yield queue


def words(count, name="w"):
    return " ".join([name] * count)


def test_what_arrives_meanwhile_goes_together_and_comes_back_in_order(running):
    results = [running.submit(f"{at} b", f"{at}") for at in range(3)]

    assert len(running.go()) == 1
    for at, result in enumerate(results):
        assert np.array_equal(result.result(PATIENCE), [vector_of(f"{at} b"), vector_of(f"{at}")])


def test_the_shortest_texts_of_a_request_go_first(running):
    running.submit(words(3), words(1), words(2))

    assert running.go() == [[words(1), words(2), words(3)]]


def test_a_batch_has_only_so_many_texts():
    encoder = ScriptedEncoder()
    with Running(encoder, most_tokens=10_000) as queue:
        texts = [str(at) for at in range(BATCH_TEXTS + 1)]
        queue.submit(*texts)

        assert [len(batch) for batch in queue.go()] == [BATCH_TEXTS, 1]


def test_a_batch_has_only_so_many_tokens_with_its_padding(running):
    running.submit(*(words(1, str(at)) for at in range(4)), words(20), words(21))

    # 4 × 1 fit; with one of 20 beside them the batch would have 5 × 20 tokens.
    assert [len(batch) for batch in running.go()] == [4, 1, 1]


def test_a_text_over_the_budget_goes_alone(running):
    running.submit(words(50))

    assert running.go() == [[words(50)]]


def test_a_question_waits_for_one_batch_of_a_book_and_not_for_all(running):
    running.submit(*(words(20, f"book{at}") for at in range(6)))
    running.submit("question")

    at = next(at for at, batch in enumerate(running.go()) if "question" in batch)
    assert at == 1


def test_the_two_kinds_of_text_are_not_mixed(running):
    running.submit("a", kind="query")
    running.submit("b", kind="passage")
    running.submit("c", kind="query")

    assert running.go() == [["a", "c"], ["b"]]


def test_what_nobody_waits_for_any_more_is_not_computed(running):
    running.submit("given up").cancel()
    running.submit("wanted")

    assert running.go() == [["wanted"]]


def test_a_failure_ends_only_the_requests_of_its_batch(running):
    failed = running.submit("fail", "with it")
    other = running.submit("a question", kind="query")
    running.go()

    with pytest.raises(RuntimeError, match="no memory"):
        failed.result(PATIENCE)
    assert other.result(PATIENCE).shape == (1, 4)


def test_the_queue_has_an_end_but_a_single_request_always_fits(running, monkeypatch):
    monkeypatch.setattr(module, "MOST_WAITING", 10)
    running.submit("x" * 1000)

    with pytest.raises(QueueFull):
        running.submit("y")


def test_closing_gives_up_what_waits_and_takes_nothing_more(running):
    waiting = running.submit("late")
    running.batches.close()

    with pytest.raises(EmbedderClosed):
        waiting.result(PATIENCE)
    with pytest.raises(EmbedderClosed):
        running.submit("later")
