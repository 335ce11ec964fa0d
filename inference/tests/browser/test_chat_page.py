"""The chat page in a real browser, on a real web process."""

import asyncio

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings

from accounts.models import User
from conftest import PASSWORD
from inference.models import Conversation, Generation, Message, Status
from inference.providers.scripted import SCRIPTS
from inference.tests.waiting import until
from llmsite.testing.site import Site

pytestmark = pytest.mark.asyncio(loop_scope="session")

LONG_ANSWER = "".join(SCRIPTS["long"].pieces or ())

# Notes each text that the last answer shows, one after another.
RECORD_GROWTH = """() => {
  window.shownTexts = [];
  new MutationObserver(() => {
    const text = document.querySelector(".message[data-role=assistant]:last-child .message-body")?.innerText;
    if (text && text !== window.shownTexts.at(-1)) window.shownTexts.push(text);
  }).observe(document.querySelector(".thread"), { childList: true, subtree: true, characterData: true });
}"""


@pytest.mark.flows
async def test_somebody_new_signs_up_asks_and_sees_the_answer_grow(visit):
    visitor = await visit(signed_in=False)
    page = visitor.page
    await visitor.open("/")
    await page.click("text=Create an account")
    await page.fill("[name=username]", "dora")
    await page.fill("[name=password1]", "correct horse battery")
    await page.fill("[name=password2]", "correct horse battery")
    await page.click("text=Create the account")
    await page.wait_for_url("**/chat/")
    assert await page.locator(".welcome").is_visible()
    assert await page.locator(".conversation").count() == 0

    await page.evaluate(RECORD_GROWTH)
    answer = await visitor.ask_and_wait("Tell me about foxes", "slow")

    assert answer.startswith("This is a scripted answer.")
    shown = await page.evaluate("shownTexts")
    assert len(shown) > 3
    assert all(answer.startswith(text.rstrip()) for text in shown)
    assert await visitor.question.locator(".message-body").inner_text() == "Tell me about foxes"
    facts = await visitor.answer.locator(".message-facts").inner_text()
    assert facts.startswith("slow\xa0·")
    assert "tokens\xa0in" in facts
    assert "tokens/s" in facts
    assert await page.locator(".conversation a[aria-current]").inner_text() == "Tell me about foxes"
    assert await page.locator(".announcer").inner_text() == "The answer is complete."


@pytest.mark.flows
async def test_stop_ends_the_answer_and_keeps_its_text(visit):
    visitor = await visit()
    await visitor.open()
    await visitor.ask("Never end", "endless")
    await visitor.answer_begins()
    await visitor.page.click(".composer-send")
    await visitor.answer_ends()

    text = await visitor.answer_text()
    assert text
    assert await visitor.answer.get_attribute("data-status") == "stopped"
    assert await visitor.answer.locator(".message-note").inner_text() == "Stopped."
    await visitor.page.reload()
    assert await visitor.answer_text() == text
    assert await visitor.answer.locator(".message-note").inner_text() == "Stopped."


@pytest.mark.flows
async def test_a_reload_in_the_middle_shows_the_answer_to_its_end(visit):
    visitor = await visit()
    await visitor.open()
    await visitor.ask("Tell me about foxes", "long")
    await visitor.answer_begins()
    await visitor.page.reload()

    assert await visitor.page.get_attribute(".composer", "data-busy") == "true"
    await visitor.answer_ends()
    assert await visitor.answer_text() == LONG_ANSWER.strip()
    assert await visitor.messages() == 2


async def test_a_broken_answer_says_why_and_can_be_tried_again(visit):
    visitor = await visit()
    await visitor.open()
    assert await visitor.ask_and_wait("Go on", "cut") == "One two three"
    note = visitor.answer.locator(".message-note")
    assert "stopped in the middle" in await note.inner_text()

    await visitor.page.select_option("#model", "echo")
    await visitor.answer.locator("text=Try again").click()
    await visitor.page.wait_for_selector(".message:last-child[data-status=finished]")

    assert await visitor.answer_text() == "Go on"
    assert await visitor.answer.locator(".message-versions a").all_inner_texts() == ["1", "2"]
    await visitor.answer.locator(".message-versions a").first.click()
    await visitor.page.wait_for_url("**at=**")
    assert await visitor.answer_text() == "One two three"


async def test_a_refused_question_goes_back_to_the_composer(visit):
    visitor = await visit()
    await visitor.open()
    await visitor.page.evaluate("document.querySelector('#model').selectedOptions[0].value = 'gone'")
    await visitor.ask("Is anybody there?")

    error = visitor.page.locator(".composer-error")
    await error.wait_for()
    assert await error.inner_text() == "There is no model named “gone”."
    assert await visitor.page.input_value("#prompt") == "Is anybody there?"
    assert await visitor.messages() == 0
    await visitor.page.reload()
    assert await visitor.page.locator(".conversation").count() == 0


