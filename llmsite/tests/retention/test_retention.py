"""What is past its time goes, a few rows at a time; what something else stands on stays."""

import io
import json
from datetime import date, timedelta
from uuid import uuid4

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import Error as DatabaseFailure
from django.db import OperationalError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

from accounts.audit import record
from accounts.models import AuditEvent, LedgerEntry
from accounts.models.audit import AuditKind
from conftest import sign_in_client
from dashboard import roller
from dashboard.models import AnswerSum
from embeddings.models import Collection, Document, DocumentVersion
from feedback.models import Feedback
from inference.models import Conversation, Generation, Message, VerifiedAnswer
from llmsite.core.worker import Worker
from llmsite.retention import pruning
from llmsite.retention.kinds import KINDS, TASKS
from llmsite.retention.pruning import ask_for_pruning, preview, prune, prune_now
from training.models import DatasetRow, Metric
from training.tests.making import make_adapter, make_run, make_version

pytestmark = pytest.mark.django_db(transaction=True)

OLD = timezone.now() - timedelta(days=100)


@pytest.fixture(autouse=True)
def keep_thirty_days(settings):
    for kind in KINDS:
        setattr(settings, kind.setting, 30)


def conversation(user, *, at=OLD, status="finished", rolled_up=True, **values):
    """One question with its answer; the answer."""
    row = Conversation.objects.create(owner=user, updated_at=at, **values)
    Conversation.objects.filter(pk=row.pk).update(created_at=at)
    question = Message.objects.create(conversation=row, role="user", content="Why?")
    answer = Message.objects.create(conversation=row, role="assistant", parent=question, content="So.")
    ended = None if status == "streaming" else at
    Generation.objects.create(
        user=user,
        message=answer,
        status=status,
        model_alias="echo",
        provider="echo",
        door="rest",
        created_at=at,
        ended_at=ended,
        rolled_up=rolled_up,
    )
    return answer


def said(user, answer, **values):
    return Feedback.objects.create(user=user, message=answer, rating=-1, updated_at=OLD, **values)


def left() -> set:
    return set(Conversation.objects.values_list("pk", flat=True))


def test_old_conversations_go_with_all_that_hangs_on_them(alice):
    old, new = conversation(alice), conversation(alice, at=timezone.now())
    said(alice, old)
    assert prune() == {"conversations": 1}
    assert left() == {new.conversation_id}
    assert Message.objects.count() == 2
    assert Generation.objects.count() == 1
    assert not Feedback.objects.exists()


def test_lists_and_single_questions_have_times_of_their_own(alice, settings):
    settings.RETENTION_CONVERSATIONS_DAYS = 0
    listed, single = conversation(alice), conversation(alice, is_listed=False)
    assert prune() == {"one_off": 1}
    assert left() == {listed.conversation_id}
    settings.RETENTION_ONE_OFF_DAYS, settings.RETENTION_CONVERSATIONS_DAYS = 0, 30
    assert prune() == {"conversations": 1}
    assert single.conversation_id not in left()


def test_by_default_nothing_goes(alice, settings):
    for kind in KINDS:
        setattr(settings, kind.setting, 0)
    conversation(alice)
    assert prune() == {}
    assert [due.rows for due in preview()] == [0] * (len(KINDS) + 1)
    ask_for_pruning()
    assert not DBTaskResult.objects.exists()


@pytest.mark.parametrize("because", ["accepted", "trained_on", "written", "not_counted"])
def test_what_something_stands_on_stays(alice, because):
    answer = conversation(
        alice,
        status="streaming" if because == "written" else "finished",
        rolled_up=because != "not_counted",
    )
    if because == "accepted":
        said(alice, answer, status="accepted", scope="site")
    if because == "trained_on":
        feedback = said(alice, answer)
        DatasetRow.objects.create(version=make_version(), number=0, feedback=feedback, user=alice)
    assert prune() == {}
    assert left() == {answer.conversation_id}


def test_feedback_goes_alone_where_conversations_stay(alice, settings):
    settings.RETENTION_CONVERSATIONS_DAYS = 0
    gone = said(alice, conversation(alice), status="rejected")
    VerifiedAnswer.objects.create(question="Why?", answer="So.", user=alice, source=gone.pk)
    kept = said(alice, conversation(alice), status="accepted", scope="site")
    assert prune() == {"feedback": 1}
    assert list(Feedback.objects.values_list("pk", flat=True)) == [kept.pk]
    # As when it is taken back by hand: what followed from it goes too.
    assert not VerifiedAnswer.objects.exists()


def document(collection, *, at=OLD, status="ready"):
    row = Document.objects.create(collection=collection, name=f"{uuid4()}.txt", uploader=collection.owner)
    row.versions.create(
        number=1, sha256="0" * 64, size=1, media_type="text/plain", file=f"documents/{uuid4()}", status=status
    )
    Document.objects.filter(pk=row.pk).update(created_at=at)
    DocumentVersion.objects.filter(document=row).update(created_at=at)
    return row


