"""A visitor with a real browser on the real site.

One web process and one browser serve all tests of a file, so the tests and these fixtures share one
event loop: the tests are marked `asyncio(loop_scope="session")`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from django.conf import settings
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    Request,
)

from accounts.models import User
from conftest import sign_in
from inference.models import ChatModelConfig
from llmsite.testing.site import Site

ENDED = ", ".join(f"[data-status={status}]" for status in ("finished", "stopped", "failed", "cut"))
PATIENCE = 20_000  # milliseconds until a wait is a failure


class Visitor:
    """Somebody at the chat page. `problems` lists what no visit may show."""

    def __init__(self, context: BrowserContext, page: Page, site: Site) -> None:
        self.context = context
        self.page = page
        self.site = site
        self.problems: list[str] = []
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        page.on("console", self._read_console)
        page.on("request", self._check_host)

    def _read_console(self, message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text:
            self.problems.append(message.text)

    def _check_host(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme in ("http", "https") and address.netloc != urlsplit(self.site.url).netloc:
            self.problems.append(f"request to {request.url}")

    async def open(self, path: str = "/chat/") -> None:
        await self.page.goto(self.site.url + path)

    async def ask(self, prompt: str, model: str | None = None) -> None:
        if model is not None:
            await self.page.select_option("#model", model)
        await self.page.fill("#prompt", prompt)
        await self.page.keyboard.press("Enter")

    async def ask_and_wait(self, prompt: str, model: str | None = None) -> str:
        await self.ask(prompt, model)
        await self.answer_ends()
        return await self.answer_text()

    async def answer_ends(self) -> None:
        await self.page.wait_for_selector(f".message:last-child:is({ENDED}) .message-body[data-rendered]")
        await self.page.wait_for_selector(".composer[data-busy=false]")

    async def answer_begins(self) -> None:
        await self.page.wait_for_selector(".message:last-child[data-status=streaming] .open-blocks > *")

    async def answer_text(self) -> str:
        return await self.answer.locator(".message-body").inner_text()

    @property
    def answer(self) -> Locator:
        return self.page.locator(".message[data-role=assistant]").last

    @property
    def question(self) -> Locator:
        return self.page.locator(".message[data-role=user]").last

    async def messages(self) -> int:
        return await self.page.locator(".message").count()


Visit = Callable[..., Awaitable[Visitor]]


@pytest.fixture(scope="module")
def site(django_db_setup: None, django_db_blocker: Any) -> Iterator[Site]:
    with django_db_blocker.unblock(), Site() as running:
        yield running


@pytest.fixture
def cookies(
    transactional_db: None, site: Site, alice: User, models: dict[str, ChatModelConfig]
) -> list[dict[str, str]]:
    """Alice's sign-in. The tests need no more than that from the database, and leave it to the site."""
    ChatModelConfig.objects.create(alias="long", provider="scripted", provider_model="long", label="Long")
    pair = sign_in(alice)
    values = {settings.ACCESS_COOKIE: pair.access, settings.REFRESH_COOKIE: pair.refresh}
    return [{"name": name, "value": value, "url": site.url} for name, value in values.items()]


@pytest_asyncio.fixture(loop_scope="session")
async def visit(browser: Browser, site: Site, cookies: list[dict[str, str]]) -> AsyncIterator[Visit]:
    """Makes visitors: `await visit()` is Alice on a desktop; options are those of a browser context."""
    visitors: list[Visitor] = []

    async def make(*, signed_in: bool = True, **options: Any) -> Visitor:
        context = await browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        context.set_default_timeout(PATIENCE)
        if signed_in:
            await context.add_cookies(cookies)
        visitors.append(Visitor(context, await context.new_page(), site))
        return visitors[-1]

    yield make
    for visitor in visitors:
        # What a test answers in the site's place must not outlive its page, or fail in another test.
        await visitor.page.unroute_all(behavior="ignoreErrors")
        await visitor.context.close()
    assert [problem for visitor in visitors for problem in visitor.problems] == []
