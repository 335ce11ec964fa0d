"""The contract of an index of vectors, held by FAISS and by pgvector."""

from uuid import UUID, uuid4

import numpy as np
import pytest
from django.db import connection

from embeddings.indexes import faiss_index
from embeddings.indexes.faiss_index import FaissIndex
from embeddings.indexes.pgvector_index import PgVectorIndex, has_pgvector, sweep
from embeddings.tests.indexes.library import index_of, make_collection

DIMENSIONS = 24


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float16)


def some(count, *, seed=0):
    return unit(np.random.default_rng(seed).standard_normal((count, DIMENSIONS)))


def chunks(*numbers):
    return np.array(numbers, dtype=np.int64)


def asked(vector):
    return vector.astype(np.float32)


def new_pgvector(**options):
    return PgVectorIndex(1, DIMENSIONS, **options)


@pytest.fixture
def new_index(request, db):
    """Makes an index. The PostgreSQL of the tests has pgvector."""
    if request.param == "faiss":
        return lambda **options: FaissIndex(DIMENSIONS, **options)
    has_pgvector.cache_clear()
    assert has_pgvector()
    return new_pgvector


KINDS = ["faiss"] if connection.vendor == "sqlite" else ["faiss", "pgvector"]
both = pytest.mark.parametrize("new_index", KINDS, indirect=True)


@both
def test_the_nearest_come_first(new_index):
    index, vectors = new_index(), some(20)
    index.add(uuid4(), np.arange(100, 120), vectors)

    found = index.search(asked(vectors[7]), 5)

    cosines = vectors.astype(np.float32) @ asked(vectors[7])
    order = np.argsort(-cosines)[:5]
    assert [match.chunk for match in found] == [100 + at for at in order]
    assert np.allclose([match.score for match in found], cosines[order], atol=2e-3)


@both
def test_it_says_which_versions_it_holds_and_by_which_first_chunk(new_index):
    index, one, other = new_index(), uuid4(), UUID(int=256)
    index.add(one, chunks(5, 6), some(2))
    index.add(other, chunks(9), some(1))

    assert dict(index.held()) == {one: 5, other: 9}
    assert len(index) == 3


@both
def test_a_version_comes_in_place_of_what_it_was(new_index):
    index, version = new_index(), uuid4()
    index.add(version, chunks(1, 2, 3), some(3))
    index.add(version, chunks(7), some(1, seed=1))

    assert dict(index.held()) == {version: 7}
    assert [match.chunk for match in index.search(asked(some(1)[0]), 10)] == [7]


@both
def test_what_is_removed_is_not_found(new_index):
    index, kept, gone = new_index(), uuid4(), uuid4()
    index.add(gone, chunks(1, 2), some(2))
    index.add(kept, chunks(3), some(1, seed=1))
    index.remove([gone, uuid4()])

    assert dict(index.held()) == {kept: 3}
    assert [match.chunk for match in index.search(asked(some(1)[0]), 10)] == [3]


@both
def test_an_empty_one_finds_nothing(new_index):
    index = new_index()

    assert (list(index.search(asked(some(1)[0]), 3)), dict(index.held()), len(index)) == ([], {}, 0)


@both
def test_of_equal_vectors_the_older_chunk_comes_first(new_index):
    index, same = new_index(), np.repeat(some(1), 4, axis=0)
    index.add(uuid4(), chunks(8, 9), same[:2])
    index.add(uuid4(), chunks(2, 3), same[2:])

    assert [match.chunk for match in index.search(asked(same[0]), 4)] == [2, 3, 8, 9]


@both
def test_beyond_what_is_compared_whole_it_still_finds_nearly_all(new_index):
    index, vectors = new_index(exact=500), some(3000)
    for part in range(0, 3000, 500):
        index.add(uuid4(), np.arange(part, part + 500), vectors[part : part + 500])

    questions = some(50, seed=9)
    exact = np.argsort(-(questions.astype(np.float32) @ vectors.astype(np.float32).T), axis=1)[:, :10]
    found = [{match.chunk for match in index.search(asked(one), 10)} for one in questions]
    recall = sum(len(one & set(other)) for one, other in zip(found, exact.tolist(), strict=True)) / 500
    assert recall >= 0.95


