"""Files on their way: what the page says of each, and how much it asks of the site."""

import pytest

from accounts.models import User
from embeddings.models import Collection

pytestmark = pytest.mark.asyncio(loop_scope="session")

MANY = [
    {"name": f"animal {number}.txt", "mimeType": "text/plain", "buffer": b"Animal %d." % number}
    for number in range(6)
]
NOTES = MANY[0]
PROGRAM = {"name": "program.exe", "mimeType": "application/octet-stream", "buffer": b"MZ\x90\x00" * 40}
AT_ONCE = 2


async def make_shelf() -> Collection:
    alice = await User.objects.aget(username="alice")
    return await Collection.objects.acreate(owner=alice, name="Animals")


async def test_the_reason_for_a_refusal_stays_where_the_first_collection_is_made(visit):
    visitor = await visit()
    page = visitor.page
    await visitor.open("/documents/")
    await page.set_input_files("#upload-files", [NOTES, PROGRAM])
    await page.get_by_text("Uploaded: 1. Not taken: 1.").wait_for(state="attached")

    assert await page.locator(".upload-item.is-refused .upload-name").inner_text() == "program.exe"
    await page.locator("tr", has_text=NOTES["name"]).wait_for()
    await page.click("text=Show the documents")
    await page.get_by_role("heading", name="My documents").wait_for()
    assert await page.locator(".upload-item").count() == 0


async def test_a_file_that_is_here_already_says_as_which_document(visit, cookies):
    shelf = await make_shelf()
    visitor = await visit()
    page = visitor.page
    await visitor.open(f"/documents/?collection={shelf.pk}")
    await page.set_input_files("#upload-files", [NOTES])
    await page.locator("tr", has_text=NOTES["name"]).wait_for()
    await page.set_input_files("#upload-files", [NOTES, {**NOTES, "name": "copy.txt"}])
    await page.get_by_text("Uploaded: 0. Here already: 2.").wait_for(state="attached")

    told = [await line.inner_text() for line in await page.locator(".upload-state").all()]
    assert sorted(told) == ["is here already", "is here already, as animal 0.txt"]
    await page.click("text=as animal 0.txt")
    await page.get_by_text("Its text can be read here").wait_for()


class ScarceSite:
    """Answers of the site, which say that few requests are left until `left` is changed."""

    def __init__(self) -> None:
        self.left = 15
        self.asked: list[str] = []

    async def answer(self, route) -> None:
        self.asked.append(route.request.method)
        answer = await route.fetch()
        numbers = {"Limit": 60, "Remaining": self.left, "Reset": 30}
        limits = {f"x-ratelimit-{name.lower()}": str(value) for name, value in numbers.items()}
        await route.fulfill(response=answer, headers={**answer.headers, **limits})


async def test_uploads_and_the_list_leave_room_for_the_person(visit, cookies):
    """Of 60 requests a minute a third is kept; who waits goes on one by one, by what each answer says."""
    shelf, site = await make_shelf(), ScarceSite()
    visitor = await visit()
    page = visitor.page
    await page.clock.install()
    await page.route("**/api/documents", site.answer)
    await page.route(f"**/documents/?collection={shelf.pk}", site.answer)
    await visitor.open(f"/documents/?collection={shelf.pk}")
    site.asked.clear()

    await page.set_input_files("#upload-files", MANY)
    waiting = page.get_by_text("waiting, because the site takes only so many files a minute")
    await waiting.nth(AT_ONCE - 1).wait_for()
    await page.clock.run_for(30_000)
    assert site.asked == ["POST"] * AT_ONCE, "neither another file nor the list, so long as few are left"

    await page.clock.run_for(6_000)
    await waiting.nth(AT_ONCE - 1).wait_for()
    assert len(site.asked) == AT_ONCE + 1, "one, whose answer says that there are still few"

    site.left = 50
    await page.clock.run_for(60_000)
    await page.locator("tr", has_text=MANY[-1]["name"]).wait_for()
    assert site.asked.count("POST") == len(MANY)
