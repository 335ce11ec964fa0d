"""Documents in a real browser: uploaded, watched, read where an answer cites them."""

import re

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings

from accounts.models import User
from embeddings.models import Collection, Document, DocumentVersion, Status
from embeddings.tests.pages.conftest import make_document
from inference.models import AnswerSource, Conversation, Generation, Message

pytestmark = pytest.mark.asyncio(loop_scope="session")

NOTES = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"The red fox lives in the forest."}
PROGRAM = {"name": "program.exe", "mimeType": "application/octet-stream", "buffer": b"MZ\x90\x00" * 40}

DROP = """(names) => {
  const transfer = new DataTransfer();
  for (const name of names) transfer.items.add(new File([`The ${name} lives in the forest.`], name));
  for (const type of ["dragover", "drop"]) {
    const options = { dataTransfer: transfer, bubbles: true, cancelable: true };
    document.body.dispatchEvent(new DragEvent(type, options));
  }
}"""


async def become(name: str, status: str, **values) -> None:
    """What a worker would do to the document, step by step."""
    versions = DocumentVersion.objects.filter(document__name=name)
    await versions.aupdate(status=status, **values)


@pytest.mark.flows
async def test_a_file_is_uploaded_and_the_page_follows_it_to_its_end(visit):
    visitor = await visit()
    page = visitor.page
    await visitor.open("/documents/")
    await page.set_input_files("#upload-files", [NOTES])
    row = page.locator("tr", has_text="notes.txt")
    await row.wait_for()
    assert await row.locator(".state").inner_text() == "Queued"

    await become("notes.txt", Status.EMBEDDING, progress=40)
    await row.locator("progress[value='40']").wait_for()
    await row.locator("summary").click()
    await become("notes.txt", Status.READY, progress=100, language="es")
    await row.locator(".is-ready").wait_for()

    assert await page.locator(".announcer").inner_text() == "notes.txt is ready."
    assert await row.locator("td", has_text="Spanish").is_visible()
    assert await row.locator("details[open]").count() == 1, "the question was closed while the row changed"
    await page.click("text=Delete the document")
    await page.get_by_text("notes.txt is deleted.").wait_for()
    assert await page.locator(".document-list tr").count() == 0


async def test_a_file_that_is_not_taken_says_why_and_keeps_out_no_other(visit):
    visitor = await visit()
    page = visitor.page
    await visitor.open("/documents/")
    await page.set_input_files("#upload-files", [NOTES])
    await page.locator("tr", has_text="notes.txt").wait_for()

    await page.set_input_files(
        "#upload-files", [PROGRAM, {**NOTES, "name": "more.txt", "buffer": b"An owl."}]
    )
    await page.locator("tr", has_text="more.txt").wait_for()
    refused = page.locator(".upload-item.is-refused")
    await refused.wait_for()

    assert await refused.locator(".upload-name").inner_text() == "program.exe"
    assert re.search(r"PDF, DOCX", await refused.locator(".upload-state").inner_text())
    assert await page.locator(".announcer").inner_text() == "Uploaded: 1. Not taken: 1."
    await refused.get_by_role("button", name="Dismiss").click()
    assert await page.locator(".upload-item").count() == 0


async def test_many_files_are_dropped_anywhere_on_the_page(visit, cookies):
    alice = await User.objects.aget(username="alice")
    shelf = await Collection.objects.acreate(owner=alice, name="Animals")
    visitor = await visit()
    await visitor.open(f"/documents/?collection={shelf.pk}")
    names = [f"animal {number}.txt" for number in range(6)]

    await visitor.page.evaluate(DROP, names)
    await visitor.page.locator(".document-list tbody tr").nth(5).wait_for()

    stored = Document.objects.filter(collection=shelf).values_list("name", flat=True)
    assert sorted([name async for name in stored]) == names


async def test_a_file_waits_for_the_sign_in_and_for_the_limit(visit):
    """Many files at once are many requests: none is lost because the site takes no more for a while."""
    visitor = await visit()
    page = visitor.page
    await visitor.open("/documents/")
    answers: list[int] = []

    async def refuse_once(route) -> None:
        if not answers:
            answers.append(429)
            refusal = {"error": {"code": "rate_limited", "message": "Too many requests."}}
            await route.fulfill(status=429, json=refusal, headers={"Retry-After": "1"})
            return
        answer = await route.fetch()
        answers.append(answer.status)
        await route.fulfill(response=answer)

    await page.route("**/api/documents", refuse_once)
    await visitor.context.clear_cookies(name=settings.ACCESS_COOKIE)
    await page.set_input_files("#upload-files", [NOTES])
    await page.get_by_text("waiting, because the site takes only so many files a minute").wait_for()
    await page.locator("tr", has_text="notes.txt").wait_for()

    assert answers == [429, 401, 202]


