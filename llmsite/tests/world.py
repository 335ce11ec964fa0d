"""What the tests of rights stand on: one object of each kind, its addresses, and all rows of the database."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

from django.apps import apps
from django.contrib.auth.models import Group
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction
from django_tasks_db.models import DBTaskResult, get_date_max

from accounts import roles
from accounts.audit import record
from accounts.keys import create_key
from accounts.models import LedgerEntry, Reservation, Session, Spending, Team, User
from accounts.models.audit import AuditKind
from embeddings import storage
from embeddings.ingestion import ingest_version
from embeddings.models import Collection, Document, Page, SearchIndex
from embeddings.models import Status as Reading
from feedback.models import Example, Feedback
from inference.models import (
    AnswerSource,
    ChatModelConfig,
    Conversation,
    EngineProcess,
    Generation,
    Message,
    Status,
    VerifiedAnswer,
)
from llmsite.tests.rights import Row
from training.models import Dataset, DatasetVersion, Promotion
from training.tests.making import make_adapter, make_evaluation, make_run

UUIDS = (
    "session",
    "event",
    "conversation",
    "generation",
    "collection",
    "document",
    "document_version",
    "feedback",
    "example",
    "verified",
    "dataset",
    "dataset_version",
    "run",
    "evaluation",
    "promotion",
    "question",
    "dataset_row",
    "metric",
    "evaluation_answer",
    "adapter",
    "process",
    "load",
    "reservation",
    "task",
)
MISSING, MISSING_NUMBER = UUID(int=1), 99_999_999


def make_objects(owner: User) -> SimpleNamespace:
    """One object of each kind; the answer is being written, so that stopping it would show."""
    conversation = Conversation.objects.create(owner=owner, title="Secret plans", model="echo")
    question = Message.objects.create(conversation=conversation, role="user", content="Secret question")
    answer = Message.objects.create(
        conversation=conversation, role="assistant", content="Secret answer", parent=question
    )
    generation = Generation.objects.create(
        user=owner, message=answer, status=Status.STREAMING, model_alias="echo", provider="echo", door="rest"
    )
    entry = LedgerEntry.objects.create(
        account=owner.pseudonym,
        month=date(2026, 1, 1),
        model="echo",
        provider="echo",
        input_price=0,
        output_price=0,
        call=uuid4(),
        input_tokens=1,
        output_tokens=1,
        cost_micro=0,
    )
    collection = Collection.objects.create(owner=owner, name="Secret collection")
    document = make_document(collection)
    feedback = Feedback.objects.create(user=owner, message=answer, rating=1, comment="Secret word")
    dataset = make_dataset(owner)
    run = make_run(owner, name="Secret run", version=dataset)
    model = ChatModelConfig.objects.get(alias="echo")
    example = Example.objects.create(feedback=feedback, kind="sft", prompt=[], chosen="Secret lesson")
    evaluation = make_evaluation(run)
    return SimpleNamespace(
        **make_operation(run, generation, document, entry),
        dataset_row=dataset.rows.create(number=0, user=owner, feedback=feedback).pk,
        evaluation_answer=evaluation.answers.create(example=example, before="Secret", after="Secret").pk,
        collection=collection.pk,
        document=document.pk,
        document_version=document.current_id,
        conversation=conversation.pk,
        question=question.pk,
        answer=answer.pk,
        generation=generation.pk,
        session=Session.objects.create(user=owner, user_agent="Secret browser").pk,
        key=create_key(owner, "Secret key")[0].pk,
        team=Team.objects.get(members=owner).pk,
        event=record(AuditKind.SIGNED_IN, subject=owner).pk,
        entry=entry.pk,
        user=owner.pk,
        group=Group.objects.get(name=roles.MEMBER).pk,
        model=model.pk,
        dataset=dataset.dataset_id,
        dataset_version=dataset.pk,
        run=run.pk,
        evaluation=evaluation.pk,
        promotion=Promotion.objects.create(model=model, status="failed").pk,
        feedback=feedback.pk,
        example=example.pk,
        verified=VerifiedAnswer.objects.create(question="Secret", answer="Secret", user=owner).pk,
    )


def make_operation(
    run: Any, generation: Generation, document: Document, entry: LedgerEntry
) -> dict[str, Any]:
    """What only those who run the site see."""
    adapter = make_adapter(run)
    process = EngineProcess.objects.create(base_model=run.base_model)
    index = SearchIndex.objects.create(
        collection=document.collection, embedder="e", dimensions=1, chunker="c", status="active"
    )
    version = document.versions.get()
    source = AnswerSource.objects.create(
        generation=generation,
        number=1,
        document=document.pk,
        version=version.pk,
        collection=document.collection_id,
        title="Secret title",
        start=0,
        end=1,
        text="Secret passage",
        score=1,
    )
    return {
        "adapter": adapter.pk,
        "process": process.pk,
        "load": process.loads.create(adapter=adapter, state="ready").pk,
        "metric": run.metrics.create(step=1, loss=1.0).pk,
        "index": index.pk,
        "chunk": version.chunks.create(index=index, ordinal=0, page=1, start=0, end=1, text="Secret").pk,
        "page": version.pages.get().pk,
        "source": source.pk,
        "reservation": Reservation.objects.create(
            **entry.terms(), call=generation.pk, amount_micro=1, input_tokens=1
        ).pk,
        "spending": Spending.objects.create(holder=f"user:{entry.account}", month=entry.month).pk,
        "task": DBTaskResult.objects.create(
            task_path=ingest_version.module_path,
            args_kwargs={"args": [str(version.pk)], "kwargs": {}},
            run_after=get_date_max(),
            status="FAILED",
            finished_at=version.created_at,
            exception_class_path="builtins.ValueError",
        ).pk,
    }


def make_dataset(owner: User) -> DatasetVersion:
    return DatasetVersion.objects.create(
        dataset=Dataset.objects.create(name="Secret lessons", created_by=owner),
        number=1,
        layout="sft",
        sha256="0" * 64,
        row_count=2,
    )


def make_document(collection: Collection) -> Document:
    """One that is ready to be read."""
    document = Document.objects.create(collection=collection, name="secret.txt", uploader=collection.owner)
    document.current = document.versions.create(
        number=1,
        sha256="0" * 64,
        size=1,
        media_type="text/plain",
        file="documents/secret",
        status=Reading.READY,
        pages_total=1,
    )
    document.save()
    storage.path_of("documents").mkdir(parents=True, exist_ok=True)
    storage.path_of("documents/secret").write_text("Secret text")
    Page.objects.create(version=document.current, number=1, text="Secret text")
    return document


def address_of(row: Row, objects: SimpleNamespace | None) -> str:
    """The route with the owner's object in it, or with one that does not exist."""
    content_type = ContentType.objects.get_for_model(Conversation).pk
    pk = target_of(row, objects) if row.target else objects and objects.conversation
    address = row.route.replace("<path:content_type_id>", str(content_type))
    address = re.sub(r"<(uuid:pk|int:pk|path:object_id|id)>", str(pk), address)
    address = address.replace("<app_label>", "accounts").replace("<url>", "no/such/page/")
    return "/" + address.replace("<str:uid>", "MQ").replace("<str:token>", "nonsense")


