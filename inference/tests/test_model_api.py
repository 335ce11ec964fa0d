"""Operators switch the default and clear the cache while the site runs; everybody sees the models."""

import asyncio
import time

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.keys import create_key
from accounts.models import AuditEvent
from accounts.models.api_keys import Scope
from accounts.models.audit import AuditKind
from accounts.tests.two_processes import send
from conftest import bearer, sign_in_client
from inference.circuits import Deployment, circuits
from inference.models import ChatModelConfig, ModelFallback, Version
from inference.reactions import react
from inference.switching import switch_default
from inference.tests.doors import post
from llmsite.core.errors import ModelNotFound, ProviderRateLimited
from llmsite.testing.site import Site

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator(make_user):
    user = make_user("operator")
    user.groups.add(Group.objects.get(name="operator"))
    return user


def call(user, method, path, body=None, **key):
    client = Client()
    return getattr(client, method)(path, body, content_type="application/json", headers=bearer(user, **key))


def switch(user, model, provider, **key):
    return call(user, "post", "/api/model", {"provider": provider, "model": model}, **key)


def defaults():
    return list(ChatModelConfig.objects.filter(is_default=True).values_list("alias", flat=True))


def events(kind):
    return list(AuditEvent.objects.filter(kind=kind))


# --- The default -----------------------------------------------------------------------------------


def test_everybody_sees_the_default(alice, models):
    answer = call(alice, "get", "/api/model")

    assert answer.json() == {"provider": "scripted", "model": "scripted", "label": "", "available": True}


def test_a_key_that_may_not_ask_the_default_does_not_learn_of_it(alice, models):
    answer = call(alice, "get", "/api/model", allowed_models=["echo"])

    assert answer.status_code == 403
    assert "scripted" not in answer.content.decode()
    assert call(alice, "get", "/api/model", allowed_models=["scripted"]).json()["model"] == "scripted"


def test_a_key_that_is_limited_to_some_models_switches_none(operator, models):
    answer = switch(operator, "echo", "echo", allowed_models=["echo", "scripted"])

    assert answer.status_code == 403
    assert defaults() == ["scripted"]


def test_the_description_tells_how_switching_fails(client, operator, models):
    schema = call(operator, "get", "/api/schema?format=json").json()
    assert (
        "`provider_not_configured`"
        in schema["paths"]["/api/model"]["post"]["responses"]["503"]["description"]
    )


def test_an_operator_switches_it_and_the_audit_log_tells(operator, models):
    answer = switch(operator, "echo", "echo")

    assert answer.status_code == 200
    assert answer.json()["model"] == "echo"
    assert defaults() == ["echo"]
    [event] = events(AuditKind.MODEL_SWITCHED)
    assert (event.actor, event.data) == (operator.pseudonym, {"model": "echo", "before": "scripted"})


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("settled")
def test_the_next_question_is_answered_by_it(operator, alice, models):
    switch(operator, "echo", "echo")

    answer = async_to_sync(post)(alice, "/api/predict", {"prompt": "Hello"})

    assert answer.json()["model"] == "echo"


def test_switching_to_what_is_the_default_changes_nothing(operator, models):
    before = Version.objects.numbers()

    assert switch(operator, "scripted", "scripted").status_code == 200

    assert Version.objects.numbers() == before
    assert events(AuditKind.MODEL_SWITCHED) == []


def test_the_names_of_providers_may_be_the_ones_of_vendors(operator, models, settings):
    settings.ANTHROPIC_API_KEY = "key"
    ChatModelConfig.objects.create(alias="sonnet", provider="anthropic", provider_model="sonnet")

    assert switch(operator, "sonnet", "claude").status_code == 200
    assert defaults() == ["sonnet"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"provider": "scripted", "model": "nothing"}, 404, "model_not_found"),
        ({"provider": "scripted", "model": "echo"}, 404, "model_not_found"),
        ({"provider": "scripted", "model": "gone"}, 404, "model_not_found"),
        ({"provider": "nobody", "model": "echo"}, 400, "invalid_value"),
        ({"provider": "scripted"}, 400, "invalid_value"),
        ({"provider": "echo", "model": "echo", "now": True}, 400, "invalid_value"),
        ({"provider": "openai", "model": "gpt"}, 503, "provider_not_configured"),
    ],
)
def test_a_switch_that_cannot_be_made_changes_nothing(body, status, code, operator, models, settings):
    settings.OPENAI_API_KEY = ""
    ChatModelConfig.objects.create(alias="gone", provider="scripted", provider_model="x", is_active=False)
    ChatModelConfig.objects.create(alias="gpt", provider="openai", provider_model="gpt")

    answer = call(operator, "post", "/api/model", body)

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert defaults() == ["scripted"]
    assert events(AuditKind.MODEL_SWITCHED) == []


def test_nobody_else_switches(alice, operator, models):
    assert switch(alice, "echo", "echo").status_code == 403
    for scopes in ([Scope.CHAT], [Scope.CHAT, Scope.TRAIN], list(Scope)):
        assert switch(operator, "echo", "echo", scopes=scopes).status_code == 403
    assert Client().post("/api/model", {}, content_type="application/json").status_code == 401
    assert defaults() == ["scripted"]


