"""The host brings indexes up to what the database says, and searches them."""

import errno
import os
import shutil

import numpy as np
import pytest
from django.db import OperationalError, connection

from embeddings.indexes import host as module
from embeddings.indexes import rows
from embeddings.indexes.faiss_index import FaissIndex
from embeddings.indexes.hits import Question
from embeddings.indexes.host import Host
from embeddings.indexes.pgvector_index import PgVectorIndex, has_pgvector
from embeddings.models import Chunk, Collection, Document, SearchIndex, Status, Step
from embeddings.tests.fakes import DIMENSIONS, vector_of
from embeddings.tests.indexes.library import (
    EMBEDDER,
    add_document,
    add_version,
    commit,
    index_of,
    make_collection,
    put_chunks,
)
from llmsite.core.errors import DiskFull

pytestmark = pytest.mark.django_db


def in_memory(target, folder):
    return FaissIndex(target.dimensions, folder)


@pytest.fixture
def host():
    host = Host(None, vectors=in_memory)
    yield host
    host.close()


@pytest.fixture
def books(alice):
    return make_collection(alice)


def looked_up(host, targets, question):
    host.refresh(targets)
    return host.search(targets, question)


def found(host, question, *collections):
    """The texts of the chunks that are named, those whose meaning is nearest first."""
    targets = rows.targets([one.pk for one in collections], active_only=True)
    hits = looked_up(host, targets, Question(question, vector_of(question), EMBEDDER))
    texts = dict(Chunk.objects.values_list("pk", "text"))
    return [texts[hit.chunk] for hit in hits if hit.chunk in texts]


def test_a_search_sees_what_came_and_went_before_it(host, books):
    document = add_document(books, "a cat")
    assert found(host, "cat", books) == ["a cat"]
    add_document(books, "a dog")
    assert set(found(host, "cat", books)) == {"a cat", "a dog"}
    document.delete()
    Collection.objects.filter(pk=books.pk).bump()
    assert found(host, "cat", books) == ["a dog"]


def test_without_news_the_database_is_not_asked(host, books, django_assert_num_queries):
    add_document(books, "a cat")
    found(host, "cat", books)
    targets = rows.targets([books.pk])
    with django_assert_num_queries(0):
        looked_up(host, targets, Question("cat", vector_of("cat"), EMBEDDER))


def test_both_scores_come_for_what_its_words_alone_have_named(host, books, monkeypatch):
    monkeypatch.setitem(module.find.__kwdefaults__, "most", 1)
    add_document(books, "a cat", "far away")
    question = Question("cat", vector_of("far away"), EMBEDDER)

    hits = looked_up(host, rows.targets([books.pk]), question)

    cosine = float(vector_of("a cat") @ vector_of("far away"))
    scores = {hit.chunk: hit for hit in hits}
    cat = Chunk.objects.get(text="a cat").pk
    assert len(scores) == 2
    assert scores[cat].vector == pytest.approx(max(cosine, 0), abs=2e-3)
    assert scores[cat].lexical > 0


def test_vectors_of_another_encoder_are_not_compared(host, books):
    add_document(books, "a cat", "a dog")

    hits = looked_up(host, rows.targets([books.pk]), Question("cat", vector_of("cat"), "another"))

    assert [(hit.vector, hit.lexical is not None) for hit in hits] == [(None, True)]


def test_nor_are_they_beside_an_index_of_the_encoder_that_is_asked(host, alice, books):
    add_document(books, "a cat", index=index_of(books, embedder="another"))
    new = make_collection(alice, "New")
    add_document(new, "a dog")

    question = Question("cat dog", vector_of("a dog"), EMBEDDER)
    hits = looked_up(host, rows.targets([books.pk, new.pk]), question)

    cosines = {Chunk.objects.get(pk=hit.chunk).text: hit.vector for hit in hits}
    assert cosines == {"a cat": None, "a dog": pytest.approx(1, abs=2e-3)}


@pytest.mark.parametrize(
    "change",
    [
        {"step": Step.CHUNKED, "status": Status.EMBEDDING},
        {"status": Status.FAILED, "error": "damaged"},
    ],
)
def test_what_is_not_ready_is_not_held(host, books, change):
    version = add_document(books, "a cat").current
    type(version).objects.filter(pk=version.pk).update(**change)

    assert (host.sync([books.pk]), found(host, "cat", books)) == (0, [])


