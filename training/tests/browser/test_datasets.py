"""Data sets in a real browser: looked at as soon as a file is chosen, imported, read, deleted."""

import json

import pytest
from asgiref.sync import sync_to_async

from accounts.models import User
from accounts.roles import OPERATOR, set_roles
from training.models import Dataset, DatasetVersion
from training.tests.files import SFT, json_lines

pytestmark = pytest.mark.asyncio(loop_scope="session")

HOSTILE = "<img src=x onerror=alert(1)><script>alert('xss')</script>"
MANY = [{"prompt": f"Question {at}? {HOSTILE}", "completion": f"Answer {at}."} for at in range(25)]


def file(records: list, name: str = "animals.jsonl") -> dict:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": json_lines(records)}


@pytest.fixture
def operator(cookies):
    """Alice, who may run the site."""
    alice = User.objects.get(username="alice")
    set_roles(alice, [OPERATOR])
    return alice


async def dialogs_of(page) -> list[str]:
    opened: list[str] = []
    page.on("dialog", lambda dialog: opened.append(dialog.message))
    return opened


@pytest.mark.flows
async def test_a_file_is_looked_at_imported_read_and_deleted(visit, operator):
    visitor = await visit()
    page = visitor.page
    opened = await dialogs_of(page)
    await visitor.open("/training/datasets/")
    await page.set_input_files("#dataset-file", [file(MANY)])
    await page.get_by_role("heading", name="animals.jsonl: 25 rows").wait_for()

    assert await page.input_value("#file_name") == "animals"
    assert await page.locator(".mapping").get_by_text("the question").is_visible()
    assert HOSTILE in await page.locator("#preview .row-text").first.inner_text()
    assert not await sync_to_async(Dataset.objects.exists)()

    await page.get_by_role("button", name="Import").click()
    await page.get_by_text("animals, version 1: 25 rows.").wait_for()
    assert HOSTILE in await page.locator(".row-text").first.inner_text()
    await page.get_by_role("link", name="Next rows").click()
    await page.get_by_text("21 to 25 of 25").wait_for()
    assert await page.locator(".row").count() == 5

    await page.get_by_text("Delete the data set").click()
    await page.get_by_role("button", name="Delete it and its versions").click()
    await page.get_by_text("animals is deleted.").wait_for()
    assert not await sync_to_async(Dataset.objects.exists)()
    assert opened == []


async def test_bad_rows_are_named_before_they_refuse_the_file(visit, operator):
    visitor = await visit()
    page = visitor.page
    await visitor.open("/training/datasets/")
    await page.set_input_files("#dataset-file", [file([*SFT, {"prompt": HOSTILE}])])
    await page.get_by_text("1 row is not right.").wait_for()
    await page.get_by_text("Which, and why").click()
    assert await page.get_by_text("Line 4: “completion” is missing or empty.").is_visible()

    await page.check("#file_leave_out_bad")
    await page.get_by_role("button", name="Import").click()
    await page.get_by_text("1 row was left out.").wait_for()
    assert (await DatasetVersion.objects.aget()).row_count == 3


async def test_names_of_columns_are_tried_at_once(visit, operator):
    visitor = await visit()
    page = visitor.page
    await visitor.open("/training/datasets/")
    rows = [{"frage": asked, "antwort": "x"} for asked in "abc"]
    await page.set_input_files("#dataset-file", [file(rows)])
    await page.get_by_text("No known shape has these columns: frage, antwort.").wait_for()
    await page.fill("#file_columns", "prompt=frage, completion=antwort")
    await page.keyboard.press("Tab")
    await page.get_by_role("heading", name="animals.jsonl: 3 rows").wait_for()


async def test_what_is_no_data_set_says_why_at_once(visit, operator):
    visitor = await visit()
    page = visitor.page
    await visitor.open("/training/datasets/")
    program = {"name": "set.pkl", "mimeType": "application/octet-stream", "buffer": b"\x80\x05"}
    await page.set_input_files("#dataset-file", [program])
    await page.locator("#preview [role=alert]", has_text="Data sets are taken as JSON").wait_for()
    assert await page.locator(".announcer").inner_text() == ""


async def test_a_narrow_screen_shows_all_of_it(visit, operator):
    visitor = await visit(viewport={"width": 375, "height": 700})
    page = visitor.page
    wide = "() => document.querySelector('main').scrollWidth - document.querySelector('main').clientWidth"
    long = [{"prompt": "a" * 300, "completion": json.dumps(SFT)}, *SFT]
    await visitor.open("/training/datasets/")
    await page.set_input_files("#dataset-file", [file(long, "a" * 80 + ".jsonl")])
    await page.locator("#preview h3").wait_for()
    assert await page.evaluate(wide) == 0

    await page.get_by_role("button", name="Import").click()
    await page.get_by_text("version 1: 4 rows.").wait_for()
    assert await page.evaluate(wide) == 0
    await visitor.open("/training/datasets/")
    assert await page.evaluate(wide) == 0


async def test_it_needs_no_script(visit, operator):
    visitor = await visit(java_script_enabled=False)
    page = visitor.page
    await visitor.open("/training/datasets/")
    await page.set_input_files("#dataset-file", [file(SFT)])
    await page.get_by_role("button", name="Look at it first").click()
    await page.get_by_role("heading", name="animals.jsonl: 3 rows").wait_for()
    await page.fill("#file_name", "Animals")
    await page.set_input_files("#dataset-file", [file(SFT)])
    await page.get_by_role("button", name="Import").click()
    await page.get_by_text("Animals, version 1: 3 rows.").wait_for()
