"""From a thumbs-down to a verified answer: who asked, a curator, and who asks again."""

import pytest
from asgiref.sync import sync_to_async

from accounts.models import User
from feedback.models import Feedback
from feedback.tests.browser.conftest import shows_state
from inference.models import Generation

pytestmark = pytest.mark.asyncio(loop_scope="session")

QUESTION, RIGHT = "Who leads the Dahlem lab?", "Dr. Imani Okafor leads it."


async def ask_until_verified(visitor, question: str) -> str:
    """Ask anew until the web process has heard of the verified answer, as it does within a second."""
    for _ in range(50):
        await visitor.open()
        text = await visitor.ask_and_wait(question, "echo")
        if await visitor.answer.get_attribute("data-cache") == "verified":
            return text
    raise AssertionError(f"still answered by the model: {text}")


@pytest.mark.flows
async def test_a_correction_is_reviewed_and_told_from_then_on_until_it_is_taken_back(
    visit, visit_as, make_curator
):
    carla, bob = await make_curator("carla"), await User.objects.acreate(username="bob")
    asker = await visit()
    await asker.open()
    assert await asker.ask_and_wait(QUESTION, "echo") == QUESTION

    await asker.answer.locator(".message-rating [data-rating='-1']").click()
    await asker.answer.locator(".message-rating [aria-pressed=true]").wait_for()
    form = asker.answer.locator(".feedback-form")
    await form.locator("[name=correction]").fill(RIGHT)
    await form.get_by_role("button", name="Save").click()
    await form.wait_for(state="detached")

    curator = await visit_as(carla)
    await curator.open("/chat/")
    await curator.page.click(".user-menu summary")
    await curator.page.get_by_role("link", name="Feedback").click()
    await curator.page.wait_for_url("**/feedback/")
    await curator.page.keyboard.press("j")
    await curator.page.keyboard.press("Enter")
    await shows_state(curator, "free")
    await curator.page.keyboard.press("c")
    await shows_state(curator, "mine")
    assert await curator.page.input_value("[name=answer]") == RIGHT
    await curator.page.keyboard.press("a")
    await curator.page.get_by_text("Accepted.").wait_for()

    assert await ask_until_verified(asker, "  who leads the\tDAHLEM lab? ") == RIGHT
    assert await asker.answer.locator(".message-verified").is_visible()
    # It is the author's alone, and the conversation goes on with the model.
    assert await asker.ask_and_wait("And who else?", "echo") == "And who else?"
    other = await visit_as(bob)
    await other.open()
    assert await other.ask_and_wait(QUESTION, "echo") == QUESTION

    feedback = await Feedback.objects.aget()
    await curator.open(f"/feedback/{feedback.pk}/")
    await curator.page.click("summary:has-text('Take the decision back')")
    await curator.page.click(".review .is-danger")
    await shows_state(curator, "free")
    for _ in range(50):
        await asker.open()
        if await asker.ask_and_wait(QUESTION, "echo") == QUESTION:
            break
    assert await asker.answer.get_attribute("data-cache") != "verified"
    count = sync_to_async(Generation.objects.filter(cache="verified", user__username="bob").count)
    assert await count() == 0
