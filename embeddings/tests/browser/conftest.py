"""The visitor of the chat's tests, on a site that keeps its files in a folder of the test's own."""

from collections.abc import Iterator
from typing import Any

import pytest

from inference.tests.browser.conftest import cookies, visit  # noqa: F401
from llmsite.testing.site import Site


@pytest.fixture(scope="module")
def site(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    media = tmp_path_factory.mktemp("media")
    with django_db_blocker.unblock(), Site(MEDIA_ROOT=str(media), RATE_LIMIT="600/m") as running:
        yield running
