"""The visitor of the chat's tests, where somebody may do more in a minute."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.models import Group

from accounts.models import User
from accounts.tokens import sign_in
from inference.tests.browser.conftest import Visit, Visitor, cookies, visit  # noqa: F401
from llmsite.testing.site import Site


@pytest.fixture(scope="module")
def site(django_db_setup: None, django_db_blocker: Any) -> Iterator[Site]:
    with django_db_blocker.unblock(), Site(RATE_LIMIT="600/m") as running:
        yield running


@pytest.fixture
def make_curator(transactional_db: None) -> Callable[[str], Awaitable[User]]:
    def make(name: str) -> User:
        user = User.objects.create(username=name)
        user.groups.add(Group.objects.get(name="curator"))
        return user

    return sync_to_async(make)


@pytest.fixture
def visit_as(visit: Visit) -> Callable[..., Awaitable[Visitor]]:  # noqa: F811
    """Makes visitors who are signed in as somebody else than Alice."""

    async def make(user: User, **options: Any) -> Visitor:
        visitor = await visit(signed_in=False, **options)
        pair = await sync_to_async(sign_in)(user)
        values = {settings.ACCESS_COOKIE: pair.access, settings.REFRESH_COOKIE: pair.refresh}
        await visitor.context.add_cookies(
            [{"name": name, "value": value, "url": visitor.site.url} for name, value in values.items()]
        )
        return visitor

    return make


async def shows_state(visitor: Visitor, state: str) -> None:
    """Wait for the page of an entry in this state, and for its keys."""
    await visitor.page.wait_for_selector(f"[data-state={state}]")
    await visitor.page.wait_for_load_state()
