"""Evaluations, promotions and roll-backs by the API."""

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import Scope
from accounts.roles import CURATOR, OPERATOR, set_roles
from conftest import PASSWORD, bearer, cookies_of
from inference.engine import base_model
from inference.models import ChatModelConfig
from training.models import Evaluation, Promotion
from training.promotion import converge
from training.tests.making import (
    BASE_SHA,
    Engine,
    make_adapter,
    make_evaluation,
    make_good_run,
    make_local_model,
    make_run,
)

pytestmark = pytest.mark.django_db

MISSING = "00000000-0000-0000-0000-000000000001"


@pytest.fixture(autouse=True)
def _base(monkeypatch):
    served = base_model.BaseModel("base", None, BASE_SHA)
    monkeypatch.setattr(base_model, "base_model", lambda *_: served)


@pytest.fixture
def operator(alice):
    set_roles(alice, [OPERATOR])
    return alice


@pytest.fixture
def client(operator):
    return Client(headers=bearer(operator, scopes=[Scope.TRAIN]))


@pytest.fixture
def model(db):
    ChatModelConfig.objects.filter(provider="local").delete()
    return make_local_model()


def post(client, path, **body):
    return client.post(f"/api/training/{path}", body, content_type="application/json")


def get(client, path):
    return client.get(f"/api/training/{path}")


def error(answer):
    return answer.status_code, answer.json()["error"]["code"], answer.json()["error"]["field"]


# --- Who may -------------------------------------------------------------------------------------------


def test_it_takes_the_right_and_the_scope(operator, bob, charlie):
    set_roles(bob, [CURATOR])
    run, _ = make_good_run(operator)
    others = [bearer(bob), bearer(charlie), bearer(operator, scopes=[Scope.CHAT])]
    for headers in others:
        client = Client(headers=headers)
        calls = [
            get(client, "evaluations"),
            get(client, "promotions"),
            post(client, "evaluations", run=str(run.pk)),
            post(client, f"runs/{run.pk}/promote"),
            post(client, "rollback"),
        ]
        assert {error(answer)[:2] for answer in calls} == {(403, "permission_denied")}
    assert not Promotion.objects.exists()
    assert get(Client(), "evaluations").status_code == 401


# --- Evaluations ---------------------------------------------------------------------------------------


def test_an_evaluation_is_asked_for_and_looked_at(client, operator):
    run = make_run(operator)
    make_adapter(run)

    answer = post(client, "evaluations", run=str(run.pk), thresholds={"rows_least": 5})

    assert answer.status_code == 202
    shown = answer.json()
    assert (shown["status"], shown["passed"], shown["run"]) == ("queued", None, str(run.pk))
    assert shown["thresholds"]["rows_least"] == 5
    assert shown["thresholds"]["win_rate_least"] == 0.5
    assert get(client, f"evaluations/{shown['id']}").json() == shown
    assert Evaluation.objects.get().created_by == operator


def test_what_keeps_it_back_is_said_in_words(client, operator):
    run = make_run(operator)
    reasons = [{"code": "loss_grew", "before": 1.5, "after": 2.5}]
    made = make_evaluation(run, passed=False, reasons=reasons)

    shown = get(client, f"evaluations/{made.pk}").json()

    assert (shown["status"], shown["passed"]) == ("done", False)
    [reason] = shown["reasons"]
    assert (reason["code"], reason["before"]) == ("loss_grew", 1.5)
    assert "grew from 1.5 to 2.5" in reason["message"]


def test_one_that_failed_says_why(client, operator):
    made = make_evaluation(
        make_run(operator), error_code="out_of_memory", passed=None, ended_at="2026-01-01T00:00Z"
    )

    shown = get(client, f"evaluations/{made.pk}").json()

    assert (shown["status"], shown["passed"], shown["error"]["code"]) == ("failed", None, "out_of_memory")
    assert "memory" in shown["error"]["message"]


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        ({"run": MISSING}, (404, "not_found", None)),
        ({"run": "x"}, (400, "invalid_value", "run")),
        ({}, (400, "invalid_value", "run")),
        ({"judge": "gone"}, (404, "model_not_found", "model")),
        ({"judge": "claude"}, (503, "provider_not_configured", None)),
        ({"judge": "echo"}, (409, "evaluation_refused", None)),  # There are no cases yet.
        ({"thresholds": {"loss": 1}}, (400, "invalid_value", "thresholds.loss")),
        ({"thresholds": {"rows_least": "5"}}, (400, "invalid_value", "thresholds.rows_least")),
        ({"verdict": True}, (400, "invalid_value", "verdict")),
    ],
)
def test_what_cannot_be_evaluated_is_refused(client, operator, models, settings, body, refusal):
    settings.ANTHROPIC_API_KEY = ""
    ChatModelConfig.objects.create(alias="claude", provider="anthropic", provider_model="claude")
    run = make_run(operator)
    make_adapter(run)
    given = {"run": str(run.pk), **body} if body else {}

    answer = post(client, "evaluations", **given)

    assert error(answer) == refusal
    assert not Evaluation.objects.exists()