def test_what_is_being_deleted_is_dropped_at_the_next_word(host, books):
    add_document(books, "a cat")
    assert host.sync([books.pk]) == 2  # in both indexes
    Document.objects.update(deleting_at="2026-01-01T00:00Z")

    assert (host.sync([books.pk]), host.sync([books.pk])) == (2, 0)
    assert found(host, "cat", books) == []


def test_what_goes_while_it_is_taken_in_is_no_error(host, books, monkeypatch):
    gone, kept = add_document(books, "a cat"), add_document(books, "a dog")
    real = rows.versions_of

    def versions_and_lose_one(index):
        versions = real(index)
        gone.delete()
        return versions

    with monkeypatch.context() as patch:
        patch.setattr(rows, "versions_of", versions_and_lose_one)
        host.sync()

    assert found(host, "cat dog", books) == ["a dog"]
    assert kept.current_id in host._opened[index_of(books).pk].vectors.held()
    assert host.sync() == 0


def test_a_version_that_was_cut_anew_is_read_anew(host, books):
    version = add_document(books, "a cat").current
    host.sync()
    version.chunks.all().delete()
    put_chunks(version, "two cats", index=index_of(books))

    assert host.sync() == 2
    assert found(host, "cat", books) == ["two cats"]


def test_a_newer_version_takes_the_place_of_the_old_one(host, books):
    document = add_document(books, "a cat")
    newer = add_version(document, "a tiger")
    put_chunks(newer, "a tiger", index=index_of(books))
    host.sync([books.pk])
    commit(newer)

    assert found(host, "cat", books) == ["a tiger"]


def test_collections_do_not_meet(host, alice, books):
    other = make_collection(alice, "Other")
    add_document(books, "the cat of books")
    add_document(other, "the cat of others")

    assert found(host, "cat", books) == ["the cat of books"]
    assert len(found(host, "cat", books, other)) == 2
    assert found(host, "cat") == []


def test_what_it_holds_outlives_it(tmp_path, books, django_assert_num_queries):
    add_document(books, "a cat", "a dog")
    first = Host(tmp_path, vectors=in_memory)
    first.sync()
    first.close()
    second = Host(tmp_path, vectors=in_memory)

    assert second.sync() == 0
    assert set(found(second, "cat", books)) == {"a cat", "a dog"}
    second.close()


def test_a_lost_folder_is_made_again(tmp_path, books):
    add_document(books, "a cat")
    first = Host(tmp_path, vectors=in_memory)
    first.sync()
    first.close()
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name != ".lock":
            path.unlink()

    second = Host(tmp_path, vectors=in_memory)
    assert found(second, "cat", books) == ["a cat"]
    second.close()


@pytest.mark.parametrize("lost", ["*", "*/words-*/meta.json", "*/words-*/.*", "*/vectors/*"])
def test_what_is_lost_under_way_is_made_again(tmp_path, books, lost):
    """Nobody has to start the process again; before and after, searches find what is there."""
    document = add_document(books, "a cat")
    host = Host(tmp_path, vectors=in_memory)
    host.sync()
    for path in (tmp_path / str(books.pk)).glob(lost):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert found(host, "cat", books) == ["a cat"]

    add_document(books, "a dog")
    assert set(found(host, "cat", books)) == {"a cat", "a dog"}
    document.delete()
    host.sync()
    host.close()
    again = Host(tmp_path, vectors=in_memory)
    assert again.sync() == 0
    assert found(again, "dog", books) == ["a dog"]
    again.close()


@pytest.mark.parametrize("on_disk", [True, False], ids=["on-disk", "in-memory"])
def test_what_fails_once_more_is_told(tmp_path, books, monkeypatch, on_disk):
    """In memory there is no file that opening it again could find lost."""
    add_document(books, "a cat")
    host, asked = Host(tmp_path if on_disk else None, vectors=in_memory), []

    def fail(_self, **_changes):
        asked.append(1)
        raise RuntimeError("broken")

    monkeypatch.setattr(module.LexicalIndex, "change", fail)
    with pytest.raises(RuntimeError, match="broken"):
        host.sync()
    assert len(asked) == (2 if on_disk else 1)
    host.close()


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (OperationalError("gone"), OperationalError),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), DiskFull),
    ],
    ids=["database", "disk-full"],
)
def test_what_is_no_fault_of_its_files_leaves_an_index_open(tmp_path, books, monkeypatch, fault, told):
    add_document(books, "a cat")
    host = Host(tmp_path, vectors=in_memory)
    host.sync()
    opened = host._opened[index_of(books).pk]

    def fail(_index):
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr(rows, "versions_of", fail)
        with pytest.raises(told):
            host.sync()
    assert host._opened[index_of(books).pk] is opened
    host.close()


