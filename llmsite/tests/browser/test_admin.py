"""The admin in a real browser: it works under the site's policy, and markup in any row is text."""

import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async
from django.contrib import admin
from django.urls import reverse

from accounts.models import AuditEvent, Team, User
from accounts.models.audit import AuditKind
from accounts.roles import MEMBER, set_roles
from inference.models import Conversation, Generation, Message

pytestmark = pytest.mark.asyncio(loop_scope="session")

HOSTILE = "<img src=x onerror=alert(1)><script>alert('xss')</script>\u202etxt\x1b[31m"
REASON = "A complaint was filed about it."


@pytest_asyncio.fixture(loop_scope="session")
async def rows(cookies):
    """Alice is a superuser; a person, a team, an answer and what was said all hold markup."""

    def make():
        User.objects.filter(username="alice").update(is_superuser=True, is_staff=True)
        person = User.objects.create(username=HOSTILE, first_name=HOSTILE)
        set_roles(person, [MEMBER])
        Team.objects.create(name=HOSTILE[:100]).members.add(person)
        conversation = Conversation.objects.create(owner=person, title=HOSTILE[:80], model=HOSTILE)
        message = Message.objects.create(conversation=conversation, role="assistant", content=HOSTILE)
        return Generation.objects.create(
            user=person,
            message=message,
            status="failed",
            door="api",
            model_alias=HOSTILE,
            provider=HOSTILE[:50],
            error_code="timeout",
            error_data={"field": HOSTILE},
        )

    return await sync_to_async(make)()


async def test_pages_and_lists_show_markup_as_text(visit, rows):
    visitor = await visit()
    page, opened = visitor.page, []
    page.on("dialog", lambda dialog: opened.append(dialog.message))
    for model in (User, Team, Conversation, Message, Generation):
        row = await sync_to_async(model.objects.last)()
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        for url in (reverse(f"{name}_changelist"), reverse(f"{name}_change", args=[row.pk])):
            await visitor.open(url)
            await page.locator("#content h1").wait_for()
            assert await page.locator("img[src=x]").count() == 0, url
    await visitor.open(reverse("admin:inference_message_changelist"))
    assert "<img src=x" in await page.locator("#result_list").inner_text()
    assert opened == []


async def test_the_first_page_draws_its_charts(visit, rows):
    visitor = await visit()
    await visitor.open("/admin/")
    await visitor.page.locator(".chart").nth(3).wait_for()

    assert await visitor.page.locator(".chart").count() == 4
    assert await visitor.page.locator(".groups caption").count() == 7
    assert len(admin.site._registry) == await visitor.page.locator(".groups tr[class^=model-]").count()


@pytest.mark.parametrize("language", ["en", "es"])
async def test_every_column_of_a_list_is_in_sight_on_a_usual_screen(visit, rows, language):
    usual = {"model_alias": "smollm2-135m-instruct", "input_tokens": 12_345, "output_tokens": 1234}
    await Generation.objects.aupdate(latency_ms=17_702, status="finished", error_code="", **usual)
    await User.objects.filter(username=HOSTILE).aupdate(username="somebody-12")
    visitor = await visit(viewport={"width": 1280, "height": 800}, locale=language)
    for name in ("inference_generation", "inference_chatmodelconfig", "accounts_user"):
        await visitor.open(reverse(f"admin:{name}_changelist"))
        cut_off = (
            "document.querySelector('.results').scrollWidth - document.querySelector('.results').clientWidth"
        )
        assert await visitor.page.evaluate(cut_off) <= 0, name


async def test_the_widgets_work_without_script_or_style_in_the_page(visit, rows):
    """Django's own: a search in a field, the bar at the side, the choice of colours."""
    visitor = await visit()
    page = visitor.page
    team = await sync_to_async(Team.objects.get)()
    await visitor.open(reverse("admin:accounts_team_change", args=[team.pk]))
    await page.locator(".select2-selection").click()
    await page.keyboard.type("ali")
    await page.locator(".select2-results__option", has_text="alice").click()
    await page.get_by_role("button", name="Save", exact=True).click()
    await page.locator(".messagelist .success").wait_for()
    assert await sync_to_async(team.members.filter(username="alice").exists)()

    await page.locator(".theme-toggle").click()
    assert await page.evaluate("document.documentElement.dataset.theme") in ("light", "dark")
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_a_private_text_is_opened_in_one_page(visit, rows):
    visitor = await visit()
    page, opened = visitor.page, []
    page.on("dialog", lambda dialog: opened.append(dialog.message))
    await visitor.open(reverse("admin:inference_message_change", args=[rows.message_id]))
    await page.get_by_role("link", name="Open hidden texts").click()
    await page.get_by_label("Why you have to read it").fill(REASON)
    await page.get_by_role("button", name="Read").click()
    await page.get_by_text("Shown once.").wait_for()

    assert "<script>alert(" in await page.locator(".private-text").inner_text()
    assert opened == []
    assert await AuditEvent.objects.filter(kind=AuditKind.PRIVATE_OPENED).acount() == 1