def test_documents_go_the_way_they_go_by_hand(alice):
    collection = Collection.objects.create(owner=alice, name="Papers")
    old = document(collection)
    document(collection, at=timezone.now())
    document(collection, status="parsing")
    renewed = document(collection)
    renewed.versions.create(number=2, sha256="1" * 64, size=1, media_type="text/plain", status="ready")
    assert prune() == {"documents": 1}
    assert list(Document.objects.exclude(deleting_at=None)) == [old]
    task = DBTaskResult.objects.get()
    assert task.task_path.endswith("finish_document")
    assert task.args_kwargs["args"] == [str(old.pk)]
    assert AuditEvent.objects.filter(kind=AuditKind.DOCUMENT_DELETED, actor=None).count() == 1
    assert prune() == {}


def test_curves_go_but_those_of_what_answers(alice, models):
    ended, serving, running = make_run(alice), make_run(alice), make_run(alice, status="running")
    models["echo"].promotions.create(adapter=make_adapter(serving), status="live")
    for run in (ended, serving, running):
        Metric.objects.create(run=run, step=1, loss=1.0, logged_at=OLD)
    assert prune() == {"training_metrics": 1}
    assert set(Metric.objects.values_list("run", flat=True)) == {serving.pk, running.pk}


def entry(month: date, at=OLD):
    return LedgerEntry.objects.create(
        account=uuid4(),
        month=month,
        model="echo",
        provider="echo",
        input_price=0,
        output_price=0,
        call=uuid4(),
        input_tokens=1,
        output_tokens=1,
        cost_micro=1,
        created_at=at,
    )


def test_the_ledger_keeps_this_month_and_the_last_one(settings):
    settings.RETENTION_LEDGER_DAYS = 1
    this_month = timezone.now().date().replace(day=1)
    last_month = (this_month - timedelta(days=1)).replace(day=1)
    kept = {entry(this_month).pk, entry(last_month).pk}
    entry((last_month - timedelta(days=1)).replace(day=1))
    assert prune() == {"ledger": 1}
    assert set(LedgerEntry.objects.values_list("pk", flat=True)) == kept


def event(kind, at=OLD):
    return AuditEvent.objects.create(kind=kind, created_at=at)


def test_the_audit_log_always_knows_who_was_erased(settings):
    gone, new = event(AuditKind.SIGNED_IN), event(AuditKind.SIGNED_IN, timezone.now())
    kept = [event(kind) for kind in (AuditKind.ERASED, AuditKind.DISABLED, AuditKind.ENABLED)]
    assert prune() == {"audit": 1}
    there = set(AuditEvent.objects.values_list("pk", flat=True))
    assert {new.pk, *(one.pk for one in kept)} < there
    assert gone.pk not in there


def test_the_audit_log_says_for_good_who_opened_a_private_text_and_why():
    kept = {event(kind).pk for kind in (AuditKind.PRIVATE_OPENED, AuditKind.CHAT_READ)}
    event(AuditKind.SIGNED_IN)
    assert prune() == {"audit": 1}
    assert kept < set(AuditEvent.objects.values_list("pk", flat=True))


def test_what_is_written_once_goes_to_nobody_else_and_is_never_changed():
    event(AuditKind.SIGNED_IN)
    with pytest.raises(DatabaseFailure):
        change_for_retention()
    prune()
    event(AuditKind.SIGNED_IN)
    if connection.vendor == "postgresql":
        # What was allowed ended with the transaction.
        with pytest.raises(DatabaseFailure):
            AuditEvent._base_manager.all().delete()


@transaction.atomic
def change_for_retention():
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL llmsite.retention = 'on'")
    AuditEvent._base_manager.update(kind=AuditKind.SIGNED_OUT)


def test_the_admins_log_goes(alice):
    LogEntry.objects.create(
        user=alice,
        content_type=ContentType.objects.get_for_model(Conversation),
        object_id="1",
        object_repr="x",
        action_flag=CHANGE,
        action_time=OLD,
    )
    assert prune() == {"admin_log": 1}


def test_one_event_tells_of_a_run(alice):
    for _ in range(3):
        conversation(alice)
    conversation(alice, is_listed=False)
    prune()
    told = AuditEvent.objects.get(kind=AuditKind.DATA_PRUNED)
    assert told.data == {"counts": {"conversations": 3, "one_off": 1}}
    prune()
    assert AuditEvent.objects.filter(kind=AuditKind.DATA_PRUNED).count() == 1


def test_a_run_that_breaks_off_tells_what_it_has_done_and_goes_on_later(alice, monkeypatch):
    small = [kind.__class__(**{**_values(kind), "at_once": 2}) for kind in KINDS]
    monkeypatch.setattr(pruning, "KINDS", tuple(small))
    for _ in range(5):
        conversation(alice)

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prune(pause=stop)
    assert Conversation.objects.count() == 3
    assert AuditEvent.objects.get(kind=AuditKind.DATA_PRUNED).data == {"counts": {"conversations": 2}}
    assert prune() == {"conversations": 3}