@both
def test_what_leaves_a_large_one_is_not_found_either(new_index):
    index, vectors = new_index(exact=100), some(600)
    versions = [uuid4() for _ in range(6)]
    for at, version in enumerate(versions):
        index.add(version, np.arange(at * 100, at * 100 + 100), vectors[at * 100 : at * 100 + 100])
    index.remove(versions[:3])

    found = index.search(asked(vectors[50]), 300)
    assert len(index) == 300
    assert min(match.chunk for match in found) >= 300


# FAISS alone


def faiss_with(folder, versions=3, **options):
    index = FaissIndex(DIMENSIONS, folder, **options)
    vectors = some(versions * 10)
    for at in range(versions):
        index.add(UUID(int=at), np.arange(at * 10, at * 10 + 10), vectors[at * 10 : at * 10 + 10])
    return index, vectors


@pytest.mark.parametrize("exact", [1000, 20], ids=["compared", "in-cells"])
def test_a_snapshot_gives_back_all_of_it(tmp_path, exact):
    index, vectors = faiss_with(tmp_path, exact=exact)
    index.save()
    again = FaissIndex(DIMENSIONS, tmp_path, exact=exact)

    assert (again.held(), len(again), again.is_exact) == (index.held(), 30, exact == 1000)
    assert again.search(asked(vectors[3]), 30) == index.search(asked(vectors[3]), 30)
    again.add(uuid4(), chunks(99), vectors[:1])
    again.remove([UUID(int=0)])
    assert len(again) == 21


@pytest.mark.parametrize("name", ["vectors-1", "versions-1", "manifest.json"])
def test_a_damaged_snapshot_is_as_good_as_none(tmp_path, name):
    index, _ = faiss_with(tmp_path)
    index.save()
    path = tmp_path / faiss_index.VECTORS / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)

    assert dict(FaissIndex(DIMENSIONS, tmp_path).held()) == {}


def test_a_snapshot_of_other_dimensions_is_as_good_as_none(tmp_path):
    faiss_with(tmp_path)[0].save()

    assert dict(FaissIndex(DIMENSIONS + 1, tmp_path).held()) == {}


def test_a_little_more_is_not_worth_a_snapshot_but_a_deletion_is(tmp_path):
    index, vectors = faiss_with(tmp_path, versions=30)
    index.save()
    index.add(uuid4(), chunks(999), vectors[:1])
    index.save()
    assert len(FaissIndex(DIMENSIONS, tmp_path).held()) == 30
    index.remove([UUID(int=1)])
    index.save()
    assert len(FaissIndex(DIMENSIONS, tmp_path).held()) == 30
    assert len(list((tmp_path / faiss_index.VECTORS).iterdir())) == 3
    assert UUID(int=1) not in FaissIndex(DIMENSIONS, tmp_path).held()


def test_cells_are_made_anew_when_there_are_many_more(tmp_path):
    index, _ = faiss_with(None, versions=3, exact=20)
    first = index._cells_for
    for at in range(3, 20):
        index.add(UUID(int=at), np.arange(at * 10, at * 10 + 10), some(10, seed=at))

    assert (first, len(index)) == (30, 200)
    assert index._cells_for > 4 * 30
    assert [match.chunk for match in index.search(asked(some(10, seed=12)[4]), 1)] == [124]


# pgvector alone


@pytest.mark.parametrize("new_index", KINDS[1:], indirect=True)
def test_another_index_in_the_same_table_is_not_met(new_index):
    own, foreign = PgVectorIndex(1, DIMENSIONS, exact=0), PgVectorIndex(2, DIMENSIONS, exact=0)
    vectors = some(400)
    foreign.add(uuid4(), np.arange(0, 390), vectors[:390])
    own.add(uuid4(), np.arange(390, 400), vectors[390:])
    with connection.cursor() as cursor:
        # As in a large table: the graph is the only way to an order by distance.
        cursor.execute("SET LOCAL enable_sort = off; SET LOCAL enable_seqscan = off; ANALYZE")

    assert {match.chunk for match in own.search(asked(vectors[0]), 10)} == set(range(390, 400))
    own.destroy()
    assert (len(own), len(foreign)) == (0, 390)


@pytest.mark.parametrize("new_index", KINDS[1:], indirect=True)
def test_vectors_of_indexes_that_are_gone_are_swept(new_index, alice):
    kept = index_of(make_collection(alice))
    for index in (kept.pk, kept.pk + 1):
        PgVectorIndex(index, DIMENSIONS).add(uuid4(), chunks(1, 2), some(2))
    sweep()

    assert [len(PgVectorIndex(index, DIMENSIONS)) for index in (kept.pk, kept.pk + 1)] == [2, 0]
