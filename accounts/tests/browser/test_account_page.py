"""The account page in a real browser, on a real web process."""

import asyncio
import re
import urllib.request
from urllib.error import HTTPError

import pytest
from asgiref.sync import sync_to_async

from accounts.models import ApiKey, Session, User
from accounts.tokens import sign_in
from conftest import PASSWORD

pytestmark = pytest.mark.asyncio(loop_scope="session")

NEW = "battery horse correct"
PHONE = {"viewport": {"width": 375, "height": 812}, "is_mobile": True, "has_touch": True}


async def status_of(site, key):
    """What the API answers to a program with this key."""

    def ask():
        request = urllib.request.Request(f"{site.url}/api/models", headers={"Authorization": f"Bearer {key}"})
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status
        except HTTPError as error:
            error.close()
            return error.code

    return await asyncio.to_thread(ask)


@pytest.mark.flows
async def test_a_key_is_made_copied_used_and_revoked(visit, site):
    visitor = await visit(permissions=["clipboard-read", "clipboard-write"])
    page = visitor.page
    await visitor.open("/chat/")
    await page.click(".user-menu summary")
    await page.click(".user-menu >> text=Account")
    await page.click("#keys summary >> text=New key")
    await page.fill("#keys [name=name]", "Notebook")
    await page.check("#keys [name=scopes][value=chat]")
    await page.click("text=Make the key")

    key = await page.inner_text("#new-key")
    await page.click("[data-copy=new-key]")
    await page.wait_for_selector("[data-copy=new-key] >> text=Copied")
    assert await page.evaluate("navigator.clipboard.readText()") == key
    assert key in await page.inner_text("#example")
    assert await status_of(site, key) == 200

    await page.reload()
    assert page.url == f"{site.url}/account/"
    assert await page.locator("#keys .row").count() == 1
    assert await sync_to_async(ApiKey.objects.count)() == 1

    await page.click("#keys .row summary")
    await page.click("#keys .row >> text=Revoke the key")
    await page.wait_for_selector(".notice >> text=is revoked")
    assert await status_of(site, key) == 401
    assert await page.locator("#keys .row").count() == 0


async def test_a_form_that_is_wrong_is_shown_where_it_is_wrong(visit):
    visitor = await visit()
    page = visitor.page
    await visitor.open("/account/")
    await page.focus("#keys summary >> text=New key")
    await page.keyboard.press("Enter")
    await page.fill("#keys [name=name]", "Notebook")
    await page.fill("#keys [name=rate_limit]", "many")
    await page.keyboard.press("Enter")

    await page.wait_for_selector("#keys .field-error")
    field = page.locator("#keys [name=rate_limit]")
    assert await field.evaluate("field => field === document.activeElement")
    described_by = (await field.get_attribute("aria-describedby")).split()
    error = "".join([await page.locator(f"#{part}").inner_text() for part in described_by])
    assert "such as 20/m" in error
    box = await field.bounding_box()
    assert 0 < box["y"] < 800
    assert await page.input_value("#keys [name=name]") == "Notebook"


async def test_without_a_script_devices_are_logged_out_and_the_password_changes(visit, alice):
    other = await sync_to_async(sign_in)(alice)
    visitor = await visit(java_script_enabled=False)
    page = visitor.page
    await visitor.open("/account/")
    assert await page.locator("#sign-ins .row").count() == 2
    await page.locator("#sign-ins .row").last.locator("button").click()
    assert await page.locator("#sign-ins .row").count() == 1
    assert await page.locator(".notice").inner_text() == "The device is logged out."

    await page.click("text=Change the password")
    await page.fill("[name=password]", PASSWORD)
    await page.fill("[name=new_password1]", NEW)
    await page.fill("[name=new_password2]", NEW)
    await page.click("text=Save the password")

    assert "Your password is changed" in await page.locator(".notice").inner_text()
    assert page.url.endswith("/account/")
    await sync_to_async(alice.refresh_from_db)()
    assert alice.check_password(NEW)
    assert await sync_to_async(Session.objects.live().count)() == 1
    assert other


@pytest.mark.parametrize("options", [{}, {"locale": "es-ES"}, {"color_scheme": "dark"}])
async def test_it_fits_a_phone(options, visit, alice):
    def fill():
        User.objects.filter(pk=alice.pk).update(email=f"{'a' * 60}@{'b' * 60}.example.org")
        for number in range(3):
            ApiKey.objects.create(user=alice, name="N" * 100, public_id=f"0000000{number}")

    await sync_to_async(fill)()
    visitor = await visit(**PHONE, **options)
    page = visitor.page
    for path in ("/account/", "/account/password/"):
        await visitor.open(path)
        width = await page.evaluate(
            "Math.max(...[...document.querySelectorAll('html, main')].map(e => e.scrollWidth))"
        )
        assert width == 375
    for summary in await page.locator("summary").all():
        await summary.evaluate("summary => summary.click()")
    buttons = [await button.bounding_box() for button in await page.locator("main .button").all()]
    assert [box for box in buttons if box is None or box["height"] < 44] == []

    await visitor.open("/account/")
    await page.click(".sidebar-open")
    await page.click(".section-nav a[href$='#usage']")
    await page.wait_for_selector(".sidebar-open[aria-expanded=false]")
    assert page.url.endswith("#usage")
    assert await page.evaluate("document.querySelector('#usage').getBoundingClientRect().top") < 400


@pytest.mark.flows
async def test_a_forgotten_password_is_reset_by_mail(visit, alice, mails):
    await sync_to_async(User.objects.filter(pk=alice.pk).update)(email="alice@example.org")
    visitor = await visit(signed_in=False)
    page = visitor.page
    await visitor.open("/login/")
    await page.click("text=Forgot your password?")
    await page.fill("[name=email]", "alice@example.org")
    await page.click("text=Send the link")
    await page.wait_for_selector("text=Look into your mail")

    await page.goto(await link_in(mails))
    await page.fill("[name=new_password1]", NEW)
    await page.fill("[name=new_password2]", NEW)
    await page.click("text=Save the password")
    await page.click("a >> text=Log in")
    await page.fill("[name=username]", "alice")
    await page.fill("[name=password]", NEW)
    await page.click("button >> text=Log in")

    await page.wait_for_url("**/chat/")


async def link_in(folder):
    """The link of the one mail that the site wrote."""
    for _ in range(200):
        if links := re.findall(r"http://\S+", "".join(mail.read_text() for mail in folder.iterdir())):
            return links[-1]
        await asyncio.sleep(0.05)
    raise AssertionError("no mail came")


@pytest.mark.flows
async def test_an_account_is_deleted_and_its_data_downloaded_before(visit, alice):
    visitor = await visit()
    page = visitor.page
    await visitor.open("/account/#data")
    async with page.expect_download() as download:
        await page.click("text=Download my data")
    assert re.fullmatch(r"llmsite-alice-\d{4}-\d\d-\d\d\.json", (await download.value).suggested_filename)

    await page.click("summary >> text=Delete my account")
    await page.fill("#data [name=username]", "alice")
    await page.fill("#data [name=password]", PASSWORD)
    await page.click("text=Delete my account for good")
    await page.wait_for_selector("text=Your account is deleted")

    assert not await sync_to_async(User.objects.filter(pk=alice.pk).exists)()
    assert [cookie["name"] for cookie in await visitor.context.cookies() if "t" in cookie["name"][-2:]] == []
    await visitor.open("/account/")
    assert "/login/" in page.url
