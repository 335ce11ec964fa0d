"""Documents cut and embedded anew, beside what is searched."""

import pytest
from django.core.management import CommandError, call_command
from django_tasks_db.models import DBTaskResult

from embeddings import rebuild as module
from embeddings.deletion import clear_up
from embeddings.management.commands.rebuild_index import chosen
from embeddings.models import Chunk, Collection, IndexStatus, SearchIndex, Status
from embeddings.rebuild import lacking, outdated, rebuild, swap
from embeddings.search import search
from embeddings.tests.indexes.library import add_document, index_of, make_collection, put_chunks
from llmsite.core.errors import EmbedderUnavailable
from llmsite.core.worker import MOST_TRIES, Worker
from llmsite.testing.site import free_port

pytestmark = pytest.mark.django_db(transaction=True)

OLD = "the one before"


@pytest.fixture
def books(alice):
    """Two documents in an index of an encoder that is gone."""
    collection = make_collection(alice)
    old = index_of(collection, embedder=OLD)
    for text in ("a cat", "a dog"):
        add_document(collection, text, index=old)
    return collection


def texts(user, mode="hybrid"):
    from asgiref.sync import async_to_sync

    found = async_to_sync(search)(user, "cat", mode=mode)
    return found.mode, {passage.text for passage in found.passages}


def test_documents_are_searched_by_the_new_encoder_afterwards(model_process, alice, books):
    assert texts(alice) == ("lexical", {"a cat"})
    before = Collection.objects.get().version

    assert rebuild(books) is True

    assert texts(alice, "vector") == ("vector", {"a cat", "a dog"})
    assert texts(alice)[0] == "hybrid"
    index = SearchIndex.objects.get()
    assert (index.embedder, index.status) == ("scripted", IndexStatus.ACTIVE)
    assert Chunk.objects.count() == 2
    assert Collection.objects.get().version > before


def test_a_second_run_has_nothing_to_do(model_process, encoder, books):
    rebuild(books)
    encoder.batches.clear()

    assert rebuild(books) is False
    assert encoder.batches == [["."]]


def test_a_worker_does_it_when_nothing_else_is_to_do(model_process, alice, books):
    fresh = make_collection(alice, name="Fresh")
    add_document(fresh, "a cow", index=index_of(fresh, embedder="scripted"))
    assert list(outdated("scripted")) == [books]

    module.ask_for_rebuild()
    module.ask_for_rebuild()
    assert [ended.how for ended in Worker(beats=False).run_ready()] == ["done"]

    assert texts(alice, "vector")[0] == "vector"
    assert list(outdated("scripted")) == []
    module.ask_for_rebuild()
    assert [ended.how for ended in Worker(beats=False).run_ready()] == ["done"]


def test_a_worker_leaves_it_to_what_is_more_urgent_and_goes_on_later(
    model_process, alice, books, monkeypatch
):
    done, real = [], module._put
    monkeypatch.setattr(module, "_put", lambda index, pk: (done.append(pk), real(index, pk)))
    monkeypatch.setattr("llmsite.core.worker._LOOK_SECONDS", 0)
    module.ask_for_rebuild()
    worker = Worker(beats=False)
    [row] = DBTaskResult.objects.all()
    clear_up.enqueue(str(books.pk), [])
    row = DBTaskResult.objects.get(pk=row.pk)
    assert worker._claim(row)

    assert worker._run(row).how == "given back"
    assert done == []
    assert [ended.how for ended in worker.run_ready()] == ["done", "done"]
    assert len(done) == len(set(done)) == 2


def test_it_waits_for_an_encoder_that_is_away(books, settings):
    settings.MODEL_URL = f"http://127.0.0.1:{free_port()}"
    module.ask_for_rebuild()
    [ended] = Worker(beats=False).run_ready()
    assert (ended.how, ended.reason) == ("waits", "embedder_unavailable")


def test_the_old_one_is_searched_until_the_new_one_is_whole(model_process, alice, books, monkeypatch):
    seen = []
    real = module._put

    def spy(index, pk):
        seen.append(texts(alice))
        real(index, pk)

    monkeypatch.setattr(module, "_put", spy)
    rebuild(books)

    assert seen == [("lexical", {"a cat"})] * 2


