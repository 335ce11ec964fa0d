"""The reader: the text that models are given, and the passage that was cited."""

import html
import re
from itertools import pairwise
from uuid import uuid4

import pytest

from conftest import sign_in_client
from embeddings.models import Chunk, Collection, IndexStatus, SearchIndex, Status
from embeddings.pages import reading
from embeddings.pages.reading import Place, excerpt
from embeddings.tests.pages.conftest import make_document, make_version

pytestmark = pytest.mark.django_db

PAGES = [
    "The red fox lives in forests.\n\nIt hunts <mice> & voles at night.",
    "",
    "A third page, about owls.",
]
CITED = "It hunts <mice> & voles"
START = PAGES[0].index(CITED)


@pytest.fixture
def document(shelf):
    return make_document(shelf, pages=PAGES)


def read(client, user, document, **query):
    sign_in_client(client, user)
    return client.get(f"/documents/{document.pk}/", query)


def marked(answer) -> str | None:
    found = re.search(r"<mark[^>]*>(.*?)</mark>", answer.content.decode(), re.DOTALL)
    return html.unescape(found[1]) if found else None


def shown(answer) -> str:
    text = re.search(r'<div class="sheet-text">(.*?)</div>', answer.content.decode(), re.DOTALL)
    return html.unescape(re.sub(r"</?mark[^>]*>", "", text[1])) if text else ""


def test_the_cited_characters_are_marked_and_the_page_is_whole(client, alice, document):
    cited = {"page": 1, "start": START, "end": START + len(CITED), "version": document.current_id}

    answer = read(client, alice, document, **cited)

    assert marked(answer) == CITED
    assert shown(answer) == PAGES[0]
    assert "<mice>" not in answer.content.decode(), "what stands in a document is text, and no markup"


def test_a_chunk_is_found_by_its_number(client, alice, document):
    index = SearchIndex.objects.create(
        collection=document.collection,
        embedder="e",
        dimensions=1,
        chunker="1",
        status=IndexStatus.ACTIVE,
    )
    chunk = Chunk.objects.create(
        index=index, version=document.current, ordinal=0, page=3, start=2, end=7, text="third"
    )

    assert marked(read(client, alice, document, chunk=chunk.pk)) == "third"
    # Of another document, even of the same person, it is none.
    other = make_document(document.collection, "other.pdf", pages=PAGES)
    assert marked(read(client, alice, other, chunk=chunk.pk)) is None


@pytest.mark.parametrize(
    "cited",
    [
        {"chunk": 999_999},
        {"page": 1, "start": 0, "end": 3, "version": uuid4()},
        {"page": 1, "start": 0, "end": 3, "version": "nonsense"},
        {"page": 1, "start": 5_000, "end": 5_010},
        {"page": 1, "start": 9, "end": 3},
        {"page": 2, "start": 0, "end": 3},
    ],
)
def test_a_passage_that_is_there_no_more_is_not_shown_as_another(client, alice, document, cited):
    answer = read(client, alice, document, **cited)

    assert answer.status_code == 200
    assert marked(answer) is None
    assert "The cited passage is not in this text any more" in answer.content.decode()


def test_pages_lead_to_each_other(client, alice, document):
    first, second, last = (read(client, alice, document, page=page) for page in (1, 2, 99))

    assert 'rel="prev"' not in first.content.decode()
    assert 'rel="next" href="?page=2"' in first.content.decode()
    assert "There is no text on this page." in second.content.decode()
    assert shown(last) == PAGES[2]
    assert 'rel="next"' not in last.content.decode()


@pytest.mark.parametrize("page", ["0", "-1", "x", "9" * 40, "²", ""])
def test_what_is_no_page_is_the_first(client, alice, document, page):
    assert shown(read(client, alice, document, page=page)) == PAGES[0]


def test_a_cover_without_text_is_not_where_reading_begins(client, alice, shelf):
    document = make_document(shelf, "scan.pdf", pages=["", "", *PAGES])

    assert shown(read(client, alice, document)) == PAGES[0]
    assert "There is no text on this page." in read(client, alice, document, page=1).content.decode()


def test_a_document_on_its_way_says_so(client, alice, shelf):
    document = make_document(shelf, status=Status.PARSING, progress=10)
    failed = make_document(shelf, "scan.pdf", status=Status.FAILED, error="empty")

    assert "Its text can be read here when it is ready." in read(client, alice, document).content.decode()
    assert "It has no text." in read(client, alice, failed).content.decode()


def test_the_version_that_is_searched_is_the_one_that_is_read(client, alice, document):
    make_version(document, pages=["Something new"], number=2, status=Status.EMBEDDING)

    assert shown(read(client, alice, document)) == PAGES[0]


# --- Long texts ---------------------------------------------------------------------------------------

WORDS = [f"Paragraph {number} speaks of foxes, ñandúes 🦊 and owls. " * 3 for number in range(400)]


@pytest.fixture(params=["\n\n", " ", ""], ids=["paragraphs", "words", "no breaks"])
def long_text(request) -> str:
    words = [word.replace(" ", "_") for word in WORDS] if not request.param else WORDS
    return request.param.join(words)


def test_the_parts_of_a_long_text_are_all_of_it_both_ways(alice, long_text):
    version = make_document(
        Collection.objects.create(owner=alice, name="Long"), pages=[long_text], is_paged=False
    ).current
    forth = [excerpt(version, 1)]
    while forth[-1].later is not None:
        forth.append(excerpt(version, 1, begin=forth[-1].later))
    back = [forth[-1]]
    while back[-1].earlier is not None:
        back.append(excerpt(version, 1, begin=back[-1].earlier))

    assert len(forth) > 5
    for parts in (forth, back[::-1]):
        assert (parts[0].start, parts[-1].end) == (0, len(long_text))
        for part, following in pairwise(parts):
            assert part.start < following.start <= part.end < following.end
    for part in [*forth, *back]:
        assert part.before + part.marked + part.after == long_text[part.start : part.end]
        assert part.end - part.start <= reading.WINDOW + 1_000


def test_a_passage_in_a_long_text_stands_within_the_part_around_it(alice, long_text):
    version = make_document(
        Collection.objects.create(owner=alice, name="Long"), pages=[long_text], is_paged=False
    ).current
    for start in (0, 10, 7_990, 20_000, len(long_text) - 50):
        found = excerpt(version, 1, marked=Place(1, start, start + 50))

        assert found.marked == long_text[start : start + 50]
        assert found.before == long_text[found.start : start]
