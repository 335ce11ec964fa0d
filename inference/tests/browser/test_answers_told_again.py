"""What the chat page says of answers that come from the cache or from another model, and of other models."""

import asyncio

import pytest
from asgiref.sync import sync_to_async

from inference.catalogue import MOST_SECONDS
from inference.models import ChatModelConfig, Generation, Message, ModelFallback
from inference.verified import verify

pytestmark = pytest.mark.asyncio(loop_scope="session")

QUESTION = "What is the capital of France?"


async def ask_twice(visitor):
    """The same question in two conversations: the second answer comes from the cache."""
    await visitor.open()
    await visitor.ask_and_wait(QUESTION, "scripted")
    await visitor.open()
    return await visitor.ask_and_wait(QUESTION, "scripted")


@pytest.mark.flows
async def test_an_answer_of_the_cache_says_so_also_after_a_reload(visit):
    visitor = await visit()
    page = visitor.page
    await visitor.open()
    first = await visitor.ask_and_wait(QUESTION, "scripted")
    assert not await visitor.answer.locator(".message-cache").is_visible()
    assert not await visitor.answer.locator(".message-fresh").is_visible()

    await visitor.open()
    again = await visitor.ask_and_wait(QUESTION, "scripted")

    assert again == first
    badge = visitor.answer.locator(".message-cache")
    assert await badge.is_visible()
    assert await badge.text_content() == "From the cache. This was asked before, and the answer was kept."
    assert await badge.get_attribute("title") == "This was asked before, and the answer was kept."
    assert await page.locator(".announcer").inner_text() == "The answer is complete. It comes from the cache."
    await page.reload()
    assert await badge.is_visible()
    assert await visitor.answer.locator(".message-fresh").is_visible()


@pytest.mark.flows
async def test_a_verified_answer_says_so_also_after_a_reload(visit):
    visitor = await visit()
    page = visitor.page
    await visitor.open()
    await visitor.ask_and_wait(QUESTION, "scripted")
    rated = await Message.objects.select_related("conversation").aget(role="assistant")
    await sync_to_async(verify)(rated, "Paris, says the curator.", source=None)
    await asyncio.sleep(MOST_SECONDS)  # By then every process knows.

    await visitor.open()
    assert await visitor.ask_and_wait(QUESTION, "scripted") == "Paris, says the curator."

    badge = visitor.answer.locator(".message-verified")
    assert await badge.is_visible()
    told = "Verified answer. A curator has checked this answer to this question."
    assert await badge.text_content() == told
    assert not await visitor.answer.locator(".message-cache").is_visible()
    assert "scripted" not in await visitor.answer.locator(".message-facts").inner_text()
    announced = await page.locator(".announcer").inner_text()
    assert announced == "The answer is complete. A curator has checked it."
    await page.reload()
    assert await badge.is_visible()
    assert "scripted" not in await visitor.answer.locator(".message-facts").inner_text()
    # Who wants the model's own word all the same, asks for it.
    await page.get_by_role("button", name="Fresh answer").click()
    await page.wait_for_selector(".message:last-child:not([data-cache])[data-status=finished]")
    assert not await visitor.answer.locator(".message-verified").is_visible()


@pytest.mark.flows
async def test_a_fresh_answer_is_asked_for_by_keyboard(visit):
    visitor = await visit()
    await ask_twice(visitor)
    fresh = visitor.page.get_by_role("button", name="Fresh answer")
    assert await fresh.count() == 1
    assert not await visitor.answer.locator(".message-regenerate").is_visible()

    await fresh.focus()
    await visitor.page.keyboard.press("Enter")
    await visitor.page.wait_for_selector(".message:last-child:not([data-cache])[data-status=finished]")

    assert await visitor.answer.locator(".message-versions a").all_inner_texts() == ["1", "2"]
    assert not await visitor.answer.locator(".message-cache").is_visible()
    assert await visitor.page.evaluate("document.activeElement.matches('.message:last-child')")
    levels = [row.cache async for row in Generation.objects.order_by("created_at")]
    assert [bool(level) for level in levels] == [False, True, False]
    # The first version is there still, and still from the cache; only the last message can be asked anew.
    await visitor.answer.locator(".message-versions a").first.click()
    await visitor.page.wait_for_url("**at=**")
    assert await visitor.answer.locator(".message-cache").is_visible()


@pytest.mark.flows
async def test_an_answer_in_place_of_another_model_says_so_also_after_a_reload(visit):
    visitor = await visit()
    await sync_to_async(put_in_place)("unavailable", "echo")
    await visitor.open()

    assert await visitor.ask_and_wait("Hello", "unavailable") == "Hello"

    note = visitor.answer.locator(".message-note")
    assert await note.inner_text() == "Answered by echo in place of unavailable."
    assert (await visitor.answer.locator(".message-facts").inner_text()).startswith("echo\xa0·")
    await visitor.page.reload()
    assert await note.inner_text() == "Answered by echo in place of unavailable."
    assert await visitor.page.locator("#model").input_value() == "unavailable"


def put_in_place(asked, answers):
    named = ChatModelConfig.objects.named
    ModelFallback.objects.create(model=named(asked), fallback=named(answers))


# --- The list of models ----------------------------------------------------------------------------


async def come_back(page):
    """As if the page had been behind another tab, until the list of models is there anew."""
    async with page.expect_response("**/api/models"):
        await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await page.wait_for_timeout(50)


async def test_a_new_chat_follows_a_switch_made_elsewhere(visit):
    visitor = await visit()
    await visitor.open()
    picker = visitor.page.locator("#model")
    assert await picker.input_value() == "scripted"
    await switch("echo")

    await come_back(visitor.page)
    assert await picker.input_value() == "echo"
    assert await visitor.ask_and_wait("Hello") == "Hello"

    # The conversation stays with its model.
    await switch("scripted")
    await come_back(visitor.page)
    assert await picker.input_value() == "echo"
    await visitor.open()
    assert await picker.input_value() == "scripted"


async def test_what_was_chosen_stays_and_a_model_that_is_gone_gives_way(visit):
    visitor = await visit()
    await visitor.open()
    picker = visitor.page.locator("#model")
    await visitor.page.select_option("#model", "slow")
    await switch("echo")
    await come_back(visitor.page)
    assert await picker.input_value() == "slow"

    await ChatModelConfig.objects.filter(alias="slow").aupdate(is_active=False)
    await come_back(visitor.page)

    assert await picker.input_value() == "echo"
    assert "slow" not in await picker.locator("option").all_inner_texts()


async def test_a_model_that_went_away_under_a_question_gives_way_to_the_default(visit):
    visitor = await visit()
    await visitor.open()
    await visitor.page.select_option("#model", "slow")
    await ChatModelConfig.objects.filter(alias="slow").aupdate(is_active=False)

    async with visitor.page.expect_response("**/api/models"):
        await visitor.ask("Hello")
    await visitor.page.wait_for_function("document.querySelector('#model').value === 'scripted'")

    assert await visitor.page.locator(".composer-error").inner_text() == "There is no model named “slow”."
    assert await visitor.page.input_value("#prompt") == "Hello"


async def switch(alias):
    await sync_to_async(lambda: ChatModelConfig.objects.make_default(ChatModelConfig.objects.named(alias)))()
