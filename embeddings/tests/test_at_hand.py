"""An encoder and indexes for commands, with a model process and without one."""

import pytest
from asgiref.sync import async_to_sync

from embeddings import at_hand, client
from embeddings.errors import EncoderError
from embeddings.indexes import client as indexes
from embeddings.search import search
from embeddings.tests.indexes.library import add_document, make_collection
from llmsite.testing.site import free_port

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def nobody(settings, tmp_path):
    settings.MODEL_URL = f"http://127.0.0.1:{free_port()}"
    settings.INDEX_ROOT = tmp_path / "indexes"
    return settings.MODEL_URL


def test_a_model_process_that_is_there_is_asked(model_process, settings):
    before = settings.MODEL_URL
    with at_hand.model_process():
        assert before == settings.MODEL_URL


def test_where_there_is_none_a_command_has_its_own(monkeypatch, nobody, settings, encoder, alice):
    monkeypatch.setattr("embeddings.encoder.load_encoder", lambda *_, **__: encoder)
    collection = make_collection(alice)
    with at_hand.model_process():
        assert async_to_sync(client.embed)(["a"]).model == "scripted"
        add_document(collection, "a cat")
        assert indexes.sync(collection.pk) == 2
        found = async_to_sync(search)(alice, "cat")
        assert [passage.text for passage in found.passages] == ["a cat"]
    assert nobody == settings.MODEL_URL
    assert (settings.INDEX_ROOT / str(collection.pk)).is_dir()


def test_an_encoder_that_cannot_be_loaded_is_told(monkeypatch, nobody, settings):
    def load(*_, **__):
        raise EncoderError("EMBEDDING_MODEL: no.")

    monkeypatch.setattr("embeddings.encoder.load_encoder", load)
    with pytest.raises(EncoderError, match="EMBEDDING_MODEL: no"), at_hand.model_process():
        pass
    assert nobody == settings.MODEL_URL
