"""Which model answers, what it costs, and what the database itself forbids."""

from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction

from inference.models import ChatModelConfig
from llmsite.core.errors import ModelNotFound

pytestmark = pytest.mark.django_db

rows = ChatModelConfig.objects


def states():
    return {row.alias: (row.is_active, row.is_default) for row in rows.all()}


def test_a_new_site_has_its_own_model_as_default():
    assert rows.named(None).provider == "local"
    assert {row.provider for row in rows.all()} == {"local", "anthropic", "openai"}


def test_a_provider_alone_means_its_first_model():
    assert rows.named(None, provider="anthropic").alias == "claude-sonnet"


@pytest.mark.parametrize("name", [{"alias": "nobody"}, {"alias": None, "provider": "echo"}])
def test_an_unknown_name_is_an_error(name):
    with pytest.raises(ModelNotFound):
        rows.named(**name)


def test_an_inactive_model_is_an_unknown_one():
    rows.filter(alias="gpt").update(is_active=False)

    with pytest.raises(ModelNotFound):
        rows.named("gpt")


def test_the_engine_says_which_local_model_there_is():
    packaged = rows.named(None).alias

    rows.all().served_locally("Qwen/Qwen3-0.6B", context_window=4096)

    assert states()[packaged] == (False, False)
    assert states()["Qwen/Qwen3-0.6B"] == (True, True)
    assert rows.named(None).context_window == 4096
    assert rows.named("gpt")

    rows.all().served_locally("smollm2-135m-instruct", context_window=1024)

    assert states()[packaged] == (True, True)
    assert states()["Qwen/Qwen3-0.6B"] == (False, False)


def test_the_engine_leaves_a_default_elsewhere_alone():
    rows.update(is_default=False)
    rows.filter(alias="gpt").update(is_default=True)

    rows.all().served_locally("other", context_window=4096)

    assert states()["gpt"] == (True, True)
    assert states()["other"] == (True, False)


@pytest.mark.parametrize(
    "values",
    [
        {"alias": "gpt"},
        {"is_default": True},
        {"input_price": Decimal("-0.01")},
        {"context_window": 0},
        {"max_tokens": 0},
    ],
)
def test_the_database_refuses(values):
    model = ChatModelConfig(**{"alias": "new", "provider": "echo", "provider_model": "echo", **values})

    with pytest.raises(IntegrityError), transaction.atomic():
        model.save()
