"""Circuits as new, and a stand-in for the server of each of two models."""

import pytest

from inference import fallback
from inference.circuits import Circuits
from inference.tests.fallback.candidates import PROVIDERS, a_candidate
from inference.tests.providers.conftest import closed_url, deaf_url  # noqa: F401 - fixtures
from inference.tests.standin import StandIn


@pytest.fixture(autouse=True)
def circuits(monkeypatch):
    """New ones, of this process alone: test_circuits.py has what Redis adds."""
    new = Circuits(None)
    monkeypatch.setattr(fallback, "circuits", new)
    return new


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(fallback, "FIRST_WAIT_SECONDS", 0.01)


@pytest.fixture
def second(monkeypatch):
    """The stand-in for the server of the second model."""
    with StandIn() as server:
        yield server


@pytest.fixture
def first(standin):
    return a_candidate(standin.url)


@pytest.fixture
def other(second):
    return a_candidate(second.url, alias="second")


@pytest.fixture(params=PROVIDERS)
def any_first(request, standin):
    return a_candidate(standin.url, provider=request.param)
