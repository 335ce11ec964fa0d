"""`manage.py ingest`: files and folders become documents, here and now."""

import json
import os
import shutil
import tempfile
import time
from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from accounts.models import User
from embeddings import failures
from embeddings.at_hand import model_process
from embeddings.errors import EncoderError
from embeddings.intake import TakenIn, take_in
from embeddings.models import Collection, DocumentVersion, Status
from embeddings.models.documents import RUNNING
from embeddings.uploads import MEDIA_TYPES
from llmsite.core.disk import telling_when_full
from llmsite.core.errors import SiteError, describe
from llmsite.core.worker import Worker

WAIT_SECONDS = 0.5
"""Between two looks at what another worker has taken."""


@dataclass(slots=True)
class _File:
    """One file of the command line, and what has become of it."""

    path: Path
    folder: str = ""
    """Where it is below the folder of the command line, whose own name comes first."""
    taken: TakenIn | None = None
    refusal: str = ""
    last: DocumentVersion | None = None

    @property
    def outcome(self) -> str:
        if self.taken is None:
            return "refused"
        if self.last is None:
            return "replaced"  # a version that is gone was overtaken by a newer one of the same name
        is_unchanged = not self.taken.is_new and self.last.status == Status.READY
        return "unchanged" if is_unchanged else self.last.status

    @property
    def reason(self) -> str:
        return self.refusal or (failures.sentence(self.last.error) if self.last else "")

    @property
    def is_bad(self) -> bool:
        return self.outcome in ("refused", Status.FAILED)


class Command(BaseCommand):
    help = (
        "Make documents of files and folders, and wait until they can be searched. "
        "Needs no other process of the site; those that run do their part."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("paths", nargs="+", metavar="PATH", type=Path)
        parser.add_argument("--collection", required=True, help="its name or id; one that is missing is made")
        parser.add_argument("--owner", help="a user name; may be left out where there is one user alone")
        parser.add_argument("--json", action="store_true", help="print the outcomes as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        owner = _owner(options["owner"])
        found, passed_over = _files(options["paths"])
        collection = _collection(owner, options["collection"])
        files = [self._take_in(file, owner, collection) for file in found]
        try:
            with model_process():
                self._work(files)
        except EncoderError as error:
            raise CommandError(str(error)) from error
        self._tell(files, as_json=options["json"])
        if passed_over:
            self._say(f"Files of other kinds that were passed over in the folders: {passed_over}.")
        if bad := sum(file.is_bad for file in files):
            raise CommandError(f"{bad} of {len(files)} files did not become documents; the list says why.")

    def _take_in(self, file: _File, owner: User, collection: Collection) -> _File:
        try:
            with _Copy(file.path) as copy:
                file.taken = take_in(owner, collection.pk, copy, file.path.name, folder=file.folder)
        except SiteError as error:
            file.refusal = describe(error).message
        except OSError as error:
            file.refusal = f"It cannot be read: {error.strerror or error}."
        return file

    def _work(self, files: list[_File]) -> None:
        """Do what is to be done, beside any worker that does it too."""
        tasks = [file.taken.task for file in files if file.taken and file.taken.task]
        worker, told = Worker(only=tasks), ""
        while _look(files):
            ended = worker.run_next()
            self._progress(files)
            if ended is not None and ended.reason and ended.reason != told:
                told = ended.reason
                self._say(_REASONS.get(told, f"{told}: it is tried again."))
            if ended is None:
                worker.reap()
                time.sleep(WAIT_SECONDS)

    def _progress(self, files: list[_File]) -> None:
        if self.stderr.isatty():
            known = [file.last.progress for file in files if file.last]
            done = sum(file.last is None or file.last.status not in RUNNING for file in files)
            percent = sum(known) // max(len(known), 1)
            self.stderr.write(f"\r{done} of {len(files)} files done, {percent} % ", ending="")
            self.stderr.flush()

    def _say(self, line: str) -> None:
        self.stderr.write(f"\n{line}" if self.stderr.isatty() else line)

    def _tell(self, files: list[_File], *, as_json: bool) -> None:
        rows = [_row(file) for file in files]
        if as_json:
            self.stdout.write(json.dumps(rows, ensure_ascii=False, indent=2))
            return
        if self.stderr.isatty():
            self.stderr.write("")
        width = max((len(row["file"]) for row in rows), default=0)
        for row in rows:
            size = f"{row['pages']} pages" if row["pages"] else f"{row['characters']} characters"
            self.stdout.write(f"{row['file']:<{width}}  {row['outcome']:<9}  {row['reason'] or size}")


_REASONS = {
    "embedder_unavailable": "The model process is away, or still loading its encoder; waiting for it "
    "(`manage.py serve_model` starts it).",
}


def _row(file: _File) -> dict[str, Any]:
    last = file.last
    return {
        "file": str(file.path),
        "outcome": file.outcome,
        "reason": file.reason,
        "document": str(file.taken.document.pk) if file.taken else None,
        "pages": last.pages_total if last and last.is_paged else None,
        "characters": last.characters if last else 0,
        "language": last.language if last else "",
    }


def _look(files: list[_File]) -> bool:
    """Read how far all are; whether any is still running."""
    wanted = [file.taken.version.pk for file in files if file.taken]
    versions = DocumentVersion.objects.in_bulk(wanted)
    for file in files:
        if file.taken:
            file.last = versions.get(file.taken.version.pk)
    return any(version.status in RUNNING for version in versions.values())


def _owner(name: str | None) -> User:
    users = User.objects.filter(is_active=True)
    if name:
        users = users.filter(username=name)
    found = list(users[:2])
    if not found:
        raise CommandError(
            f"There is no active user {name}." if name else "There is no user yet: make one first."
        )
    if len(found) > 1:
        raise CommandError("Say whose documents they are: --owner USERNAME.")
    return found[0]


def _collection(owner: User, given: str) -> Collection:
    own = Collection.objects.writable_by(owner)
    if len(given) == 36 and (known := own.filter(pk=given).first() if given.count("-") == 4 else None):
        return known
    return own.get_or_create(owner=owner, name=given, deleting_at=None)[0]


def _files(paths: list[Path]) -> tuple[list[_File], int]:
    """The files that are named, and those below the folders that are of a kind that is read.

    With the number of those of other kinds there.
    """
    files: list[_File] = []
    passed_over = 0
    for path in paths:
        if path.is_dir():
            found, others = _below(path)
            files += found
            passed_over += others
        elif path.is_file():
            files.append(_File(path))
        else:
            raise CommandError(f"{path}: there is no such file or folder.")
    return files, passed_over


def _below(folder: Path) -> tuple[list[_File], int]:
    there = sorted(one for one in folder.rglob("*") if one.is_file())
    found = [one for one in there if one.suffix.lower() in MEDIA_TYPES]
    if not found:
        raise CommandError(f"{folder}: there is no file in it of a kind that is read here.")
    own_name = folder.resolve().name
    files = [_File(one, (own_name / one.relative_to(folder).parent).as_posix()) for one in found]
    return files, len(there) - len(found)


class _Copy:
    """A copy among the uploads, which the site may keep; what it does not keep is removed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Path:
        folder = settings.FILE_UPLOAD_TEMP_DIR
        with telling_when_full():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=folder)
            os.close(descriptor)
            self._copy = Path(name)
            try:
                shutil.copyfile(self._path, self._copy)
            except BaseException:
                self._copy.unlink()
                raise
        return self._copy

    def __exit__(self, *error: object) -> None:
        self._copy.unlink(missing_ok=True)