def test_a_run_that_was_stopped_goes_on_where_it_was(model_process, encoder, books, monkeypatch):
    real = module._put
    monkeypatch.setattr(module, "_put", lambda index, pk: real(index, pk) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        rebuild(books)
    monkeypatch.setattr(module, "_put", real)
    encoder.batches.clear()
    rebuild(books)

    assert encoder.batches == [["."], ["a dog"]]


def test_a_version_that_comes_at_the_last_moment_is_waited_for(model_process, alice, books, monkeypatch):
    real, late = module.swap, iter(["a late cat"])

    def swap_after_one_more(index):
        for text in late:
            add_document(books, text, index=SearchIndex.objects.get(embedder=OLD))
        return real(index)

    monkeypatch.setattr(module, "swap", swap_after_one_more)
    rebuild(books)

    assert texts(alice)[1] == {"a cat", "a dog", "a late cat"}


def test_what_lacks_a_version_is_not_searched(books):
    index = index_of(books)

    assert (swap(index), lacking(index).count()) == (False, 2)
    assert SearchIndex.objects.get(status=IndexStatus.ACTIVE).embedder == OLD


def test_what_a_running_ingestion_has_in_the_old_one_stays(model_process, books):
    version = add_document(books, "a mouse").current
    Chunk.objects.filter(version=version).delete()
    put_chunks(version, "a mouse", index=SearchIndex.objects.get(embedder=OLD))
    type(version).objects.filter(pk=version.pk).update(status=Status.EMBEDDING)
    type(version.document).objects.filter(pk=version.document_id).update(current=None)
    rebuild(books)

    assert Chunk.objects.filter(index__embedder=OLD).count() == 1
    assert Chunk.objects.filter(index__status=IndexStatus.ACTIVE).count() == 2


def test_a_version_that_goes_meanwhile_is_no_error(model_process, alice, books, monkeypatch):
    real = module._embed

    def embed_and_lose(chunks, embedder):
        real(chunks, embedder)
        if chunks[0].text == "a dog":
            books.documents.get(current__chunks__text="a dog").delete()

    monkeypatch.setattr(module, "_embed", embed_and_lose)
    rebuild(books)

    assert texts(alice)[1] == {"a cat"}


def test_another_encoder_that_comes_meanwhile_puts_nothing_there_and_it_begins_anew(
    model_process, encoder, books, monkeypatch
):
    real = module._put

    def put_by_another(index, pk):
        real(index, pk)
        encoder.name = "a third one"

    monkeypatch.setattr(module, "_put", put_by_another)
    module.ask_for_rebuild()
    [ended] = Worker(beats=False).run_ready()
    assert (ended.how, ended.reason) == ("waits", "embedder_unavailable")
    assert SearchIndex.objects.get(status=IndexStatus.ACTIVE).embedder == OLD
    assert Chunk.objects.filter(index__embedder="scripted").count() == 1

    DBTaskResult.objects.update(run_after="2026-01-01T00:00Z")
    assert [ended.how for ended in Worker(beats=False).run_ready()] == ["done"]
    assert SearchIndex.objects.get().embedder == "a third one"
    assert Chunk.objects.count() == 2


def test_an_encoder_that_fails_is_not_asked_for_ever(model_process, books, monkeypatch):
    monkeypatch.setattr(module, "passage", lambda _chunk: "fail")
    module.ask_for_rebuild()
    worker, how = Worker(beats=False), []
    for _ in range(MOST_TRIES):
        DBTaskResult.objects.update(run_after="2026-01-01T00:00Z")
        how += [ended.how for ended in worker.run_ready()]

    assert how == ["again", "again", "failed"]
    assert SearchIndex.objects.get(status=IndexStatus.ACTIVE).embedder == OLD


def test_without_an_encoder_nothing_changes(settings, books):
    settings.MODEL_URL = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(EmbedderUnavailable):
        rebuild(books)

    assert SearchIndex.objects.get().embedder == OLD


def test_the_command_says_what_it_did(model_process, books, capsys):
    call_command("rebuild_index", collection="Books")
    call_command("rebuild_index", collection=str(books.pk))

    assert capsys.readouterr().out.splitlines() == ["Books: rebuilt", "Books: is up to date"]


def test_a_collection_that_is_not_there_is_told(books):
    assert chosen(None) == [books]
    with pytest.raises(CommandError, match="There is no collection Nowhere"):
        call_command("rebuild_index", collection="Nowhere")
