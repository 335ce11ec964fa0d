"""Training runs through the doors of the API."""

import json
from datetime import timedelta
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import AuditEvent
from conftest import bearer
from llmsite.core.errors import DatasetWithdrawn
from training import process
from training.models import DatasetRow, DatasetVersion, Layout, Metric, RunStatus, TrainingRun
from training.settings import RunSettings
from training.tests import running, tiny
from training.tests.feedback_sets import teach
from training.trainer import claim

pytestmark = pytest.mark.django_db

RUNS, METRICS = "/api/training/runs", "/api/training/metrics"


@pytest.fixture(autouse=True)
def _furnished(settings, tmp_path):
    running.furnish(settings, tmp_path)


@pytest.fixture
def operator(make_user):
    user = make_user("operator", is_staff=True)
    user.groups.add(Group.objects.get(name="operator"))
    return user


@pytest.fixture
def client(operator):
    return Client(headers=bearer(operator))


def post(client, address=RUNS, **body):
    return client.post(address, json.dumps(body), content_type="application/json")


def start(client, version, **settings):
    return post(client, dataset=str(version.dataset_id), settings=settings)


def refused(answer, status, code, field=None):
    assert answer.status_code == status, answer.content
    error = answer.json()["error"]
    assert (error["code"], error["field"]) == (code, field)
    assert not TrainingRun.objects.exists()
    return error["message"]


# --- Starting ---------------------------------------------------------------------------------------------


def test_a_run_is_queued_with_what_it_will_take(client, operator):
    version = running.store_version()

    answer = start(client, version, epochs=2, batch_size=4, eval_fraction=0.1)

    assert answer.status_code == 201, answer.content
    said = answer.json()
    assert (said["status"], said["step"], said["total_steps"]) == ("queued", 0, 10)
    assert said["settings"] == {**RunSettings().as_dict(), "epochs": 2}
    assert said["estimate"]["memory_bytes"] > 0
    assert said["estimate"]["seconds"] > 0
    assert (said["base_model"], said["name"], said["version"]) == ("shell", "Numbers 1", 1)
    run = TrainingRun.objects.get(pk=said["id"])
    assert run.created_by == operator
    assert AuditEvent.objects.get(kind="run_started").data == {"run": str(run.pk), "version": str(version.pk)}


def test_without_a_number_it_is_the_newest_version(client):
    running.store_version(tiny.rows(4))
    newest = running.store_version(tiny.rows(6))

    assert start(client, newest).json()["version"] == 2
    assert post(client, dataset=str(newest.dataset_id), version=1).json()["version"] == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rank", 0),
        ("epochs", 1000),
        ("learning_rate", "fast"),
        ("max_steps", 1.5),
        ("eval_fraction", 0.9),
        ("model", "/etc/passwd"),
        ("max_length", "https://example.org"),
    ],
)
def test_a_setting_out_of_its_limits_is_named(client, name, value):
    answer = start(client, running.store_version(), **{name: value})

    assert answer.status_code == 400
    assert name in (answer.json()["error"]["field"] or ""), answer.json()
    assert not TrainingRun.objects.exists()


def test_a_data_set_is_named_by_its_id_and_by_nothing_else(client):
    running.store_version()

    assert post(client, dataset="../../etc/passwd").status_code == 400
    assert post(client, dataset=str(uuid4())).status_code == 404
    assert not TrainingRun.objects.exists()


def test_what_does_not_fit_into_memory_is_refused(client, settings):
    settings.TRAINING_MEMORY_MB = 400

    message = refused(start(client, running.store_version()), 409, "run_refused", "settings.batch_size")

    assert "may take 0.4 GB" in message


def test_nor_what_does_not_fit_on_the_disk(client, monkeypatch):
    monkeypatch.setattr("training.estimate._free_disk", lambda: 1000)

    refused(start(client, running.store_version()), 409, "run_refused", "settings.rank")


def test_nor_what_takes_too_long(client, monkeypatch):
    monkeypatch.setattr("training.estimate._flops", lambda: 1000.0)

    refused(start(client, running.store_version()), 409, "run_refused", "settings.epochs")