def test_a_folder_is_for_one_process(tmp_path, books):
    add_document(books, "a cat")
    first, second = Host(tmp_path, vectors=in_memory), Host(tmp_path, vectors=in_memory)
    assert second.sync() == 2
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    assert first.sync() == 2
    assert found(second, "cat", books) == ["a cat"]
    first.close()
    second.close()


def test_the_files_of_a_deleted_collection_go(tmp_path, books):
    add_document(books, "a cat")
    host = Host(tmp_path, vectors=in_memory)
    host.sync()
    folder = tmp_path / str(books.pk)
    assert list(folder.iterdir())
    Collection.objects.filter(pk=books.pk).update(deleting_at="2026-01-01T00:00Z")
    host.sync([books.pk])

    assert not list(folder.iterdir())
    host.close()


def test_who_has_not_seen_a_collection_as_it_is_is_behind(host, books):
    add_document(books, "a cat")
    targets = rows.targets([books.pk])
    assert host.is_behind(targets)
    host.refresh(targets)
    assert not host.is_behind(targets)
    add_document(books, "a dog")
    assert host.is_behind(rows.targets([books.pk]))
    assert not host.is_behind([])


@pytest.fixture
def cats(alice, monkeypatch):
    """Four collections, where two may be open."""
    monkeypatch.setattr(module, "MOST_OPEN", 2)
    many = [make_collection(alice, str(at)) for at in range(4)]
    for collection in many:
        add_document(collection, f"cat {collection.name}")
    return many


def targets_of(*collections):
    return rows.targets([one.pk for one in collections])


def test_those_that_were_not_asked_for_longest_are_closed(host, cats):
    for collection in (cats[0], cats[1], cats[0], cats[2]):
        assert len(found(host, "cat", collection)) == 1

    assert host.counts() == {"open": 2}
    assert not host.is_behind(targets_of(cats[0], cats[2]))
    host.sync()
    assert host.counts() == {"open": 2}


def test_who_may_read_more_than_may_be_open_searches_all_of_it(host, cats, django_assert_num_queries):
    targets = targets_of(*cats)

    assert len(found(host, "cat", *cats)) == 4
    assert not host.is_behind(targets)
    with django_assert_num_queries(0):
        host.refresh(targets)


def test_what_is_being_asked_stays_open_whoever_comes(host, cats):
    mine = targets_of(*cats[:2])
    with host.asking(mine), host.asking(mine[:1]):
        host.refresh(mine)
        host.refresh(targets_of(*cats[2:]))
        assert not host.is_behind(mine)

    host.sync()
    assert host.counts() == {"open": 2}


def test_one_of_two_who_ask_leaves_it_open_to_the_other(host, cats):
    mine = targets_of(cats[0])
    with host.asking(mine):
        host.refresh(mine)
        for others in cats[1:]:
            host.refresh(targets_of(others))
        assert not host.is_behind(mine)


def test_vectors_are_read_as_they_were_written(host, books):
    add_document(books, "a cat", "a dog")
    hits = looked_up(host, rows.targets([books.pk]), Question("", vector_of("a dog"), EMBEDDER))

    best = max(hits, key=lambda hit: hit.vector)
    assert Chunk.objects.get(pk=best.chunk).text == "a dog"
    assert best.vector == pytest.approx(1, abs=2e-3)
    assert np.frombuffer(Chunk.objects.get(pk=best.chunk).vector, "<f2").shape == (4,)


if connection.vendor == "postgresql":

    def test_the_databases_own_vectors_go_with_the_collection(books):
        """Also where another process had them open."""
        assert has_pgvector()
        add_document(books, "a cat")
        Host(None).sync()
        held = PgVectorIndex(SearchIndex.objects.get().pk, DIMENSIONS)
        assert held.held()
        Collection.objects.filter(pk=books.pk).update(deleting_at="2026-01-01T00:00Z")
        Host(None).sync([books.pk])

        assert not held.held()