def _values(kind):
    return {name: getattr(kind, name) for name in kind.__slots__}


def test_transactions_are_small_and_go_by_primary_key(alice, monkeypatch):
    sizes, remove = [], pruning._remove
    monkeypatch.setattr(pruning, "_remove", lambda kind, some: sizes.append(len(some)) or remove(kind, some))
    for _ in range(120):
        conversation(alice)
    prune()
    assert sizes == [50, 50, 20]


def test_one_that_somebody_comes_back_to_stays(alice, monkeypatch):
    answer = conversation(alice)
    remove = pruning._remove

    def come_back(kind, some):
        Conversation.objects.update(updated_at=timezone.now())
        return remove(kind, some)

    monkeypatch.setattr(pruning, "_remove", come_back)
    assert prune() == {}
    assert left() == {answer.conversation_id}


class Deadlock(Exception):
    sqlstate = "40P01"


def test_who_deletes_the_same_at_the_same_time_ends_no_run(alice, monkeypatch):
    conversation(alice)
    remove, met = pruning._remove, iter([Deadlock])

    def meet_another(kind, some):
        for deadlock in met:
            raise OperationalError from deadlock
        return remove(kind, some)

    monkeypatch.setattr(pruning, "_remove", meet_another)
    assert prune() == {"conversations": 1}
    assert left() == set()


def test_the_dashboards_sums_stay(alice):
    conversation(alice, rolled_up=False)
    roller.roll_up()
    before = list(AnswerSum.objects.values())
    assert before
    assert prune() == {"conversations": 1}
    assert list(AnswerSum.objects.values()) == before


def test_a_worker_does_it_and_is_asked_once(alice):
    conversation(alice)
    ask_for_pruning()
    ask_for_pruning()
    task = DBTaskResult.objects.get()
    ended = Worker(only=[task.pk]).run_next()
    assert ended is not None
    assert ended.how == "done"
    assert left() == set()


def test_the_preview_says_what_a_run_does_and_does_nothing(alice):
    conversation(alice)
    conversation(alice, at=OLD + timedelta(days=1))
    record(AuditKind.SIGNED_IN, subject=alice)
    out = io.StringIO()
    call_command("prune", "--dry-run", "--json", stdout=out)
    due = json.loads(out.getvalue())["due"]
    assert due["conversations"] == {"days": 30, "rows": 2, "oldest": OLD.isoformat()}
    assert due["documents"] == {"days": 30, "rows": 0, "oldest": None}
    assert len(left()) == 2
    out = io.StringIO()
    call_command("prune", "--json", stdout=out)
    assert json.loads(out.getvalue()) == {"removed": {"conversations": 2}}


def test_tasks_are_in_the_preview_and_go_as_it_says(settings):
    settings.RETENTION_TASKS_DAYS = 1
    prune_now.enqueue()
    two_days_ago = timezone.now() - timedelta(days=2)
    DBTaskResult.objects.update(status="SUCCESSFUL", finished_at=two_days_ago)
    out = io.StringIO()
    call_command("prune", "--dry-run", stdout=out)
    assert f"tasks             1 older than 1 days, the oldest of {two_days_ago:%Y-%m-%d}" in out.getvalue()
    assert out.getvalue().count("\n") == len(KINDS) + 1

    settings.RETENTION_TASKS_DAYS = 0
    out = io.StringIO()
    call_command("prune", "--dry-run", stdout=out)
    assert "tasks             kept for ever (RETENTION_TASKS_DAYS)" in out.getvalue()
    call_command("prune", stdout=out)
    assert DBTaskResult.objects.count() == 1

    settings.RETENTION_TASKS_DAYS = 1
    out = io.StringIO()
    call_command("prune", "--json", stdout=out)
    assert json.loads(out.getvalue()) == {"removed": {"tasks": 1}}
    assert not AuditEvent.objects.filter(kind=AuditKind.DATA_PRUNED).exists()


def test_where_all_is_kept_the_page_says_it_once(staff, settings):
    for kind in (*KINDS, TASKS):
        setattr(settings, kind.setting, 0)
    client = Client()
    sign_in_client(client, staff)
    page = client.get("/retention/").content.decode()
    assert page.count("for ever") == 1
    assert "Everything is kept for ever." in page
    assert "<table" not in page


def test_operators_see_it_on_a_page_and_others_do_not(alice, staff, settings):
    settings.RETENTION_AUDIT_DAYS = 0
    conversation(alice)
    client = Client()
    assert client.get("/retention/").status_code == 302
    sign_in_client(client, alice)
    assert client.get("/retention/").status_code == 403
    sign_in_client(client, staff)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        page = client.get("/retention/").content.decode()
    assert f'<time datetime="{OLD:%Y-%m-%d}">' in page
    assert "30 days" in page
    assert page.count("All else is kept for ever.") == 1
    assert page.count("Events of the audit log") == 1
    assert len(queries) <= 25
    assert left()
