"""Rating answers in the chat, in a real browser: thumbs, tags, a better answer, and all of it inert."""

import asyncio

import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone

from accounts.models import User
from feedback.models import Feedback
from feedback.tests.naughty import FRAGILE, HOSTILE, SCRIPT, as_read
from inference.models import Conversation, Generation, Message, Status
from inference.providers import scripted

pytestmark = pytest.mark.asyncio(loop_scope="session")

PHONE = {"viewport": {"width": 375, "height": 812}, "is_mobile": True, "has_touch": True}


async def kept():
    return await Feedback.objects.aget()


def thumb(visitor, rating, of=None):
    return (of or visitor.answer).locator(f".message-rating [data-rating='{rating}']")


async def pressed(visitor):
    return [await thumb(visitor, rating).get_attribute("aria-pressed") for rating in (1, -1)]


async def said(visitor, sentence):
    await visitor.page.wait_for_selector(f".announcer:text-is('{sentence}')", state="attached")


SAVED = "Saved. You can say more below the answer."
THANKS = "Your feedback is saved. Thank you."


@pytest.mark.flows
async def test_a_thumb_is_sent_at_once_and_more_can_be_said(visit):
    visitor = await visit()
    page = visitor.page
    await visitor.open()
    await visitor.ask_and_wait("What is a fox?", "echo")
    assert await pressed(visitor) == ["false", "false"]

    await thumb(visitor, -1).click()
    await said(visitor, SAVED)
    assert await pressed(visitor) == ["false", "true"]
    assert (await kept()).rating == -1

    await page.check("text=not true", force=True)
    await page.fill("[name=comment]", "It only repeats me.")
    await page.fill("[name=correction]", "A fox is a small wild dog.")
    await page.click(".feedback-form >> text=Save")
    await said(visitor, THANKS)
    feedback = await kept()
    assert (feedback.tags, feedback.comment) == (["wrong"], "It only repeats me.")
    assert feedback.correction == "A fox is a small wild dog."
    assert await page.locator(".feedback-form").count() == 0

    await page.reload()
    assert await pressed(visitor) == ["false", "true"]
    await thumb(visitor, -1).click()
    assert await page.input_value("[name=correction]") == "A fox is a small wild dog."
    assert await page.is_checked("[name=tags][value=wrong]")


async def test_the_other_thumb_says_the_opposite_and_keeps_the_words(visit):
    visitor = await visit()
    page = visitor.page
    await visitor.open()
    await visitor.ask_and_wait("What is a fox?", "echo")
    await thumb(visitor, -1).click()
    await said(visitor, SAVED)
    await page.check("text=harmful", force=True)
    await page.fill("[name=comment]", "On second thoughts it is fine.")
    assert not await page.is_visible("text=helpful")

    await thumb(visitor, 1).click()
    await page.wait_for_selector(".message-rating [data-rating='1'][aria-pressed=true]")
    feedback = await kept()
    assert (feedback.rating, feedback.tags) == (1, [])
    assert feedback.comment == "On second thoughts it is fine."
    assert await page.is_visible("text=helpful")
    assert not await page.is_visible("text=harmful")


async def test_it_is_taken_back(visit):
    visitor = await visit()
    await visitor.open()
    await visitor.ask_and_wait("What is a fox?", "echo")
    await thumb(visitor, 1).click()
    await said(visitor, SAVED)
    await visitor.page.click("text=Take it back")
    await said(visitor, "Your feedback is taken back.")
    assert await pressed(visitor) == ["false", "false"]
    assert not await Feedback.objects.aexists()


