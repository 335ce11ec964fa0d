"""What the tests of answers share."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from django.db import connection

from inference.hit_writer import hit_writer
from inference.live import live_answers
from inference.mirror import event_mirror
from inference.models import ChatModelConfig
from inference.tests.standin import StandIn
from inference.tests.waiting import until
from llmsite.core.errors import ServerRestarting

# Faults of PostgreSQL, which SQLite does not have.
collect_ignore = [] if connection.vendor == "postgresql" else ["test_database_faults.py"]


@pytest_asyncio.fixture
async def settled() -> AsyncIterator[None]:
    """Nothing that a test began runs on when its event loop ends."""
    yield
    live_answers.stop_all(ServerRestarting())
    await until(lambda: not live_answers)
    await hit_writer.flush()
    await event_mirror.flush()


@pytest.fixture(scope="session")
def _standin() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


@pytest.fixture
def standin(_standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """The stand-in for the vendors, as if new. The SDKs go to it whatever proxy the machine has set."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    _standin.reset()
    return _standin


@pytest.fixture
def vendors(db: None) -> None:
    """One model of each vendor. Their prices are whole, so a vendor's sum is that of its calls."""
    ChatModelConfig.objects.all().delete()
    for alias, provider, prices in (("gpt", "openai", (2, 8)), ("claude", "anthropic", (3, 15))):
        ChatModelConfig.objects.create(
            alias=alias,
            provider=provider,
            provider_model=alias,
            input_price=prices[0],
            output_price=prices[1],
        )
