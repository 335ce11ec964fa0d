"""What the actions of the admin do, each by the one function that does it everywhere, and what they tell."""

import pytest
from django.contrib.auth.hashers import get_hasher
from django.urls import reverse
from django_tasks_db.models import DBTaskResult, get_date_max

from accounts.models import AuditEvent
from accounts.models.audit import AuditKind
from conftest import PASSWORD, hashed_password, sign_in_client
from embeddings.deletion import finish_document
from embeddings.models import Document, DocumentVersion
from embeddings.rebuild import index_again, rebuild_outdated
from inference.models import ChatModelConfig
from llmsite.core.worker import Worker, call_off, retry
from training.models import Promotion, TrainingRun
from training.tests.making import make_run

pytestmark = pytest.mark.django_db

TASKS = "admin:django_tasks_database_dbtaskresult_changelist"


@pytest.fixture
def boss(client, people):
    people["superuser"].password = hashed_password(get_hasher().algorithm)
    people["superuser"].save()
    sign_in_client(client, people["superuser"])
    return client


def act(client, table, action, *rows, **values):
    chosen = {"action": action, "_selected_action": [str(row) for row in rows], "confirmed": "yes", **values}
    answer = client.post(reverse(f"admin:{table}_changelist"), chosen, follow=True)
    return [str(message) for message in answer.context["messages"]]


def events(kind):
    return [event.data for event in AuditEvent.objects.filter(kind=kind)]


def make_task(task, *args, **values):
    defaults = {"status": "READY", "run_after": get_date_max(), "backend_name": "default"}
    return DBTaskResult.objects.create(
        task_path=task.module_path, args_kwargs={"args": list(args), "kwargs": {}}, **{**defaults, **values}
    )


# --- The queue ----------------------------------------------------------------------------------------


def test_a_task_that_failed_is_put_back_to_work(boss, people):
    failed = make_task(
        rebuild_outdated, status="FAILED", finished_at=people["owner"].date_joined, worker_ids=["a"] * 3
    )

    told = act(boss, "django_tasks_database_dbtaskresult", "retry", failed.pk)
    again = act(boss, "django_tasks_database_dbtaskresult", "retry", failed.pk)

    failed.refresh_from_db()
    assert (failed.status, failed.worker_ids, failed.finished_at) == ("READY", [], None)
    assert told == ["Put tasks back to work: done, 1 row."]
    assert any("was left as it is" in text for text in again)
    assert events(AuditKind.TASK_RETRIED) == [{"task": str(failed.pk), "path": failed.task_path}]
    assert DBTaskResult.objects.ready().filter(pk=failed.pk).exists()


def test_of_a_document_whose_task_failed_the_newest_version_is_read_again(boss, objects):
    DocumentVersion.objects.update(status="failed", error="crashed")

    act(boss, "django_tasks_database_dbtaskresult", "retry", objects.task)

    assert DocumentVersion.objects.get().status == "queued"
    assert DBTaskResult.objects.filter(status="READY").count() == 1


def test_a_task_is_called_off_unless_it_removes_what_was_deleted(boss, objects):
    waiting, deletion = make_task(rebuild_outdated), make_task(finish_document, str(objects.document))

    told = act(boss, "django_tasks_database_dbtaskresult", "call_off", waiting.pk, deletion.pk)

    waiting.refresh_from_db()
    deletion.refresh_from_db()
    assert (waiting.status, deletion.status) == ("FAILED", "READY")
    assert waiting.exception_class_path.endswith(".CalledOff")
    assert any("has to come to its end" in text for text in told)
    assert "Call tasks off: done, 1 row." in told
    assert events(AuditKind.TASK_CANCELLED) == [{"task": str(waiting.pk), "path": waiting.task_path}]


def test_a_document_whose_reading_is_called_off_says_so(objects):
    from embeddings.failures import CANCELLED, may_pass, sentence
    from embeddings.ingestion import ingest_version

    DocumentVersion.objects.update(status="queued")
    task = make_task(ingest_version, str(objects.document_version))

    assert call_off(task) is True
    assert call_off(task) is False
    version = DocumentVersion.objects.get()
    assert (version.status, version.error) == ("failed", CANCELLED)
    assert may_pass(CANCELLED)
    assert "called off" in sentence(CANCELLED)


