"""The review of feedback in a real browser: by keyboard, by plain forms, and what is written stays text."""

import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone

from accounts.models import User
from embeddings.models import Collection
from feedback.models import Feedback, ReviewStatus
from feedback.tests.browser.conftest import shows_state
from feedback.tests.making import ANSWER, CORRECTION, QUESTION, make_answer, make_feedback
from feedback.tests.naughty import HOSTILE
from inference.models import VerifiedAnswer

pytestmark = pytest.mark.asyncio(loop_scope="session")

FOCUSED = "(document.querySelector('.queue-item:focus-within') ?? document.activeElement).id"


async def feedback_of_alice(**values) -> Feedback:
    alice = await User.objects.aget(username="alice")
    return await sync_to_async(make_feedback)(alice, **values)


async def alices_answer(question: str = QUESTION, answer: str = ANSWER, **values):
    alice = await User.objects.aget(username="alice")
    return await sync_to_async(make_answer)(alice, question, answer, **values)


async def test_an_entry_is_found_claimed_corrected_and_accepted_without_a_mouse(visit_as, make_curator):
    carla = await make_curator("carla")
    older = await feedback_of_alice(correction=CORRECTION)
    newer = await feedback_of_alice(message=await alices_answer("Who are you?", "Nobody."))
    visitor = await visit_as(carla)
    page = visitor.page
    await visitor.open("/feedback/")

    await page.keyboard.press("j")
    assert await page.evaluate(FOCUSED) == f"feedback-{newer.pk}"
    await page.keyboard.press("j")
    await page.keyboard.press("j")
    assert await page.evaluate(FOCUSED) == f"feedback-{older.pk}"
    await page.keyboard.press("k")
    assert await page.evaluate(FOCUSED) == f"feedback-{newer.pk}"
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"**/feedback/{newer.pk}/")
    await page.keyboard.press("j")
    await page.wait_for_url(f"**/feedback/{older.pk}/")
    await page.keyboard.press("c")
    await shows_state(visitor, "mine")

    # What is typed into a field is text, whatever else its letters do.
    await page.keyboard.press("e")
    await page.keyboard.press("Control+A")
    await page.keyboard.type("Canberra, axcujk.")
    assert await page.input_value("[name=answer]") == "Canberra, axcujk."
    await page.keyboard.press("Escape")
    await page.keyboard.press("l")
    await page.keyboard.type("geography")
    await page.keyboard.press("Escape")
    await page.keyboard.press("3")
    await page.locator("[name=confirmed_impersonal]").press("Space")
    await page.keyboard.press("a")
    await page.wait_for_url(f"**/feedback/{newer.pk}/")

    assert await page.get_by_text("Accepted. This answer is told from now on.").is_visible()
    decided = await Feedback.objects.aget(pk=older.pk)
    assert (decided.status, decided.scope, decided.label) == ("accepted", "site", "geography")
    assert (await VerifiedAnswer.objects.aget()).answer == "Canberra, axcujk."
    await page.keyboard.press("c")
    await shows_state(visitor, "mine")
    await page.keyboard.press("x")
    await page.wait_for_url("**/feedback/")
    assert await page.get_by_text("Nothing waits for review.").is_visible()
    assert (await Feedback.objects.aget(pk=newer.pk)).status == ReviewStatus.REJECTED


async def close_the_keys(page) -> None:
    await page.keyboard.press("Escape")
    await page.locator("#keys-dialog").wait_for(state="hidden")


async def test_the_keys_are_told_and_can_be_switched_off(visit_as, make_curator):
    feedback = await feedback_of_alice()
    visitor = await visit_as(await make_curator("carla"))
    page, first = visitor.page, f"feedback-{feedback.pk}"
    await visitor.open("/feedback/")

    await page.keyboard.press("?")
    await page.click("#keys-dialog [name=shortcuts]")
    await close_the_keys(page)
    await page.keyboard.press("j")
    assert await page.evaluate(FOCUSED) != first
    await page.reload()
    await page.keyboard.press("j")
    assert await page.evaluate(FOCUSED) != first

    # The button leads there still, and back.
    await page.click(".queue-keys")
    await page.click("#keys-dialog [name=shortcuts]")
    await close_the_keys(page)
    await page.keyboard.press("j")
    assert await page.evaluate(FOCUSED) == first
    # With a modifier a key is the browser's.
    await page.keyboard.press("Control+f")
    assert await page.evaluate(FOCUSED) == first
    await page.keyboard.press("f")
    assert await page.evaluate(FOCUSED) == "filter-rating"


async def test_behind_the_list_of_keys_nothing_happens(visit_as, make_curator):
    carla = await make_curator("carla")
    feedback = await feedback_of_alice(claimed_by=carla, claimed_at=timezone.now())
    visitor = await visit_as(carla)
    page, everybody = visitor.page, visitor.page.locator("[name=scope][value=site]")
    await visitor.open(f"/feedback/{feedback.pk}/")

    await page.keyboard.press("?")
    await page.keyboard.press("3")
    assert not await everybody.is_checked()
    await close_the_keys(page)
    await page.keyboard.press("3")
    assert await everybody.is_checked()