async def test_by_keyboard_alone(visit):
    visitor = await visit()
    page = visitor.page
    await visitor.open()
    await visitor.ask_and_wait("What is a fox?", "echo")
    await thumb(visitor, -1).focus()
    await page.keyboard.press("Enter")
    await said(visitor, SAVED)
    await page.focus("[name=tags][value=wrong]")
    await page.keyboard.press("Space")
    await page.focus("[name=comment]")
    await page.keyboard.type("Short.")
    await page.focus(".feedback-form .is-primary")
    await page.keyboard.press("Enter")
    await said(visitor, THANKS)
    assert await thumb(visitor, -1).evaluate("one => one === document.activeElement")
    assert ((await kept()).tags, (await kept()).comment) == (["wrong"], "Short.")

    await page.keyboard.press("Enter")
    await page.focus("[name=comment]")
    await page.keyboard.press("Escape")
    assert await page.locator(".feedback-form").count() == 0
    assert await thumb(visitor, -1).evaluate("one => one === document.activeElement")


async def test_a_better_answer_begins_with_this_one(visit):
    visitor = await visit()
    page = visitor.page
    scripted.reset()
    await visitor.open()
    await visitor.ask_and_wait("**Bold** words", "echo")
    await thumb(visitor, -1).click()
    await page.click("text=Begin with this answer")
    assert await page.input_value("[name=correction]") == "**Bold** words"
    await page.fill("[name=correction]", "Mine")
    await page.click("text=Begin with this answer")
    assert await page.input_value("[name=correction]") == "Mine"


async def test_a_refusal_stands_in_the_form_and_nothing_typed_is_lost(visit):
    visitor = await visit()
    page = visitor.page
    await visitor.open()
    await visitor.ask_and_wait("What is a fox?", "echo")
    await thumb(visitor, 1).click()
    await said(visitor, SAVED)
    await page.fill("[name=comment]", "a bell: \x07")
    await page.click(".feedback-form >> text=Save")
    await page.wait_for_selector(".feedback-form .form-error >> text=U+0007")
    assert await page.input_value("[name=comment]") == "a bell: \x07"
    await page.fill("[name=comment]", "no bell")
    await page.click(".feedback-form >> text=Save")
    await said(visitor, THANKS)
    assert (await kept()).comment == "no bell"


async def test_a_lost_connection_is_told_and_no_thumb_is_pressed(visit):
    visitor = await visit()
    await visitor.open()
    await visitor.ask_and_wait("What is a fox?", "echo")
    await visitor.page.route("**/api/feedback", lambda route: route.abort())
    await thumb(visitor, 1).click()
    await visitor.page.wait_for_selector(".feedback-form .form-error >> text=cannot be reached")
    assert await pressed(visitor) == ["false", "false"]
    assert not await Feedback.objects.aexists()


async def test_what_is_saved_while_the_thumb_is_on_its_way_is_kept(visit):
    visitor = await visit()
    page, may_go = visitor.page, asyncio.Event()
    await visitor.open()
    await visitor.ask_and_wait("What is a fox?", "echo")

    async def slowly(route):
        await may_go.wait()
        await route.continue_()

    await page.route("**/api/feedback", slowly)
    await thumb(visitor, -1).click()
    await page.fill("[name=comment]", "At once.")
    await page.click(".feedback-form >> text=Save")
    may_go.set()
    await said(visitor, THANKS)
    assert ((await kept()).rating, (await kept()).comment) == (-1, "At once.")


async def test_questions_and_answers_under_way_have_no_thumbs(visit):
    visitor = await visit()
    await visitor.open()
    await visitor.ask("What is a fox?", "endless")
    await visitor.answer_begins()
    assert not await visitor.question.locator(".message-rating").is_visible()
    assert not await visitor.answer.locator(".message-rating").is_visible()
    await visitor.page.click(".composer-send")
    await visitor.answer_ends()
    assert await visitor.answer.locator(".message-rating").is_visible()