def test_a_model_that_is_switched_off_at_the_same_time_leaves_the_default_as_it_was(operator, models):
    echo = models["echo"]  # as it was a moment ago
    ChatModelConfig.objects.filter(pk=echo.pk).update(is_active=False)

    with pytest.raises(ModelNotFound):
        switch_default(echo, actor=operator)

    assert defaults() == ["scripted"]


@pytest.mark.django_db(transaction=True)
async def test_many_switches_at_once_leave_one_default(operator, models):
    aliases = ["echo", "slow", "cut", "hangs", "scripted"] * 2

    await asyncio.gather(
        *(
            asyncio.to_thread(_switch_and_close, ChatModelConfig.objects.named, alias, operator)
            for alias in aliases
        )
    )

    assert await ChatModelConfig.objects.filter(is_default=True).acount() == 1


def _switch_and_close(named, alias, operator):
    try:
        switch_default(named(alias), actor=operator)
    finally:
        connection.close()


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("redis", [True, False], ids=["redis", "embedded"])
def test_a_switch_in_one_process_is_in_force_in_the_other_within_a_second(redis, operator, alice, models):
    environment = {} if redis else {"REDIS_URL": "", "SEVERAL_WEB_PROCESSES": "1"}
    mine, theirs = bearer(operator), bearer(alice)
    with Site(**environment) as here, Site(**environment) as there:
        for model, provider in (("echo", "echo"), ("scripted", "scripted"), ("echo", "echo")):
            # The other one is busy, so that it has just read the models.
            assert send(there, "POST", "/api/predict", theirs, {"prompt": "Hello"}).status == 200
            body = {"provider": provider, "model": model}
            assert send(here, "POST", "/api/model", mine, body).status == 200
            assert send(here, "POST", "/api/predict", theirs, {"prompt": "Hello"}).json()["model"] == model
            time.sleep(1.0)

            assert send(there, "POST", "/api/predict", theirs, {"prompt": "Hello"}).json()["model"] == model
            assert send(there, "GET", "/api/model", theirs).json()["model"] == model


# --- The list --------------------------------------------------------------------------------------


def test_those_who_look_after_models_see_who_answers_in_their_place_and_what_failed(operator, alice, models):
    for position, alias in enumerate(("echo", "slow"), start=1):
        ModelFallback.objects.create(model=models["scripted"], fallback=models[alias], position=position)
    pause("slow")

    rows = {row["alias"]: row for row in call(operator, "get", "/api/models").json()["results"]}

    assert rows["scripted"]["fallbacks"] == ["echo", "slow"]
    assert rows["scripted"]["circuit"] is None
    assert rows["slow"]["circuit"]["state"] == "open"
    assert rows["slow"]["circuit"]["code"] == "provider_rate_limited"
    assert rows["slow"]["circuit"]["retry_at"]
    for row in call(alice, "get", "/api/models").json()["results"]:
        assert not {"fallbacks", "circuit", "base_url", "parameters", "system_prompt"} & row.keys()


def test_a_longer_list_costs_no_more_queries(operator, models):
    def count():
        with CaptureQueriesContext(connection) as queries:
            assert call(operator, "get", "/api/models").status_code == 200
        return len(queries)

    def add(number):
        row = ChatModelConfig.objects.create(alias=f"m{number}", provider="echo", provider_model="echo")
        ModelFallback.objects.create(model=row, fallback=models["echo"])

    add(0)
    few = count()
    for number in range(1, 6):
        add(number)

    assert count() == few


def pause(name):
    """A circuit as the failures of calls leave it."""
    error = ProviderRateLimited(provider="scripted", retry_after=60)
    deployment = Deployment("scripted", "", name)
    async_to_sync(circuits.failed)(deployment, react(error), code="provider_rate_limited")


@pytest.fixture(autouse=True)
def _closed_circuits():
    yield
    circuits.forget()


# --- The cache -------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("settled")
def test_the_cache_is_counted_and_cleared(operator, alice, models):
    question = {"prompt": "What is the capital of France?"}
    async_to_sync(post)(alice, "/api/predict", question)
    assert async_to_sync(post)(alice, "/api/predict", question).json()["cache"]
    assert call(operator, "get", "/api/cache").json()["l1"] == 1

    cleared = call(operator, "delete", "/api/cache")

    assert cleared.status_code == 200
    assert cleared.json()["status"] == "cache cleared"
    assert cleared.json()["timestamp"]
    assert call(operator, "get", "/api/cache").json()["l1"] == 0
    assert async_to_sync(post)(alice, "/api/predict", question).json()["cache"] is None
    assert [event.actor for event in events(AuditKind.CACHE_CLEARED)] == [operator.pseudonym]


def test_only_operators_and_their_keys_for_it_reach_the_cache(operator, alice, models):
    _, key = create_key(alice, "mine", scopes=[Scope.CACHE_CLEAR])

    for method in ("get", "delete"):
        assert call(alice, method, "/api/cache").status_code == 403
        assert call(operator, method, "/api/cache", scopes=[Scope.CHAT]).status_code == 403
        refused = getattr(Client(), method)("/api/cache", headers={"Authorization": f"Bearer {key}"})
        assert refused.status_code == 403
    assert call(operator, "get", "/api/cache", scopes=[Scope.CACHE_CLEAR]).status_code == 200
    client = Client()
    sign_in_client(client, operator)
    assert client.get("/api/cache").status_code == 200
    assert events(AuditKind.CACHE_CLEARED) == []