def test_rated_answers_are_not_learnt(client):
    rows = [{"prompt": [], "completion": f"{number}", "label": False} for number in range(4)]
    version = running.store_version(rows, layout=Layout.RATED)

    refused(start(client, version), 409, "run_refused", "version")


def test_rows_that_are_longer_than_may_be_are_refused_before_anything_begins(client):
    report = {"tokens": {"unit": "tokens", "longest": 900, "total": 4000}}
    version = running.store_version(report=report)

    message = refused(start(client, version, max_length=512), 409, "run_refused", "settings.max_length")
    assert "900" in message
    assert "leave_out" in message
    assert start(client, version, max_length=512, leave_out=True).status_code == 201


def test_a_set_that_was_withdrawn_is_refused(client):
    version = running.store_version(withdrawn_at=timezone.now())

    assert post(client, dataset=str(version.dataset_id), version=1).status_code == 409
    assert not TrainingRun.objects.exists()


def test_so_is_one_that_is_withdrawn_in_that_moment(operator):
    version = running.store_version(withdrawn_at=timezone.now())

    with pytest.raises(DatasetWithdrawn):
        running.start(version=version)


def test_a_set_whose_people_allow_it_no_more_is_refused(client, alice):
    version = running.store_version()
    DatasetRow.objects.create(version=version, number=0, user=alice, feedback=teach(alice, "What?"))

    message = refused(start(client, version), 409, "run_refused", "version")
    assert "Build a new version" in message
    type(alice).objects.filter(pk=alice.pk).update(training_consent_at=timezone.now())
    assert start(client, version).status_code == 201


def test_a_damaged_set_is_refused(client):
    version = running.store_version()
    running.storage.path_of(version).write_text("{}")

    refused(start(client, version), 409, "dataset_damaged")


def test_a_model_that_cannot_be_read_is_refused(client, settings, tmp_path):
    settings.LOCAL_MODEL_PATH = str(tmp_path / "nothing.gguf")

    refused(start(client, running.store_version()), 409, "run_refused")


# --- Looking ----------------------------------------------------------------------------------------------


def test_a_failed_run_says_why_and_what_to_do(client):
    run = running.start()
    TrainingRun.objects.update(status=RunStatus.FAILED, error_code="out_of_memory", ended_at=timezone.now())

    error = client.get(f"{RUNS}/{run.pk}").json()["error"]

    assert error["code"] == "out_of_memory"
    assert "batch_size" in error["message"]


def test_a_running_one_says_how_long_it_will_take(client):
    run = running.start()
    claim(run)
    TrainingRun.objects.update(step=5, total_steps=10)
    now = timezone.now()
    for step in range(1, 6):
        Metric.objects.create(run=run, step=step, logged_at=now - timedelta(seconds=10 * (5 - step)))

    assert 40 < client.get(f"{RUNS}/{run.pk}").json()["eta_seconds"] <= 50


def test_the_list_is_paged_and_costs_the_same_for_many(client, django_assert_num_queries):
    from django.db import connection

    version = running.store_version()
    runs = [running.start(version=version) for _ in range(3)]
    client.get(RUNS)
    with CaptureQueriesContext(connection) as few:
        first = client.get(f"{RUNS}?limit=1").json()
    with CaptureQueriesContext(connection) as many:
        everything = client.get(f"{RUNS}?limit=3").json()

    assert len(few) == len(many)
    assert [run["id"] for run in everything["results"]] == [str(run.pk) for run in reversed(runs)]
    assert first["next"]
    assert [run["id"] for run in client.get(first["next"]).json()["results"]] == [str(runs[1].pk)]


def test_the_curve_is_what_was_logged(client):
    run, other = running.start(), running.start(version=running.store_version(tiny.rows(4)))
    for step in (3, 1, 2):
        Metric.objects.create(run=run, step=step, loss=10.0 / step)
    Metric.objects.create(run=other, step=1, loss=9.0)

    said = client.get(f"{METRICS}?run={run.pk}").json()

    assert [(row["step"], row["loss"]) for row in said["results"]] == [(1, 10.0), (2, 5.0), (3, 10.0 / 3)]
    assert (said["run"], said["status"], said["total_steps"], said["next"]) == (
        str(run.pk),
        "queued",
        run.total_steps,
        None,
    )
    later = client.get(f"{METRICS}?run={run.pk}&after=1&limit=1").json()
    assert [row["step"] for row in later["results"]] == [2]
    assert [row["step"] for row in client.get(later["next"]).json()["results"]] == [3]


