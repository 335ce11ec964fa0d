"""The index of questions: partitions, bounds and ages, with vectors made up for the purpose."""

import random
import threading

import numpy as np
import pytest

from inference.cache.semantic_index import SemanticIndex

EVER = 1e9


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def vector(seed: int) -> np.ndarray:
    made = np.random.default_rng(seed).standard_normal(16).astype(np.float32)
    return made / np.linalg.norm(made)


def texts(index: SemanticIndex, partition: str, seed: int, threshold: float = 0.99) -> list[str]:
    return [match.text for match in index.find(partition, vector(seed), threshold=threshold)]


def test_the_nearest_come_first_and_only_above_the_threshold():
    index = SemanticIndex()
    near = vector(1) + 0.1 * vector(2)
    index.keep("p", "near", near / np.linalg.norm(near), "v2", ttl=EVER)
    index.keep("p", "same", vector(1), "v1", ttl=EVER)
    index.keep("p", "far", -vector(1), "v3", ttl=EVER)
    found = index.find("p", vector(1), threshold=0.9)
    assert [(match.text, match.value) for match in found] == [("same", "v1"), ("near", "v2")]
    assert found[0].similarity == pytest.approx(1, abs=1e-5)


def test_a_thousand_pairs_of_readers_never_meet():
    """The same question from everybody, at random; each finds nothing but what was kept for themselves."""
    index, chance = SemanticIndex(), random.Random(4)
    readers = [f"reader-{number}" for number in range(200)]
    kept = set()
    for _ in range(1000):
        one, other = chance.sample(readers, 2)
        index.keep(one, "the question", vector(1), one, ttl=EVER)
        kept.add(one)
        for reader in (one, other):
            found = [match.value for match in index.find(reader, vector(1), threshold=0.5)]
            assert found == ([reader] if reader in kept else [])


def test_the_same_text_is_kept_once():
    index = SemanticIndex()
    index.keep("p", "q", vector(1), "old", ttl=EVER)
    index.keep("p", "q", vector(1), "new", ttl=EVER)
    assert [match.value for match in index.find("p", vector(1), threshold=0.9)] == ["new"]
    assert index.counts()["entries"] == 1


def test_what_has_ended_is_not_found_and_takes_no_room():
    clock = Clock()
    index = SemanticIndex(clock=clock)
    index.keep("p", "short", vector(1), "v", ttl=10)
    index.keep("p", "long", vector(2), "v", ttl=100)
    clock.now += 10
    assert texts(index, "p", 1) == []
    assert texts(index, "p", 2) == ["long"]
    clock.now += 90
    assert index.counts() == {"entries": 0, "partitions": 0, "bytes": 0}


def test_the_oldest_makes_room_in_whatever_partition():
    index = SemanticIndex(most_entries=3)
    for number in range(5):
        index.keep(f"p{number % 2}", f"q{number}", vector(number), "v", ttl=EVER)
    assert [number for number in range(5) if texts(index, f"p{number % 2}", number)] == [2, 3, 4]
    assert index.counts()["entries"] == 3


def test_bytes_are_bounded_and_what_is_larger_than_all_is_not_kept():
    index = SemanticIndex(most_bytes=1000)
    for number in range(10):
        index.keep("p", f"q{number}", vector(number), "v" * 200, ttl=EVER)
    assert index.counts()["entries"] == 3
    assert index.counts()["bytes"] <= 1000
    index.keep("p", "huge", vector(99), "v" * 1000, ttl=EVER)
    assert texts(index, "p", 99) == []
    assert index.counts()["entries"] == 3


def test_removal_keeps_texts_and_vectors_together():
    """Entries leave from all places; what is left is found by its own vector only."""
    clock, chance = Clock(), random.Random(5)
    index = SemanticIndex(clock=clock)
    lives = {number: chance.choice([5, 50]) for number in range(60)}
    for number, ttl in lives.items():
        index.keep("p", f"q{number}", vector(number), "v", ttl=ttl)
    clock.now += 5
    for number, ttl in lives.items():
        assert texts(index, "p", number) == ([f"q{number}"] if ttl == 50 else [])


def test_forgetting_by_prefix_and_altogether():
    index = SemanticIndex()
    for partition in ("alice:1", "alice:2", "bob:1"):
        index.keep(partition, "q", vector(1), "v", ttl=EVER)
    assert index.forget("alice:") == 2
    assert texts(index, "alice:1", 1) == []
    assert texts(index, "bob:1", 1) == ["q"]
    assert index.forget() == 1
    assert index.counts() == {"entries": 0, "partitions": 0, "bytes": 0}


def test_many_threads_leave_it_whole():
    index = SemanticIndex(most_entries=40)

    def work(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(200):
            number = chance.randrange(100)
            index.keep(f"p{number % 5}", f"q{number}", vector(number), "v", ttl=EVER)
            assert set(texts(index, f"p{number % 5}", number)) <= {f"q{number}"}

    errors: list[BaseException] = []

    def guarded(seed: int) -> None:
        try:
            work(seed)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    counts = index.counts()
    assert counts["entries"] <= 40
    assert index.forget() == counts["entries"]
    assert index.counts()["bytes"] == 0