async def test_an_expired_sign_in_is_renewed_and_a_lost_one_keeps_the_question(visit):
    visitor = await visit()
    await visitor.open()
    await visitor.context.clear_cookies(name=settings.ACCESS_COOKIE)
    assert await visitor.ask_and_wait("Still here?", "echo") == "Still here?"

    await visitor.context.clear_cookies(name=settings.ACCESS_COOKIE)
    await visitor.context.clear_cookies(name=settings.REFRESH_COOKIE)
    await visitor.ask("And now?")
    await visitor.page.wait_for_url("**/login/?next=%2Fchat%2F*")
    await visitor.page.fill("[name=username]", "alice")
    await visitor.page.fill("[name=password]", PASSWORD)
    await visitor.page.keyboard.press("Enter")
    await visitor.page.wait_for_url("**/chat/*/")
    assert await visitor.page.input_value("#prompt") == "And now?"


@pytest.mark.slow
async def test_a_crash_of_the_server_keeps_what_was_written(visit):
    visitor = await visit()
    with Site() as visitor.site:
        await visitor.open()
        await visitor.ask("Never end", "endless")
        await visitor.answer_begins()
        # What is shown is a beat ahead of what is stored.
        await until(Generation.objects.exclude(delta_lengths=[]).exists)
        visitor.site.kill()
        await visitor.page.locator(".connection-lost").wait_for()

    again = Site()
    again.port, again.url = visitor.site.port, visitor.site.url
    with again:
        await visitor.page.wait_for_selector(".message:last-child[data-status=interrupted]", timeout=90_000)
        text = await visitor.answer_text()
        assert text
        assert (LONG_ANSWER * 10).startswith(text)
        assert not await visitor.page.locator(".connection-lost").is_visible()
        assert await visitor.answer.locator("text=Try again").is_visible()


async def test_an_edited_question_makes_a_branch(visit):
    visitor = await visit()
    await visitor.open()
    await visitor.ask_and_wait("First", "echo")
    await visitor.ask_and_wait("Second", "echo")
    first = visitor.page.locator(".message[data-role=user]").first
    await first.hover()
    await first.locator(".message-edit").click()
    await visitor.page.fill(".message-editor textarea", "Other")
    await visitor.page.keyboard.press("Enter")
    await visitor.page.wait_for_selector(".message:nth-child(2):last-child[data-status=finished]")

    assert await visitor.answer_text() == "Other"
    await visitor.page.reload()
    assert await visitor.messages() == 2
    await visitor.page.locator(".message-versions a >> text=1").first.click()
    await visitor.page.wait_for_url("**at=**")
    assert await visitor.messages() == 4


async def test_conversations_are_renamed_and_deleted(visit):
    visitor = await visit()
    page = visitor.page
    await visitor.open()
    await visitor.ask_and_wait("A first title", "echo")
    await page.click("[data-action=rename]")
    await page.fill("#rename-title", "Foxes & dogs <b>")
    await page.keyboard.press("Enter")
    await page.wait_for_selector("#rename-dialog:not([open])", state="attached")
    assert await page.locator(".chat-title").inner_text() == "Foxes & dogs <b>"

    await page.reload()
    assert await page.locator(".conversation-title").inner_text() == "Foxes & dogs <b>"
    await page.click("[data-action=delete]")
    await page.click("#delete-dialog .is-danger")
    await page.wait_for_url("**/chat/")
    assert await page.locator(".conversation").count() == 0


async def test_the_back_button_leads_to_the_empty_page_and_forward_to_the_conversation(visit):
    visitor = await visit()
    await visitor.open()
    await visitor.ask_and_wait("Remember me", "echo")
    await visitor.page.go_back()
    await visitor.page.locator(".welcome").wait_for()
    await visitor.page.go_forward()
    await visitor.page.wait_for_selector(".message-body[data-rendered]")
    assert await visitor.answer_text() == "Remember me"


async def test_going_forward_before_the_script_listens_leads_there_too(visit):
    visitor = await visit()
    await visitor.open()
    await visitor.ask_and_wait("Remember me", "echo")
    gone_forward = asyncio.Event()

    async def late(route):
        await gone_forward.wait()
        await route.continue_()

    await visitor.page.route("**/js/chat.js", late)
    await visitor.page.go_back(wait_until="commit")
    await visitor.page.locator(".welcome").wait_for()
    await visitor.page.go_forward(wait_until="commit")
    gone_forward.set()

    await visitor.page.wait_for_selector(".message-body[data-rendered]")
    assert await visitor.answer_text() == "Remember me"