def test_a_long_curve_costs_as_many_queries_as_a_short_one(client):
    from django.db import connection

    run = running.start()
    counts = []
    for steps in (range(1, 3), range(3, 500)):
        Metric.objects.bulk_create(Metric(run=run, step=step, loss=1.0) for step in steps)
        client.get(f"{METRICS}?run={run.pk}")
        with CaptureQueriesContext(connection) as queries:
            client.get(f"{METRICS}?run={run.pk}")
        counts.append(len(queries))

    assert counts[0] == counts[1] <= 5


@pytest.mark.parametrize("query", ["", "run=all", "run=01900000-0000-7000-8000-000000000000&after=x"])
def test_a_curve_needs_a_run(client, query):
    assert client.get(f"{METRICS}?{query}").status_code in (400, 404)


# --- Calling off, and rights ------------------------------------------------------------------------------


def test_a_run_that_waits_is_called_off_at_once_and_only_once(client, operator):
    run = running.start()

    assert post(client, f"{RUNS}/{run.pk}/cancel").json()["status"] == "cancelled"

    answer = post(client, f"{RUNS}/{run.pk}/cancel")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "run_refused")
    assert AuditEvent.objects.filter(kind="run_cancelled").count() == 1


def test_one_under_way_is_asked_to_end(client):
    run = running.start()
    claim(run)

    said = post(client, f"{RUNS}/{run.pk}/cancel").json()

    assert said["status"] == "running"
    assert said["cancel_requested_at"]


def doors(pk):
    return [
        ("get", RUNS),
        ("post", RUNS),
        ("get", f"{RUNS}/{pk}"),
        ("post", f"{RUNS}/{pk}/cancel"),
        ("get", f"{METRICS}?run={pk}"),
    ]


def test_only_operators_train(make_user, alice):
    run = running.start()
    curator = make_user("curator", is_staff=True)
    curator.groups.add(Group.objects.get(name="curator"))

    for user in (alice, curator):
        for verb, address in doors(run.pk):
            answer = getattr(Client(headers=bearer(user)), verb)(address, content_type="application/json")
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "permission_denied"), address
    assert TrainingRun.objects.get().status == RunStatus.QUEUED


def test_of_their_keys_only_those_for_training(operator):
    run = running.start()

    for scopes, status in ((["chat"], 403), (["train"], 200)):
        client = Client(headers=bearer(operator, scopes=scopes))
        assert client.get(f"{RUNS}/{run.pk}").status_code == status


def test_a_run_that_is_not_there_is_not_found(client):
    for verb, address in doors(uuid4())[2:]:
        answer = getattr(client, verb)(address, content_type="application/json")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_the_estimate_grows_with_what_it_is_of():
    from inference.engine.base_model import base_model
    from training.estimate import estimate

    version = running.store_version(running.tiny.rows(500))
    base = base_model(str(running.tiny.Path(process.settings.LOCAL_MODEL_PATH)), process.settings.MODELS_ROOT)

    def of(**chosen):
        return estimate(version, RunSettings(**chosen), base=base)

    usual = of()
    assert of(batch_size=8).memory_bytes > usual.memory_bytes
    assert of(max_length=1024).memory_bytes > usual.memory_bytes
    assert of(rank=64).disk_bytes > usual.disk_bytes
    assert of(epochs=100).seconds > usual.seconds


def test_earlier_runs_on_the_same_model_say_how_fast_it_goes():
    run = running.start()
    fast = running.start(version=running.store_version(tiny.rows(6))).estimate["seconds"]
    Metric.objects.create(run=run, step=1, tokens_per_second=1.0)

    slow = running.start(version=DatasetVersion.objects.get(pk=run.version_id))

    assert slow.estimate["seconds"] > 100 > fast
