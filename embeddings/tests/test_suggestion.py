"""What would make a collection easier to search."""

import pytest

from embeddings.models import DocumentVersion
from embeddings.suggestion import suggestion
from embeddings.tests.indexes.library import add_document, make_collection

pytestmark = pytest.mark.django_db


@pytest.fixture
def books(alice):
    collection = make_collection(alice)
    for language in ("en", "en", "en", "", "es"):
        add_document(collection, "text", language=language)
    return collection


def test_documents_in_other_languages_want_another_encoder(books):
    assert suggestion(books) == "multilingual-e5-small"


def test_few_of_them_do_not(books):
    add_document(books, "text", language="en")

    assert suggestion(books) is None


def test_neither_does_an_encoder_that_reads_them(books, settings):
    settings.EMBEDDING_MODEL = "intfloat/multilingual-e5-small"

    assert suggestion(books) is None


def test_nor_an_empty_collection(books):
    DocumentVersion.objects.all().delete()

    assert suggestion(books) is None
