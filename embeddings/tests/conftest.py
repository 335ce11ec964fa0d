import pytest

from embeddings.tests.fakes import ScriptedEncoder
from embeddings.tests.serving import serving


@pytest.fixture
def encoder():
    scripted = ScriptedEncoder()
    yield scripted
    scripted.release_all()


@pytest.fixture
def served(encoder):
    with serving(lambda: encoder) as running:
        yield running
        encoder.release_all()


@pytest.fixture
def model_process(served, settings):
    """What the web process finds at MODEL_URL."""
    settings.MODEL_URL = f"http://127.0.0.1:{served.port}"
    return served