def test_a_running_task_that_is_called_off_changes_nothing_any_more(people):
    task = make_task(rebuild_outdated)
    worker = Worker(beats=False)
    assert worker._claim(task)

    assert call_off(task)

    assert not DBTaskResult.objects.running().exists()
    assert retry(task)


# --- Documents ----------------------------------------------------------------------------------------


def test_a_document_is_read_again_where_it_has_failed(boss, objects):
    assert "was left as it is" in " ".join(act(boss, "embeddings_document", "read_again", objects.document))
    DocumentVersion.objects.update(status="failed", error="crashed")

    act(boss, "embeddings_document", "read_again", objects.document)

    assert DocumentVersion.objects.get().status == "queued"
    assert events(AuditKind.DOCUMENT_REREAD) == [{"document": str(objects.document)}]


def test_a_collection_is_indexed_again_by_a_worker(boss, objects):
    act(boss, "embeddings_collection", "index_again", objects.collection)

    task = DBTaskResult.objects.get(status="READY")
    assert (task.task_path, task.args_kwargs["args"]) == (index_again.module_path, [str(objects.collection)])
    assert events(AuditKind.COLLECTION_REINDEXED) == [{"collection": str(objects.collection)}]
    assert Document.objects.count() == 1


# --- Training -----------------------------------------------------------------------------------------


def test_runs_are_cancelled_and_what_has_ended_says_so(boss, objects, people):
    waiting = make_run(people["owner"], status="queued", name="Waiting")

    told = act(boss, "training_trainingrun", "cancel", waiting.pk, objects.run)

    assert TrainingRun.objects.get(pk=waiting.pk).status == "cancelled"
    assert "Secret run: This run has ended already." in told
    assert "Cancel runs: done, 1 row." in told
    assert [event["run"] for event in events(AuditKind.RUN_CANCELLED)] == [str(waiting.pk)]


def test_a_promotion_that_is_under_way_is_called_off_and_an_old_one_is_left(boss, objects):
    moving = Promotion.objects.create(model_id=objects.model, status="loading")

    told = act(boss, "training_promotion", "roll_back", moving.pk, objects.promotion, password=PASSWORD)

    moving.refresh_from_db()
    assert moving.status == "failed"
    assert "Roll back models: done, 1 row." in told
    assert any("was left as it is" in text for text in told)


def test_why_a_run_cannot_be_promoted_is_told(boss, objects):
    told = act(boss, "training_trainingrun", "promote", objects.run, password=PASSWORD)

    assert any(text.startswith("Secret run: ") for text in told)
    assert not Promotion.objects.exclude(pk=objects.promotion).exists()


# --- Models -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("password", "is_changed"), [("", False), ("wrong", False), (PASSWORD, True)])
def test_the_address_of_a_provider_is_changed_with_the_password(
    boss, objects, password, is_changed, settings
):
    settings.PROVIDER_BASE_URLS = ["http://127.0.0.1:9/v1"]
    model = ChatModelConfig.objects.get(alias="echo")
    ChatModelConfig.objects.filter(pk=model.pk).update(provider="local")
    values = {
        "alias": "echo",
        "label": "",
        "provider": "local",
        "provider_model": "echo",
        "base_url": "http://127.0.0.1:9/v1",
        "password": password,
        "context_window": model.context_window,
        "max_tokens": model.max_tokens,
        "cache_scope": model.cache_scope,
        "is_active": "on",
        "parameters": "{}",
        "languages": "",
        "input_price": "0",
        "output_price": "0",
        "chain-TOTAL_FORMS": 0,
        "chain-INITIAL_FORMS": 0,
    }

    answer = boss.post(reverse("admin:inference_chatmodelconfig_change", args=[model.pk]), values)

    errors = {} if answer.status_code == 302 else answer.context["adminform"].form.errors
    assert list(errors) == ([] if is_changed else ["password"]), errors
    model.refresh_from_db()
    assert bool(model.base_url) is is_changed
    assert PASSWORD not in str(events(AuditKind.MODEL_CHANGED))