async def test_everything_works_by_keyboard(visit):
    visitor = await visit()
    page = visitor.page
    await visitor.open()
    await page.keyboard.type("One line")
    await page.keyboard.press("Shift+Enter")
    await page.keyboard.type("and another")
    await page.keyboard.press("Tab")
    await page.keyboard.type("echo")
    await page.keyboard.press("Shift+Tab")
    await page.keyboard.press("Enter")
    await visitor.answer_ends()
    assert await visitor.question.locator(".message-body").inner_text() == "One line\nand another"

    await visitor.ask("Never end", "endless")
    await visitor.answer_begins()
    await page.keyboard.press("Escape")
    await visitor.answer_ends()
    assert await visitor.answer.get_attribute("data-status") == "stopped"

    await page.keyboard.press("Control+k")
    await page.wait_for_url("**/chat/")
    await page.wait_for_selector("#prompt:focus")
    await page.focus(".brand")
    await page.keyboard.press("Shift+Tab")
    await page.keyboard.press("Enter")
    assert await page.evaluate("document.activeElement.id") == "main"


async def test_the_site_speaks_spanish(visit):
    visitor = await visit()
    page = visitor.page
    await visitor.open()
    await page.click(".user-menu summary")
    await page.click("button[value=es]")
    await page.wait_for_selector("html[lang=es]")

    assert await page.get_attribute("#prompt", "placeholder") == "Pregunte algo…"
    await visitor.ask_and_wait("Sigue", "cut")
    assert "se detuvo a mitad de la respuesta" in await visitor.answer.locator(".message-note").inner_text()
    await visitor.ask_and_wait("uno dos", "echo")
    assert "tokens\xa0de\xa0entrada" in await visitor.answer.locator(".message-facts").inner_text()


async def test_a_long_conversation_renders_what_is_near(visit, alice):
    turns = 300
    conversation = await sync_to_async(_converse)(alice, turns)
    visitor = await visit()
    await visitor.open(conversation.get_absolute_url())

    rendered = visitor.page.locator(".message-body[data-rendered]")
    await rendered.last.wait_for()
    assert await visitor.messages() == 2 * turns
    assert await rendered.count() < 60
    assert await visitor.answer.locator("strong").inner_text() == f"{turns - 1}"
    await visitor.page.locator(".message").first.scroll_into_view_if_needed()
    await visitor.page.locator("strong >> text=/^0$/").wait_for()
    assert await visitor.page.locator(".jump").is_visible()
    await visitor.page.click(".jump")
    await visitor.page.wait_for_selector(".jump", state="hidden")


def _converse(user: User, turns: int) -> Conversation:
    """A conversation of `turns` questions, each with an answer that ends with its number in bold."""
    conversation = Conversation.objects.create(owner=user, title="Long")
    messages: list[Message] = []
    for turn in range(turns):
        for role, content in (("user", "And then?"), ("assistant", f"Then comes **{turn}**")):
            parent = messages[-1] if messages else None
            messages.append(Message(conversation=conversation, parent=parent, role=role, content=content))
    Message.objects.bulk_create(messages)
    answers = messages[1::2]
    common = {
        "user": user,
        "door": "page",
        "model_alias": "echo",
        "provider": "echo",
        "status": Status.FINISHED,
    }
    Generation.objects.bulk_create(Generation(message=answer, **common) for answer in answers)
    return conversation


async def test_it_fits_a_phone(visit):
    visitor = await visit(viewport={"width": 375, "height": 667})
    page = visitor.page
    await visitor.open()
    wide = (
        "```python\n"
        + "x = 1 + " * 60
        + "1\n```\n\n| a | b |\n|---|---|\n| "
        + "wide " * 40
        + " | c |\n\n"
        + "w" * 400
    )
    # The first question is the title, which is wider than the screen.
    await visitor.ask_and_wait("Which of the many ways to reverse a string is the one to choose?", "echo")
    await visitor.ask_and_wait(wide, "echo")

    widths = "[document.documentElement, document.querySelector('.chat-scroller')].map(e => e.scrollWidth)"
    assert max(await page.evaluate(widths)) <= 375
    assert not await page.locator(".sidebar").is_visible()
    await page.click(".sidebar-open")
    await page.locator(".sidebar .conversation").wait_for()
    assert await page.evaluate("document.querySelector('.sidebar').contains(document.activeElement)")
    await page.keyboard.press("Escape")
    await page.wait_for_selector(".sidebar", state="hidden")
    assert await page.evaluate("document.activeElement.className.includes('sidebar-open')")


async def test_a_choice_of_colors_stays(visit):
    visitor = await visit(color_scheme="light")
    page = visitor.page
    await visitor.open()
    background = "getComputedStyle(document.body).backgroundColor"
    light = await page.evaluate(background)
    await page.click(".user-menu summary")
    await page.click("text=Dark")
    dark = await page.evaluate(background)
    assert dark != light
    await page.reload()
    assert await page.evaluate(background) == dark


async def test_without_javascript_the_page_is_a_plain_form(visit):
    visitor = await visit(java_script_enabled=False)
    page = visitor.page
    await visitor.open()
    await page.select_option("#model", "echo")
    await page.fill("#prompt", "Plain **words**")
    await page.click(".composer-send")
    await page.wait_for_url("**/chat/*/")
    while not await visitor.answer_text():
        await page.reload()
    assert await visitor.answer_text() == "Plain **words**"
