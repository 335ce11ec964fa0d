"""The people and models that tests share: Alice owns, Bob is of her team, Charlie is a stranger."""

from collections.abc import AsyncIterator, Iterator
from functools import lru_cache
from typing import Any

import pytest
import pytest_asyncio
from asgiref.sync import SyncToAsync
from django.conf import settings
from django.contrib.auth.hashers import get_hasher, make_password
from django.core.cache import cache
from django.db import connection, connections
from django.test import TransactionTestCase
from django.utils import translation

from accounts.keys import create_key
from accounts.limits import rate_limits
from accounts.models import User
from accounts.recent import recent_credentials
from accounts.tokens import TokenPair, sign_in
from inference.cache.levels import answer_cache
from inference.catalogue import catalogue
from inference.circuits import circuits
from inference.hit_writer import hit_writer
from inference.models import ChatModelConfig
from inference.providers import reset_providers, scripted
from llmsite.testing.chromium import launch_options
from llmsite.testing.flush import QuickFlush
from llmsite.testing.site import Site

PASSWORD = "correct horse battery"
# A browser of its own accord asks its maker for updates and lists; here it asks nobody.
QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-gpu"]


@pytest.fixture(autouse=True)
def _no_traces() -> Iterator[None]:
    """Each test finds the scripted provider, the providers, the cache and the limits as new."""
    scripted.reset()
    # Again: what a test had replaced may have come back after the last one was cleared up.
    answer_cache.memory.forget()
    yield
    scripted.reset()
    # The test client serves requests in this thread, and leaves it in the language of the last one.
    translation.deactivate()
    reset_providers()
    cache.clear()
    recent_credentials.forget()
    catalogue.reset()
    answer_cache.memory.forget()
    circuits.forget()
    hit_writer.forget()
    rate_limits.reset()
    # Async tests reach the database from this thread, which would keep its connection open.
    SyncToAsync.single_thread_executor.submit(connections.close_all).result()


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """The database of the tests; tests that commit are cleared up after quickly."""
    with pytest.MonkeyPatch.context() as patch:
        if connection.vendor == "postgresql":
            with django_db_blocker.unblock():
                flush = QuickFlush()
            patch.setattr(TransactionTestCase, "_fixture_teardown", lambda test_case: flush(test_case))
        yield


@lru_cache
def hashed_password(algorithm: str) -> str:
    """What the site keeps of PASSWORD. A hash is slow on purpose, so all people of the tests share it."""
    return make_password(PASSWORD, hasher=algorithm)


@pytest.fixture
def make_user(db: None) -> Any:
    def make(username: str, **values: Any) -> User:
        return User.objects.create(
            username=username, password=hashed_password(get_hasher().algorithm), **values
        )

    return make


@pytest.fixture
def alice(make_user: Any) -> User:
    return make_user("alice")


@pytest.fixture
def bob(make_user: Any) -> User:
    return make_user("bob")


@pytest.fixture
def charlie(make_user: Any) -> User:
    return make_user("charlie")


@pytest.fixture
def staff(make_user: Any) -> User:
    return make_user("staff", is_staff=True, is_superuser=True)


def bearer(user: User, **values: Any) -> dict[str, str]:
    """The headers of a program with a key of `user`."""
    _, text = create_key(user, "test", **values)
    return {"Authorization": f"Bearer {text}"}


def cookies_of(user: User) -> TokenPair:
    return sign_in(user)


def sign_in_client(client: Any, user: User) -> TokenPair:
    """Give a Django test client the cookies of a new sign-in."""
    pair = sign_in(user)
    client.cookies[settings.ACCESS_COOKIE] = pair.access
    client.cookies[settings.REFRESH_COOKIE] = pair.refresh
    return pair


@pytest.fixture
def alice_headers(alice: User) -> dict[str, str]:
    return bearer(alice)


@pytest.fixture
def charlie_headers(charlie: User) -> dict[str, str]:
    return bearer(charlie)


MODELS = {
    # alias: (provider, provider's name)
    "echo": ("echo", "echo"),
    "scripted": ("scripted", "scripted"),
    "slow": ("scripted", "slow"),
    "endless": ("scripted", "endless"),
    "hangs": ("scripted", "hangs"),
    "cut": ("scripted", "cut"),
    "unavailable": ("scripted", "unavailable"),
}


@pytest.fixture
def models(db: None) -> dict[str, ChatModelConfig]:
    """One model for each way an answer can go; `scripted` is the site's default."""
    ChatModelConfig.objects.all().delete()
    return {
        alias: ChatModelConfig.objects.create(
            alias=alias, provider=provider, provider_model=name, is_default=alias == "scripted"
        )
        for alias, (provider, name) in MODELS.items()
    }


@pytest.fixture
def site(transactional_db: None) -> Iterator[Site]:
    """A real web process on the test database."""
    with Site() as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Any]:
    """One Chromium for all tests of a run: it takes longer to start than most tests. Visits share nothing."""
    from playwright.async_api import async_playwright  # It takes long to load, and few tests need it.

    options = launch_options()
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(**{**options, "args": [*options["args"], *QUIET]})
        yield running
        await running.close()
