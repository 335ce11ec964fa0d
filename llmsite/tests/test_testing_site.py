"""The web process of the tests: it leaves nothing behind."""

import pytest

from llmsite.testing import site
from llmsite.testing.site import Site


def test_one_that_does_not_answer_in_time_is_ended(monkeypatch):
    monkeypatch.setattr(site, "START_SECONDS", 0)
    late = Site()

    with pytest.raises(RuntimeError, match="in time"), late:
        pass
    assert late.process.returncode is not None
