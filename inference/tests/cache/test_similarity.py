"""An answer to a question in other words says how alike the two were."""

import pytest

from inference.cache import semantic
from inference.cache.levels import answer_cache
from inference.cache.semantic import SemanticHit
from inference.models import ChatModelConfig
from inference.tests.doors import post

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("settled", "models")]


async def test_a_header_tells_it(alice, settings, monkeypatch):
    settings.SEMANTIC_CACHE = True
    await ChatModelConfig.objects.filter(alias="scripted").aupdate(semantic_cache=True)
    first = await post(alice, "/api/predict", {"prompt": "What is the capital of France?", "temperature": 0})
    [(_, kept)] = answer_cache.memory._entries.values()

    async def find(_partition, _question):
        return SemanticHit(kept.dumps(), 0.9312, "What is the capital of France?")

    monkeypatch.setattr(semantic, "find", find)
    body = {"prompt": "What is France's capital?", "temperature": 0}
    again = await post(alice, "/api/predict", body)

    assert (first["x-llmsite-cache"], "x-llmsite-similarity" in first) == ("miss", False)
    assert (again["x-llmsite-cache"], again["x-llmsite-similarity"]) == ("hit-l3", "0.931")
    assert again.json()["text"] == first.json()["text"]
    assert "similarity" not in again.json()
