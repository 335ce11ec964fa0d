"""The visitor of the chat's tests, on a site whose mail lands in a folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inference.tests.browser.conftest import cookies, visit  # noqa: F401
from llmsite.testing.site import Site


@pytest.fixture
def _fast_passwords() -> None:
    """The site is another process, which reads only passwords of its own settings."""


@pytest.fixture(scope="module")
def mails(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mails")


@pytest.fixture(scope="module")
def site(django_db_setup: None, django_db_blocker: Any, mails: Path) -> Iterator[Site]:
    with django_db_blocker.unblock(), Site(EMAIL_URL=f"filemail:///{mails}") as running:
        yield running