SHOW = """(state) => {
  Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""
# As long as the list waits before a look, and called later: so the list's own time is over by then.
LET_TIME_PASS = "new Promise((done) => setTimeout(done, 100))"


async def test_a_file_that_is_stored_while_nobody_looks_is_there_for_who_comes_back(visit):
    alice = await User.objects.aget(username="alice")
    shelf = await Collection.objects.acreate(owner=alice, name="Animals")
    visitor = await visit()
    page = visitor.page
    await visitor.open(f"/documents/?collection={shelf.pk}")
    await page.evaluate(SHOW, "hidden")
    await page.set_input_files("#upload-files", [NOTES])
    await page.get_by_text("Uploaded: 1.").wait_for(state="attached")
    await page.evaluate(LET_TIME_PASS)
    assert await page.locator(".document-list tr").count() == 0, "nobody sees it, so nobody asks the site"

    await page.evaluate(SHOW, "visible")
    await page.locator("tr", has_text="notes.txt").wait_for()


async def test_uploading_and_deleting_need_no_script(visit):
    visitor = await visit(java_script_enabled=False)
    page = visitor.page
    await visitor.open("/documents/")
    await page.set_input_files("#upload-files", [NOTES, PROGRAM])
    await page.click("text=Upload")
    await page.get_by_text("notes.txt is uploaded.").wait_for()
    assert "program.exe: " in await page.locator(".notice.error").inner_text()

    await page.locator("tr summary").click()
    await page.click("text=Delete the document")
    await page.get_by_text("notes.txt is deleted.").wait_for()


# --- Citations ------------------------------------------------------------------------------------------

IS_IN_VIEW = """(selector) => {
  const { top, bottom } = document.querySelector(selector).getBoundingClientRect();
  return top > 0 && bottom < innerHeight;
}"""
BEFORE = "Some text stands before it, and it is long enough to fill a screen or two. " * 60
PASSAGE = "The red fox hunts at night."
ANSWER = "It hunts at night [1], see also [1, 2] and [7].\n\n```\nlist[1]\n```\n\nAnd [elsewhere][1]."


@sync_to_async
def make_grounded_answer() -> tuple[Conversation, Document]:
    """An answer with two sources, of which the second was deleted since."""
    alice = User.objects.get(username="alice")
    shelf = Collection.objects.create(owner=alice, name="Animals")
    document = make_document(shelf, pages=["First page.", f"{BEFORE}{PASSAGE} {BEFORE}"])
    conversation = Conversation.objects.create(owner=alice, title="Foxes", model="echo")
    question = Message.objects.create(conversation=conversation, role="user", content="When do foxes hunt?")
    answer = Message.objects.create(
        conversation=conversation, role="assistant", content=ANSWER, parent=question
    )
    generation = Generation.objects.create(
        user=alice,
        message=answer,
        status="finished",
        model_alias="echo",
        provider="echo",
        door="rest",
        collection=shelf.pk,
        grounding="passages",
        confidence=0.9,
    )
    place = {"document": document.pk, "version": document.current_id, "collection": shelf.pk, "page": 2}
    start = len(BEFORE)
    AnswerSource.objects.create(
        generation=generation,
        number=1,
        **place,
        title="On foxes",
        start=start,
        end=start + len(PASSAGE),
        text=PASSAGE,
        score=0.8,
    )
    AnswerSource.objects.create(generation=generation, number=2, **place, start=0, end=9, score=0.4)
    return conversation, document


@pytest.mark.flows
async def test_a_citation_leads_to_the_marked_passage(visit, cookies):
    conversation, document = await make_grounded_answer()
    visitor = await visit()
    await visitor.open(f"/chat/{conversation.pk}/")
    citations = visitor.answer.locator("a.citation")
    await citations.first.wait_for()

    # Where the model wrote it and the source is there: not [7], not the deleted [2], not code.
    assert await citations.all_inner_texts() == ["1", "1", "1"]
    assert await visitor.answer.locator("code a").count() == 0
    sources = visitor.answer.locator(".source")
    assert [
        await source.locator(".source-link").get_attribute("href") is None for source in await sources.all()
    ] == [
        False,
        True,
    ]
    assert "This document has been deleted or replaced." in await sources.nth(1).inner_text()
    assert await visitor.page.input_value("#collection") == str(document.collection_id)

    async with visitor.context.expect_page() as opened:
        await citations.first.click()
    reader = await opened.value
    passage = reader.locator("mark#passage")
    await passage.wait_for()
    assert await passage.inner_text() == PASSAGE
    assert await reader.evaluate(IS_IN_VIEW, "mark#passage")
    # A program may name the passage alone.
    await reader.goto(reader.url.removesuffix("#passage"))
    assert await reader.evaluate(IS_IN_VIEW, "mark#passage")


@pytest.mark.parametrize("height", [500, 850])
async def test_the_form_of_a_new_collection_leaves_the_others_in_view(visit, cookies, height):
    alice = await User.objects.aget(username="alice")
    for number in range(20):
        await Collection.objects.acreate(owner=alice, name=f"Shelf {number}")
    visitor = await visit(viewport={"width": 1280, "height": height})
    await visitor.open("/documents/")

    await visitor.page.click("text=New collection")

    await visitor.page.get_by_role("button", name="Make the collection").wait_for()
    collections = await visitor.page.locator(".collections").bounding_box()
    assert collections["height"] >= 100


@pytest.mark.parametrize("width", [320, 375, 768, 1400])
async def test_nothing_stands_out_of_the_page(visit, cookies, width):
    conversation, document = await make_grounded_answer()
    await sync_to_async(make_document)(
        document.collection,
        "a_very_long_name_of_a_file_" * 6 + ".pdf",
        status=Status.FAILED,
        error="encrypted",
    )
    visitor = await visit(viewport={"width": width, "height": 800})
    paths = [
        f"/documents/?collection={document.collection_id}",
        f"/documents/{document.pk}/?page=2&start={len(BEFORE)}&end={len(BEFORE) + 20}#passage",
        f"/chat/{conversation.pk}/",
    ]
    for path in paths:
        await visitor.open(path)
        assert await visitor.page.evaluate("document.documentElement.scrollWidth") <= width, path
        main = await visitor.page.evaluate(
            "(main => [main.scrollWidth, main.clientWidth])(document.querySelector('main'))"
        )
        assert main[0] <= main[1], path