async def test_the_author_is_told_who_reads_it_and_whether_it_trains(visit, alice):
    visitor = await visit()
    page = visitor.page
    await visitor.open()
    await visitor.ask_and_wait("What is a fox?", "echo")
    await thumb(visitor, 1).click()
    await page.wait_for_selector("text=A curator may read this conversation up to this answer")
    assert await page.is_visible("text=Models are not trained on it, unless you allow that.")

    await page.click("text=Change this")
    await page.click("text=Allow training")
    await page.wait_for_selector(".notice >> text=You allow training.")
    assert await page.is_visible("text=Allowed since")
    assert (await User.objects.aget(pk=alice.pk)).training_consent_at <= timezone.now()

    await visitor.page.go_back()
    await visitor.open(f"/chat/{(await Conversation.objects.aget()).pk}/")
    await thumb(visitor, 1).click()
    await page.wait_for_selector("text=You allow that models are trained on it.")


async def test_on_a_phone_in_the_dark(visit):
    visitor = await visit(**PHONE, color_scheme="dark")
    page = visitor.page
    await visitor.open()
    await page.select_option("#model", "echo")
    await page.fill("#prompt", "What is a fox?")
    await page.tap(".composer-send")
    await visitor.answer_ends()
    await thumb(visitor, -1).tap()
    await said(visitor, SAVED)
    wide = await page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 375
    for element in await page.locator(".message-rating button, .feedback-form button, .feedback-tag").all():
        if await element.is_visible():
            box = await element.bounding_box()
            assert box["height"] >= 40 or "feedback-take" in await element.get_attribute("class"), box
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 375


# --- Texts that would be more than text ---------------------------------------------------------------


@sync_to_async
def rated(user, texts):
    """A conversation with an answer for each text, rated with it."""
    conversation = Conversation.objects.create(owner=user, title="Naughty")
    parent = None
    for text in texts:
        parent = Message.objects.create(conversation=conversation, role="user", content=text, parent=parent)
        parent = Message.objects.create(
            conversation=conversation, role="assistant", content=text, parent=parent
        )
        Generation.objects.create(
            user=user,
            message=parent,
            status=Status.FINISHED,
            model_alias="echo",
            provider="echo",
            door="page",
        )
        Feedback.objects.create(user=user, message=parent, rating=-1, comment=text, correction=text)
    return conversation


async def test_naughty_texts_are_only_text(visit, alice):
    """Even as no sanitizing has touched them: the rows are written past it."""
    conversation = await rated(alice, [*HOSTILE, *FRAGILE])
    visitor = await visit()
    page, dialogs = visitor.page, []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    await visitor.open(f"/chat/{conversation.pk}/")
    for answer in await page.locator(".message[data-role=assistant]").all():
        await answer.scroll_into_view_if_needed()
        await thumb(visitor, -1, of=answer).click()
    forms = await page.locator(".feedback-form").all()
    assert len(forms) == len(HOSTILE) + len(FRAGILE)
    for form, text in zip(forms, [*HOSTILE, *FRAGILE], strict=True):
        for name in ("comment", "correction"):
            assert await form.locator(f"[name={name}]").input_value() == text
    assert dialogs == []
    assert await page.locator(".feedback-form :is(script, img, iframe, svg, style, meta, base)").count() == 0
    assert page.url == f"{visitor.site.url}/chat/{conversation.pk}/"


@pytest.mark.flows
async def test_what_is_typed_and_saved_comes_back_as_text(visit):
    visitor = await visit()
    page, dialogs = visitor.page, []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    await visitor.open()
    await visitor.ask_and_wait(SCRIPT, "echo")
    await thumb(visitor, -1).click()
    await said(visitor, SAVED)
    await page.fill("[name=comment]", SCRIPT)
    await page.fill("[name=correction]", f"{SCRIPT} and <img src=x onerror=alert(1)>")
    await page.click(".feedback-form >> text=Save")
    await said(visitor, THANKS)
    await page.reload()
    await thumb(visitor, -1).click()
    assert as_read(await page.input_value("[name=comment]")) == SCRIPT
    assert "<script" not in (await kept()).comment
    assert dialogs == []
