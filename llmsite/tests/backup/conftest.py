"""A site with something in every kind of table and folder, whose folders are the test's own."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from django_tasks_db.models import DBTaskResult

from accounts.models import Team, User
from embeddings import storage
from embeddings.deletion import finish_document
from embeddings.models import Chunk, Collection, Document, SearchIndex
from inference.adapters import folder_of
from inference.models import Adapter, ChatModelConfig, Conversation, Message
from inference.models.sources import AnswerSource
from llmsite.backup import tables
from llmsite.tests.world import make_objects
from training.models import DatasetVersion
from training.storage import path_of
from training.tests.making import make_adapter, make_run

MOMENT = datetime(2026, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)
ODD = {'é\n"': [None, 1.5, -0.0, 2**53 + 1, {"z": {}, "a": "\U0001f600"}], "": False}


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, settings: Any) -> Path:
    """Where the site of the test keeps its files."""
    for name in ("MEDIA", "INDEX", "DATASETS", "ADAPTERS"):
        folder = tmp_path / name.lower()
        folder.mkdir()
        setattr(settings, f"{name}_ROOT", folder)
    settings.FILE_UPLOAD_TEMP_DIR = tmp_path / "media" / "uploads"
    settings.MODEL_URL = "http://127.0.0.1:9"
    return tmp_path


@pytest.fixture
def full(alice: User, bob: User, models: dict[str, ChatModelConfig]) -> SimpleNamespace:
    """Alice has one of everything, Bob a document of his own."""
    team = Team.objects.create(name="Readers")
    team.members.add(alice, bob)
    objects = make_objects(alice)
    Document.objects.all().delete()
    SearchIndex.objects.all().delete()
    DBTaskResult.objects.all().delete()
    storage.path_of("documents/secret").unlink()
    document = add_document(Collection.objects.get(pk=objects.collection), b"Secret text of Alice")
    bobs = add_document(Collection.objects.create(owner=bob, name="Bob's"), b"What Bob wrote")
    index = SearchIndex.objects.create(
        collection_id=objects.collection, embedder="tiny", dimensions=2, chunker="1", status="active"
    )
    Chunk.objects.create(
        index=index,
        version=document.current,
        ordinal=0,
        page=1,
        start=0,
        end=6,
        text="Secret",
        vector=bytes(range(256)),
    )
    AnswerSource.objects.create(
        generation_id=objects.generation,
        number=77,
        document=document.pk,
        version=document.current_id,
        collection=objects.collection,
        start=0,
        end=6,
        text="Secret",
        score=0.1 + 0.2,
    )
    Conversation.objects.filter(pk=objects.conversation).update(preface=[ODD], updated_at=MOMENT)
    Message.objects.filter(pk=objects.answer).update(content="Line\r\n\tπ 🦉", created_at=MOMENT)
    ChatModelConfig.objects.filter(alias="slow").update(input_price=Decimal("0.150001"))
    make_adapter(make_run(alice, name="Another"))
    for version in DatasetVersion.objects.usable():
        add_dataset_file(version)
    for adapter in Adapter.objects.servable():
        add_adapter_files(adapter.name)
    finish_document.enqueue(str(uuid4()))
    objects.bobs = bobs
    return objects


def add_document(collection: Collection, content: bytes) -> Document:
    document = Document.objects.create(
        collection=collection, name=f"{uuid4()}.txt", uploader=collection.owner
    )
    upload = Path(storage.path_of("upload"))
    upload.write_bytes(content)
    document.current = document.versions.create(
        number=1,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        media_type="text/plain",
        file=storage.keep(upload),
        status="ready",
        step="committed",
    )
    document.save()
    return document


def add_dataset_file(version: DatasetVersion) -> None:
    content = b'{"prompt": "a", "answer": "b"}\n' * 2
    DatasetVersion.objects.filter(pk=version.pk).update(sha256=hashlib.sha256(content).hexdigest())
    version.refresh_from_db()
    path_of(version).parent.mkdir()
    path_of(version).write_bytes(content)


def add_adapter_files(name: str) -> None:
    folder_of(name).mkdir()
    for file in ("manifest.json", "adapter_config.json", "adapter_model.safetensors"):
        (folder_of(name) / file).write_bytes(file.encode() * 100)


@pytest.fixture
def rows() -> Callable[[], dict[str, list[list[Any]]]]:
    """All rows that a backup keeps, by table."""
    # Counters go on, and what is done is told in the audit log.
    others = {"inference.Version", "accounts.AuditEvent"}

    def read() -> dict[str, list[list[Any]]]:
        kept = [model for model in tables.kept_models() if model._meta.label not in others]
        return {model._meta.label: list(map(plain, tables.rows_of(model))) for model in kept}

    return read


def plain(row: list[Any]) -> list[Any]:
    return [bytes(value) if isinstance(value, memoryview) else value for value in row]


def files_below(folder: Path) -> dict[str, bytes]:
    """All files but those of databases and archives, by their paths."""
    found = (path for path in folder.rglob("*") if path.is_file())
    kept = [path for path in found if path.parts[len(folder.parts)] in ("media", "datasets", "adapters")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept}


def finished_task() -> DBTaskResult:
    row = DBTaskResult.objects.get()
    return DBTaskResult.objects.create(
        id=uuid4(),
        task_path=row.task_path,
        args_kwargs=row.args_kwargs,
        backend_name=row.backend_name,
        run_after=row.run_after,
        priority=row.priority,
        queue_name=row.queue_name,
        status="SUCCESSFUL",
        finished_at=MOMENT,
    )
