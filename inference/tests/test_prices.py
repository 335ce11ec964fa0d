"""A model that costs money and has no price: an operator is warned, and nobody reads that it was free."""

from decimal import Decimal
from uuid import uuid4

import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import connections

from accounts.ledger import reserve, settle
from conftest import sign_in_client
from inference.models import ChatModelConfig

pytestmark = pytest.mark.django_db


def warnings():
    found = run_checks(tags=["database"], databases=["default"])
    return [message.msg for message in found if message.id == "inference.W001"]


def test_a_model_with_a_key_and_without_a_price_is_warned_of(settings):
    settings.OPENAI_API_KEY, settings.ANTHROPIC_API_KEY = "key", ""

    [warning] = warnings()

    assert "“gpt” of openai" in warning


def test_nothing_is_said_where_nothing_can_be_spent(settings):
    settings.OPENAI_API_KEY = settings.ANTHROPIC_API_KEY = "key"
    ChatModelConfig.objects.filter(alias="gpt").update(output_price=8)
    ChatModelConfig.objects.filter(alias="claude-sonnet").update(is_active=False)

    assert warnings() == []


def test_a_database_without_tables_is_migrated_all_the_same(django_db_blocker, settings):
    settings.OPENAI_API_KEY = "key"
    options = {**connections.settings["default"], "ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    connections.settings["empty"] = {**options, "OPTIONS": {}, "CONN_HEALTH_CHECKS": False}
    try:
        with django_db_blocker.unblock():
            assert run_checks(tags=["database"], databases=["empty"]) == []
            call_command("migrate", "inference", "0001", database="empty", verbosity=0)
            assert run_checks(tags=["database"], databases=["empty"]) == []
            connections["empty"].close()
    finally:
        del connections["empty"]
        del connections.settings["empty"]


def spend(user, model, provider, price):
    call = uuid4()
    reserve(
        call,
        payer=user,
        model=model,
        provider=provider,
        input_price=Decimal(price),
        output_price=Decimal(price),
        input_tokens=3,
        input_tokens_at_most=5,
        output_tokens_at_most=5,
    )
    settle(call, input_tokens=3000, output_tokens=5000, estimated=False)


def cells(page, model):
    """The text of the row of `model` in the table of usage."""
    return page[page.index(f'<th scope="row">{model}</th>') :].split("</tr>")[0]


def test_the_account_page_does_not_call_free_what_has_no_price(client, alice):
    ChatModelConfig.objects.create(alias="echo", provider="echo", provider_model="echo")
    spend(alice, "gpt", "openai", 0)
    spend(alice, "claude-sonnet", "anthropic", 3)
    spend(alice, "echo", "echo", 0)
    sign_in_client(client, alice)

    page = client.get("/account/").content.decode()

    assert "no price set" in cells(page, "gpt")
    # One that had a price when it was asked shows what it cost then.
    for model in ("claude-sonnet", "echo"):
        assert "no price set" not in cells(page, model)
