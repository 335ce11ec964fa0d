"""The pages of training: who sees them, what they show, and what their forms do."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from accounts.roles import CURATOR, OPERATOR, set_roles
from conftest import PASSWORD, sign_in_client
from inference.engine import base_model
from inference.models import ChatModelConfig
from training.models import Evaluation, Metric, Promotion, RunStatus, TrainingRun
from training.pages import runs
from training.promotion import converge
from training.tests.making import (
    BASE_SHA,
    Engine,
    make_adapter,
    make_evaluation,
    make_good_run,
    make_local_model,
    make_run,
    make_version,
)

pytestmark = pytest.mark.django_db

SCRIPT = "<script>alert('xss')</script>"


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
    client = Client()
    sign_in_client(client, operator)
    return client


@pytest.fixture
def model(db):
    ChatModelConfig.objects.filter(provider="local").delete()
    return make_local_model()


def text_of(answer):
    return answer.content.decode()


def log(run, *steps, **values):
    Metric.objects.bulk_create(
        Metric(run=run, step=step, loss=2.0 / (step + 1), learning_rate=2e-4, **values) for step in steps
    )


# --- Who sees them -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/training/",
        "/training/compare/",
        "/training/models/",
        "/training/origins/",
        "/training/runs/00000000-0000-0000-0000-000000000001/",
    ],
)
def test_only_operators_are_let_in(bob, charlie, path):
    set_roles(bob, [CURATOR])
    for user in (bob, charlie):
        client = Client()
        sign_in_client(client, user)
        assert client.get(path).status_code == 403
    assert Client().get(path).status_code == 302


def test_the_menu_leads_there_for_operators_alone(client, charlie):
    stranger = Client()
    sign_in_client(stranger, charlie)

    assert 'href="/training/"' in text_of(client.get("/account/"))
    assert 'href="/training/"' not in text_of(stranger.get("/account/"))


def test_a_run_that_is_not_there_is_missing(client):
    missing = "/training/runs/00000000-0000-0000-0000-000000000001/"

    assert client.get(missing).status_code == 404
    for action in ("cancel", "evaluate", "promote"):
        assert client.post(f"{missing}{action}/").status_code == 404


# --- The list ------------------------------------------------------------------------------------------


def test_an_empty_list_says_what_to_do(client):
    page = text_of(client.get("/training/"))

    assert "No run yet." in page
    assert "<details" in page


def test_the_list_shows_how_far_each_run_is(client, operator, model):
    _, adapter = make_good_run(operator, name="Good run")
    ChatModelConfig.objects.filter(pk=model.pk).update(adapter=adapter.name)
    running = make_run(operator, status=RunStatus.RUNNING, name="Going on")
    make_run(operator, status=RunStatus.FAILED, name=SCRIPT)

    page = text_of(client.get("/training/"))

    assert "Step 10 of 40" in page
    assert f"behind {model.alias}" in page
    assert f'href="/training/runs/{running.pk}/"' in page
    assert 'data-moving="true"' in page
    assert SCRIPT not in page
    assert "&lt;script&gt;" in page


def test_the_list_is_paged_and_costs_the_same_for_any_number(
    client, operator, monkeypatch, django_assert_max_num_queries
):
    monkeypatch.setattr(runs, "SHOWN", 3)
    made = [make_run(operator, name=f"Run {number}") for number in range(7)]
    moment = timezone.now()
    for number, run in enumerate(made):
        # Two of them at the same moment.
        TrainingRun.objects.filter(pk=run.pk).update(created_at=moment - timedelta(minutes=number // 2))

    seen, address = [], "/training/"
    while address:
        with django_assert_max_num_queries(10):
            context = client.get(address).context
        seen += [line["run"].name for line in context["lines"]]
        address = context["older"]

    assert sorted(seen) == sorted(run.name for run in made)


# --- Starting ------------------------------------------------------------------------------------------

FORM = {
    "name": "My run",
    "epochs": 2,
    "learning_rate": "0.0002",
    "rank": 8,
    "alpha": 16,
    "batch_size": 4,
    "gradient_accumulation": 1,
    "max_steps": 0,
    "max_length": 256,
    "warmup": 0,
    "dropout": 0,
    "eval_fraction": "0.1",
    "save_every": 20,
    "log_every": 1,
    "seed": 0,
}


def test_a_form_that_makes_no_sense_says_where(client):
    answer = client.post("/training/start/", {**FORM, "version": make_version().pk, "rank": 9999})

    assert answer.status_code == 400
    assert not TrainingRun.objects.exists()
    assert "rank" in answer.context["form"].errors
    assert answer.context["form"].has_hidden_errors


def test_a_data_set_that_was_withdrawn_cannot_be_chosen(client):
    version = make_version(withdrawn_at=timezone.now())

    answer = client.post("/training/start/", {**FORM, "version": version.pk})

    assert answer.status_code == 400
    assert "version" in answer.context["form"].errors


# --- One run -------------------------------------------------------------------------------------------


def test_the_page_of_a_run_shows_what_it_logged(client, operator):
    run = make_run(operator, status=RunStatus.RUNNING)
    log(run, *range(60), tokens_per_second=1234.5)

    page = text_of(client.get(f"/training/runs/{run.pk}/"))

    assert f'data-runs="{run.pk}"' in page
    assert "2.00e-04" in page
    assert "1,234" in page
    assert 'data-moving="true"' in page
    assert page.count('<th scope="row">') == 50


def test_a_failed_run_says_why(client, operator):
    run = make_run(operator, status=RunStatus.FAILED, error_code="out_of_memory")

    page = text_of(client.get(f"/training/runs/{run.pk}/"))

    assert "more memory" in page
    assert 'data-moving="false"' in page
    assert "Promote" not in page


def test_the_list_says_why_a_run_failed(client, operator):
    make_run(operator, status=RunStatus.FAILED, error_code="diverged", error_data={"step": 7})
    make_run(operator, status=RunStatus.SUCCEEDED)

    page = text_of(client.get("/training/"))

    assert page.count(">The loss was no number any more after step 7.") == 1


def test_a_run_that_waits_is_cancelled(client, operator):
    run = make_run(operator, status=RunStatus.QUEUED)

    client.post(f"/training/runs/{run.pk}/cancel/")

    run.refresh_from_db()
    assert run.status == RunStatus.CANCELLED
    assert "has ended already" in text_of(client.post(f"/training/runs/{run.pk}/cancel/", follow=True))


def test_the_page_shows_what_the_gate_says(client, operator):
    run = make_run(operator)
    make_adapter(run)
    reasons = [{"code": "loss_grew", "before": 1.5, "after": 2.5}]
    make_evaluation(run, passed=False, reasons=reasons)

    page = text_of(client.get(f"/training/runs/{run.pk}/"))

    assert "It does not pass the gate" in page
    assert "grew from 1.5 to 2.5" in page
    assert "Held-out rows (10)" in page


@pytest.mark.parametrize(
    ("code", "told"),
    [("out_of_memory", "more memory"), ("provider_error", "failed"), ("nobody_pays", "gone")],
)
def test_an_evaluation_that_could_not_be_made_says_why(client, operator, code, told):
    run = make_run(operator)
    make_adapter(run)
    make_evaluation(run, passed=None, ended_at=timezone.now(), error_code=code, error_data={"provider": "x"})

    page = text_of(client.get(f"/training/runs/{run.pk}/"))

    assert "It could not be made" in page
    assert told in page


EVALUATE = {
    "judge": "",
    "loss_growth_most": "0.02",
    "score_drop_most": "0.02",
    "cases_rouge_least": "0",
    "win_rate_least": "0.5",
    "rows_least": "1",
    "heldout_least": "1",
}


def test_an_evaluation_is_asked_for_with_its_thresholds(client, operator):
    run = make_run(operator)
    make_adapter(run)

    client.post(f"/training/runs/{run.pk}/evaluate/", {**EVALUATE, "rows_least": "5"})

    made = Evaluation.objects.get()
    assert (made.run, made.created_by, made.thresholds["rows_least"]) == (run, operator, 5)
    assert "It waits for the trainer" in text_of(client.get(f"/training/runs/{run.pk}/"))
    again = client.post(f"/training/runs/{run.pk}/evaluate/", EVALUATE)
    assert again.status_code == 400
    assert "under way already" in text_of(again)


def promoting(model, password=PASSWORD):
    return {"model": model.alias, "confirmed": "on", "password": password}


def test_a_run_is_promoted_by_a_confirmed_form(client, operator, model):
    run, adapter = make_good_run(operator)

    unconfirmed = client.post(f"/training/runs/{run.pk}/promote/", {"model": model.alias})
    assert unconfirmed.status_code == 400
    assert "Confirm that everybody" in text_of(unconfirmed)
    left_screen = client.post(f"/training/runs/{run.pk}/promote/", promoting(model, "a guess"))
    assert left_screen.status_code == 400
    assert "This is not your password" in text_of(left_screen)
    assert not Promotion.objects.exists()

    client.post(f"/training/runs/{run.pk}/promote/", promoting(model))
    assert Promotion.objects.get().adapter == adapter
    Engine().says(adapter)
    converge()
    page = text_of(client.get(f"/training/runs/{run.pk}/"))
    assert f"{model.alias} on {adapter.name}" in page


def test_one_that_has_not_passed_is_refused_on_the_page(client, operator, model):
    run = make_run(operator)
    make_adapter(run)

    answer = client.post(f"/training/runs/{run.pk}/promote/", promoting(model))

    assert answer.status_code == 400
    assert "no evaluation yet" in text_of(answer)


# --- Models in use -------------------------------------------------------------------------------------


def test_a_model_is_rolled_back_where_its_history_stands(client, operator, model):
    run, adapter = make_good_run(operator)
    client.post(f"/training/runs/{run.pk}/promote/", promoting(model))
    assert f"{adapter.name} is being loaded" in text_of(client.get("/training/models/"))
    Engine().says(adapter)
    converge()
    assert f"stands on {adapter.name}" in text_of(client.get("/training/models/"))

    page = text_of(client.post("/training/rollback/", {"model": model.alias}, follow=True))

    assert "is its base model alone again" in page
    assert ChatModelConfig.objects.get(pk=model.pk).adapter == ""
    again = text_of(client.post("/training/rollback/", {"model": model.alias}, follow=True))
    assert "nothing to go back to" in again
    assert "There is no model named" in text_of(
        client.post("/training/rollback/", {"model": "x"}, follow=True)
    )


def test_the_history_costs_the_same_for_any_number(client, operator, model, django_assert_max_num_queries):
    for _ in range(6):
        adapter = make_good_run(operator)[1]
        Promotion.objects.create(model=model, adapter=adapter, status="replaced")

    with django_assert_max_num_queries(10):
        client.get("/training/models/")


# --- Comparing -----------------------------------------------------------------------------------------


def test_runs_are_compared_by_what_differs(client, operator):
    first, second = make_run(operator, name="First"), make_run(operator, name="Second")
    TrainingRun.objects.filter(pk=second.pk).update(settings={**second.settings, "rank": 32})
    log(first, 0, 1)

    page = text_of(client.get(f"/training/compare/?run={first.pk}&run={second.pk}"))

    assert f'data-runs="{first.pk} {second.pk} "' in page
    assert "<code>rank</code>" in page
    assert "<code>alpha</code>" not in page
    assert "1.0000" in page


@pytest.mark.parametrize("query", ["", "?run=x", "?run=00000000-0000-0000-0000-000000000001"])
def test_less_than_two_runs_are_not_compared(client, query):
    assert "Choose two runs or more" in text_of(client.get(f"/training/compare/{query}"))


def test_more_than_five_runs_are_too_many_for_one_chart(client, operator):
    made = [make_run(operator) for _ in range(7)]

    answer = client.get("/training/compare/?" + "&".join(f"run={run.pk}" for run in made))

    assert len(answer.context["columns"]) == 5
    assert "2 are left out" in text_of(answer)
