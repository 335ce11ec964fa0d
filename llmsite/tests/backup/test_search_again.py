"""A site that was brought back answers from its documents: its indexes are made anew."""

from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client

from embeddings.tests.fakes import ScriptedEncoder
from embeddings.tests.indexes.library import add_document, make_collection
from embeddings.tests.serving import serving
from llmsite.backup.making import make
from llmsite.backup.restoring import restore
from llmsite.tests.backup.test_round_trip import lose_everything

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def model_process(settings):
    """The process `model`, when the machine is a new one."""

    def start():
        return serving(ScriptedEncoder, index_root=settings.INDEX_ROOT)

    return start


def test_a_question_is_answered_from_a_document_after_a_restore_on_a_new_machine(
    alice, alice_headers, folders, model_process, monkeypatch
):
    books = make_collection(alice)
    add_document(books, "The cat sleeps on the roof.", "Rates were raised.", name="cat.txt")
    make(folders / "site.tar.gz")
    lose_everything(folders)

    with model_process() as served:
        monkeypatch.setattr(settings, "MODEL_URL", f"http://127.0.0.1:{served.port}")
        assert restore(folders / "site.tar.gz").problems == []
        made = [path for path in Path(settings.INDEX_ROOT).rglob("*") if path.is_file()]
        answer = Client().post(
            "/api/search",
            {"query": "Where does the cat sleep?", "collection": str(books.pk)},
            content_type="application/json",
            headers=alice_headers,
        )

    assert made, "before anybody searches"
    assert answer.status_code == 200
    first = answer.json()["results"][0]
    assert (first["title"], first["text"]) == ("cat.txt", "The cat sleeps on the roof.")