@pytest.mark.parametrize("spoil", ["no adapter", "failed", "withdrawn"])
def test_a_run_without_anything_learned_is_not_evaluated(client, operator, spoil):
    run = make_run(operator, status="failed" if spoil == "failed" else "succeeded")
    if spoil == "withdrawn":
        make_adapter(run, withdrawn_at="2026-01-01T00:00Z")

    assert error(post(client, "evaluations", run=str(run.pk)))[:2] == (409, "evaluation_refused")


def test_a_run_is_evaluated_once_at_a_time(client, operator):
    run = make_run(operator)
    make_adapter(run)
    post(client, "evaluations", run=str(run.pk))

    assert error(post(client, "evaluations", run=str(run.pk)))[:2] == (409, "evaluation_refused")
    assert Evaluation.objects.count() == 1


def test_the_list_is_that_of_a_run_where_one_is_named(client, operator):
    first, second = make_run(operator), make_run(operator)
    mine = make_evaluation(first)
    make_evaluation(second)

    assert len(get(client, "evaluations").json()["results"]) == 2
    [shown] = get(client, f"evaluations?run={first.pk}").json()["results"]
    assert shown["id"] == str(mine.pk)
    assert error(get(client, "evaluations?run=x")) == (400, "invalid_value", "run")
    assert error(get(client, f"evaluations/{MISSING}"))[:2] == (404, "not_found")


# --- Promotions ----------------------------------------------------------------------------------------


def test_a_run_is_promoted_and_rolled_back(client, operator, model):
    run, adapter = make_good_run(operator)

    answer = post(client, f"runs/{run.pk}/promote")

    assert answer.status_code == 202
    shown = answer.json()
    assert (shown["model"], shown["adapter"], shown["previous"]) == (model.alias, adapter.name, None)
    assert (shown["status"], shown["run"], shown["is_rollback"]) == ("loading", str(run.pk), False)
    Engine().says(adapter)
    converge()
    [live] = get(client, "promotions").json()["results"]
    assert (live["status"], live["live_at"] is not None) == ("live", True)

    back = post(client, "rollback", model=model.alias)

    assert back.status_code == 202
    shown = back.json()
    assert (shown["adapter"], shown["previous"], shown["run"]) == (None, adapter.name, None)
    assert (shown["status"], shown["is_rollback"]) == ("live", True)
    assert [row["status"] for row in get(client, "promotions").json()["results"]] == ["live", "replaced"]


def test_who_has_signed_in_gives_the_password_once_more(operator, model):
    run, _ = make_good_run(operator)
    person = Client(headers={"Authorization": f"Bearer {cookies_of(operator).access}"})
    path = f"runs/{run.pk}/promote"

    assert error(post(person, path)) == (400, "invalid_value", "password")
    assert error(post(person, path, password="a guess")) == (400, "invalid_value", "password")
    assert not Promotion.objects.exists()

    assert post(person, path, password=PASSWORD).status_code == 202


@pytest.mark.parametrize(
    ("path", "body", "refusal"),
    [
        ("runs/{run}/promote", {}, (409, "promotion_refused")),
        ("runs/{run}/promote", {"model": "gone"}, (404, "model_not_found")),
        ("runs/{run}/promote", {"model": 7}, (400, "invalid_value")),
        ("runs/" + MISSING + "/promote", {}, (404, "not_found")),
        ("rollback", {}, (409, "promotion_refused")),
        ("rollback", {"model": "gone"}, (404, "model_not_found")),
    ],
)
def test_what_cannot_be_moved_is_refused(client, operator, model, path, body, refusal):
    run = make_run(operator)
    make_adapter(run)

    assert error(post(client, path.format(run=run.pk), **body))[:2] == refusal
    assert not Promotion.objects.exists()


def test_lists_cost_the_same_for_any_number(client, operator, model):
    def queries(path):
        with CaptureQueriesContext(connection) as counted:
            assert get(client, path).status_code == 200
        return len(counted)

    def more():
        _, adapter = make_good_run(operator)
        Promotion.objects.create(model=model, adapter=adapter, status="replaced")

    more()
    get(client, "promotions")  # The credential is remembered from here on.
    few = {path: queries(path) for path in ("promotions", "evaluations")}
    for _ in range(5):
        more()

    assert {path: queries(path) for path in few} == few


def test_pages_of_the_list_follow_each_other(client, operator, model):
    made = []
    for _ in range(5):
        _, adapter = make_good_run(operator)
        made.append(Promotion.objects.create(model=model, adapter=adapter, status="replaced"))
    seen, address = [], "/api/training/promotions?limit=2"
    while address:
        page = client.get(address).json()
        seen += [row["id"] for row in page["results"]]
        address = page["next"]

    assert seen == [str(row.pk) for row in reversed(made)]
