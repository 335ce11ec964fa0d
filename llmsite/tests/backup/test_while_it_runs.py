"""A backup of a site that goes on: rows of one moment, and every file that they name."""

import json
import tarfile
from threading import Thread

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from embeddings import storage
from embeddings.models import Collection, Document, DocumentVersion
from inference.models import Conversation, Message
from llmsite.backup import making, tables
from llmsite.backup.archive import Writer
from llmsite.backup.making import make
from llmsite.backup.restoring import restore
from llmsite.tests.backup.conftest import add_document, files_below

pytestmark = pytest.mark.django_db(transaction=True)


def by_another(work) -> None:
    """Done by somebody else, on a connection of their own, before this returns."""
    problems = []

    def run() -> None:
        try:
            work()
        except Exception as error:
            problems.append(error)
        finally:
            connections.close_all()

    thread = Thread(target=run)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert problems == []


def upload(name: str = "new") -> Document:
    return add_document(Collection.objects.order_by("pk")[0], name.encode())


def delete(document: Document) -> None:
    """As the task does it that removes a document: the file, then the rows."""
    storage.remove([document.current.file])
    DocumentVersion.objects.filter(document=document).delete()
    document.delete()


def named_and_there(place) -> tuple[set[str], set[str]]:
    """The files that rows of a backup name, and those that its manifest has."""
    with tarfile.open(place) as tar:
        manifest = json.load(tar.extractfile("manifest.json"))
        lines = tar.extractfile("rows/embeddings.DocumentVersion/000001.jsonl").read().splitlines()
    column = manifest["tables"]["embeddings.DocumentVersion"]["columns"].index("file")
    named = {f"files/documents/{json.loads(line)[column]}" for line in lines}
    return named, {name for name in manifest["parts"] if name.startswith("files/documents")}


class Between:
    """Calls `work` once, when the archive gets its first part whose name begins so."""

    def __init__(self, monkeypatch, prefix: str, work) -> None:
        add, self.calls = Writer._add, 0

        def noticing(writer, name, *args) -> None:
            if name.startswith(prefix) and not self.calls:
                self.calls += 1
                by_another(work)
            add(writer, name, *args)

        monkeypatch.setattr(Writer, "_add", noticing)


@pytest.mark.parametrize(
    "moment", ["about.json", "files/documents", "files/adapters", "rows/embeddings.Document"]
)
def test_a_document_uploaded_or_deleted_meanwhile(full, folders, monkeypatch, moment):
    between = Between(monkeypatch, moment, lambda: (upload(), delete(full.bobs)))
    make(folders / "site.tar.gz")
    assert between.calls == 1
    named, there = named_and_there(folders / "site.tar.gz")
    assert named == there
    restore(folders / "site.tar.gz", force=True)
    for version in DocumentVersion.objects.all():
        assert storage.path_of(version.file).is_file()


def test_a_document_uploaded_and_deleted_in_the_middle_of_it_makes_another_snapshot(
    full, folders, monkeypatch
):
    """Its row is in the snapshot, and its file is gone before it could be read."""
    taken, look = [], making._files_of_snapshot

    def snapshot_of(archive, tell):
        taken.append(1)
        if len(taken) == 1:
            # The snapshot begins with what is read first.
            assert Document.objects.count() == 3
            by_another(lambda: delete(passing[0]))
        return look(archive, tell)

    passing = []
    Between(monkeypatch, "files/adapters", lambda: passing.append(upload("passing")))
    monkeypatch.setattr(making, "_files_of_snapshot", snapshot_of)
    summary = make(folders / "site.tar.gz")
    assert len(taken) == 2
    assert summary.missing == []
    assert summary.tables["embeddings.Document"] == 2


def test_rows_are_of_one_moment(full, folders, monkeypatch, alice):
    """A message that is written between two tables has its conversation in the backup, or is not in it."""

    def write() -> None:
        conversation = Conversation.objects.create(owner=alice, title="Meanwhile")
        Message.objects.create(conversation=conversation, role="user", content="New")

    between = Between(monkeypatch, "rows/inference.Conversation", write)
    make(folders / "site.tar.gz")
    assert between.calls == 1
    assert Conversation.objects.count() == 2
    restore(folders / "site.tar.gz", force=True)
    assert Conversation.objects.count() == 1


def test_a_file_that_the_site_has_lost_is_told_and_the_rest_is_kept(full, folders, capsys):
    storage.path_of(full.bobs.current.file).unlink()
    with pytest.raises(CommandError, match="1 files that rows name are not there") as refusal:
        call_command("backup", str(folders / "site.tar.gz"), verbosity=0)
    assert refusal.value.returncode == 3
    restored = restore(folders / "site.tar.gz", force=True)
    assert restored.missing == [f"files/documents/{full.bobs.current.file}"]
    assert restored.files["documents"] == 1


def test_what_is_being_deleted_may_have_no_file(full, folders):
    Document.objects.filter(pk=full.bobs.pk).update(deleting_at="2026-01-01T00:00:00Z")
    storage.path_of(full.bobs.current.file).unlink()
    assert make(folders / "site.tar.gz").missing == []


def test_rows_are_read_and_written_a_few_at_a_time(full, folders, monkeypatch):
    """Parts are small, so what is in memory does not grow with the site."""
    monkeypatch.setattr(making, "PART_BYTES", 300)
    monkeypatch.setattr(tables, "ROWS_AT_ONCE", 2)
    messages = [Message(conversation_id=full.conversation, role="user", content="x" * 100) for _ in range(9)]
    Message.objects.bulk_create(messages)
    files = files_below(folders)
    make(folders / "site.tar.gz")
    with tarfile.open(folders / "site.tar.gz") as tar:
        sizes = [member.size for member in tar if member.name.startswith("rows/inference.Message")]
    assert len(sizes) >= 4
    assert max(sizes) < 1000
    restore(folders / "site.tar.gz", force=True)
    assert Message.objects.count() == 11
    assert files_below(folders) == files