def target_of(row: Row, objects: SimpleNamespace | None) -> object:
    if objects is not None:
        return getattr(objects, row.target)
    return MISSING if row.target in UUIDS else MISSING_NUMBER


def rows_of_all_tables() -> dict[str, list[tuple]]:
    tables = [
        table
        for app in (
            "accounts",
            "embeddings",
            "inference",
            "feedback",
            "training",
            "dashboard",
            "admin",
            "auth",
        )
        for table in apps.get_app_config(app).get_models(include_auto_created=True)
        if table._meta.label != "auth.Permission"
    ]
    return {table._meta.label: sorted(table._base_manager.values_list(), key=repr) for table in tables}


def difference(before: dict[str, list], after: dict[str, list]) -> list[str]:
    return [name for name in before if before[name] != after[name]]


@contextmanager
def watched_writes() -> Iterator[list[str]]:
    """The statements that may have changed rows while this lasts: who finds none need not read all tables."""
    written: list[str] = []

    def watch(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if not sql.lstrip().upper().startswith(("SELECT", "SAVEPOINT", "RELEASE", "ROLLBACK", "PRAGMA")):
            written.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(watch):
        yield written


@contextmanager
def rolled_back() -> Iterator[None]:
    with transaction.atomic():
        yield
        transaction.set_rollback(True)