async def test_what_only_counts_for_others_is_asked_only_then(visit_as, make_curator):
    carla = await make_curator("carla")
    await Collection.objects.acreate(owner=carla, name="Cities")
    feedback = await feedback_of_alice(correction=CORRECTION, claimed_by=carla, claimed_at=timezone.now())
    visitor = await visit_as(carla)
    page = visitor.page
    await visitor.open(f"/feedback/{feedback.pk}/")
    collection, confirmed = page.locator("[name=collection]"), page.locator("[name=confirmed_impersonal]")

    assert (await collection.is_visible(), await confirmed.is_visible()) == (False, False)
    await page.keyboard.press("2")
    assert (await collection.is_visible(), await confirmed.is_visible()) == (True, True)
    await page.keyboard.press("a")
    await page.get_by_text("Confirm that").wait_for()
    assert await page.locator("[name=scope][value=collection]").is_checked()
    await collection.select_option("Cities")
    await confirmed.check()
    await page.keyboard.press("a")
    await page.get_by_text("Accepted.").wait_for()

    assert (await VerifiedAnswer.objects.select_related("collection").aget()).collection.name == "Cities"


async def test_without_a_script_all_of_it_works_by_plain_forms(visit_as, make_curator):
    feedback = await feedback_of_alice(correction=CORRECTION)
    visitor = await visit_as(await make_curator("carla"), java_script_enabled=False)
    page = visitor.page
    await visitor.open("/feedback/")

    await page.select_option("[name=rating]", "-1")
    await page.click("text=Show")
    await page.click(f"#feedback-{feedback.pk} a")
    await page.get_by_role("button", name="Claim").click()
    await page.get_by_role("button", name="Accept").click()
    await page.get_by_text("Accepted. This answer").wait_for()
    await visitor.open(f"/feedback/{feedback.pk}/")
    await page.click("summary:has-text('Take the decision back')")
    await page.click(".review .is-danger")
    await page.get_by_text("The decision is taken back").wait_for()

    assert not await VerifiedAnswer.objects.aexists()
    assert (await Feedback.objects.aget()).status == ReviewStatus.OPEN


async def test_an_open_page_keeps_its_claim(visit_as, make_curator):
    carla = await make_curator("carla")
    long_ago = timezone.now() - timezone.timedelta(minutes=10)
    feedback = await feedback_of_alice(claimed_by=carla, claimed_at=long_ago)
    visitor = await visit_as(carla)
    await visitor.page.clock.install()
    await visitor.open(f"/feedback/{feedback.pk}/")

    async with visitor.page.expect_response(lambda response: response.url.endswith("/claim/")):
        await visitor.page.clock.fast_forward("05:01")

    assert (await Feedback.objects.aget()).claimed_at > long_ago


async def test_no_string_of_anybodys_does_anything(visit_as, make_curator):
    """In questions, answers, comments and corrections, in labels, and in the answer that is accepted."""
    carla = await make_curator("carla")
    groups = [HOSTILE[start : start + 4] for start in range(0, len(HOSTILE), 4)]
    entries = []
    for group in groups:
        question, answer, comment, correction = group + group[:1] * (4 - len(group))
        message = await alices_answer(question, answer, model_alias=comment[:100])
        claim = {"claimed_by": carla, "claimed_at": timezone.now()}
        words = {"comment": comment, "correction": correction, "label": question[:50]}
        entries.append(await feedback_of_alice(message=message, **words, **claim))
    visitor = await visit_as(carla)
    page = visitor.page
    page.on("dialog", lambda dialog: visitor.problems.append(f"dialog: {dialog.message}"))
    made_by_texts = page.locator(
        ":is(.queue-list, .said, .turns, .facts) :is(script, img, iframe, style, form)"
    )

    await visitor.open("/feedback/")
    assert await page.locator(".queue-item").count() == len(groups)
    assert await made_by_texts.count() == 0
    for entry, group in zip(entries, groups, strict=True):
        await visitor.open(f"/feedback/{entry.pk}/")
        shown = await page.locator(".turn-text, .said-text").evaluate_all(
            "all => all.map((one) => one.textContent)"
        )
        assert set(group) <= set(shown)
        assert await made_by_texts.count() == 0
    # What was stored of it is shown as inert as what was typed.
    await page.fill("[name=answer]", HOSTILE[0])
    await page.keyboard.press("Escape")
    await page.keyboard.press("a")
    await page.get_by_text("Accepted.").wait_for()
    await visitor.open(f"/feedback/{entries[-1].pk}/")
    assert await page.locator(".facts .said-text").is_visible()
    assert await made_by_texts.count() == 0


@pytest.mark.parametrize("width", [320, 375, 768, 1280])
async def test_nothing_stands_out_of_the_page(visit_as, make_curator, width):
    carla = await make_curator("carla")
    message = await alices_answer("a_very_long_word_" * 20, "https://example.org/" + "path/" * 60)
    values = {"comment": "x" * 400, "correction": "y" * 400, "tags": ["wrong", "incomplete", "sources"]}
    feedback = await feedback_of_alice(message=message, **values)
    visitor = await visit_as(carla, viewport={"width": width, "height": 800})
    for step in ("list", "free", "mine", "accepted"):
        await visitor.open("/feedback/" if step == "list" else f"/feedback/{feedback.pk}/")
        if step == "mine":
            await visitor.page.keyboard.press("c")
            await shows_state(visitor, "mine")
            await visitor.page.keyboard.press("2")
        if step == "accepted":
            await visitor.page.keyboard.press("1")
            await visitor.page.keyboard.press("a")
            await visitor.page.wait_for_url("**/feedback/")
            await visitor.open(f"/feedback/{feedback.pk}/")
        assert await visitor.page.evaluate("document.documentElement.scrollWidth") <= width, step
        main = await visitor.page.evaluate(
            "(main => [main.scrollWidth, main.clientWidth])(document.querySelector('main'))"
        )
        assert main[0] <= main[1], step
