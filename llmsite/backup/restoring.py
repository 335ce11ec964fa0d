"""Puts a backup into a site: all of it, or nothing.

It is read twice. First every byte is compared with the manifest, while the files are written beside their
places. Then, in one transaction, the tables are emptied and filled, what was closed since is closed, and
the files get their names; where any of it fails, the site is as it was.
"""

import hashlib
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.contrib.contenttypes.models import ContentType
from django.db import DatabaseError, connection, transaction

from accounts.audit import record
from accounts.models import User
from accounts.models.audit import AuditKind
from embeddings.at_hand import answers
from embeddings.indexes.client import sync
from inference.models import Version
from llmsite import __version__
from llmsite.backup import archive, closed, tables
from llmsite.backup.archive import ABOUT, FORMAT, MANIFEST, Part
from llmsite.backup.files import KINDS, kind_of
from llmsite.backup.making import ROWS, Summary, Tell, applied_migrations, pending_migrations
from llmsite.backup.manifest import is_about, is_manifest
from llmsite.backup.refusal import Refused
from llmsite.backup.staging import Staging, staging
from llmsite.backup.tables import NOT_TAKEN
from llmsite.core.disk import telling_when_full

VERSIONS = (Version.MODELS, Version.CACHE, Version.VERIFIED, Version.EVICTED)


@dataclass(slots=True)
class Restored(Summary):
    """What a restore has brought."""

    was_empty: bool = False
    """There was nobody of whom it could be known what was taken since."""
    kept: dict[str, int] = field(default_factory=dict)
    """How many of each kind are not as in the backup, because they were taken or narrowed since."""
    erased: int = 0
    """People of the list of erasures who were in the backup."""
    problems: list[str] = field(default_factory=list)
    """Sentences on what is left to be done by hand."""


def check(place: Path, *, tell: Tell = lambda _line: None) -> dict[str, Any]:
    """Compare every byte of a backup with its manifest, and give that. Raises Refused; changes nothing."""
    return _look_through(place, None, tell)


def restore(
    place: Path, *, force: bool = False, erasures: Path | None = None, tell: Tell = lambda _line: None
) -> Restored:
    """Replace what the site has by what a backup has.

    Raises Refused, DiskFull and OSError, and nothing is changed: what fails later is in `problems`. Without
    `force` only into a site without accounts. `erasures` names a list of people to erase again.
    """
    _require_room(force)
    was_empty = not User.objects.exists()
    with telling_when_full(), staging() as stage:
        manifest = _look_through(place, stage, tell)
        shut = closed.closed_now(erasures)
        restored = _replace(place, manifest, stage, shut, tell)
    restored.was_empty = was_empty
    tell("erasing again whom the audit log names")
    # First of all: the rows of these people are back.
    _erase_again(restored)
    _tidy(restored, force)
    _build_indexes(restored)
    return restored


def _require_room(force: bool) -> None:
    if pending := pending_migrations():
        raise Refused(f"The database is not up to date ({pending[0]} is due): run manage.py migrate first.")
    if not force and (accounts := User.objects.count()):
        raise Refused(f"The site is not empty: it has {accounts} accounts. --force replaces all that it has.")


# --- The first reading -----------------------------------------------------------------------------


def _look_through(place: Path, stage: Staging | None, tell: Tell) -> dict[str, Any]:
    parts: dict[str, Part] = {}
    about: dict[str, Any] | None = None
    manifest: dict[str, Any] | None = None
    with archive.members(place) as found:
        for name, content in found:
            if manifest is not None or name in parts:
                raise Refused(f"It has a member where none belongs: {name!r}.")
            if about is None:
                about = _about(name, content)
            elif name == MANIFEST:
                manifest = archive.read_json(name, content)
            else:
                parts[name] = _take(name, content, stage)
    if about is None or manifest is None:
        raise Refused(f"{place} was cut: its end is missing.")
    if any(manifest.get(key) != value for key, value in about.items()):
        raise Refused("Its beginning and its end are of two backups.")
    _compare(manifest, parts)
    tell(f"{len(parts)} parts are as they were written")
    return manifest


def _about(name: str, content: IO[bytes]) -> dict[str, Any]:
    if name != ABOUT:
        raise Refused("It is no backup of this site.")
    about = archive.read_json(name, content)
    if not is_about(about):
        raise Refused(f"Its {ABOUT} cannot be read: it is no backup of this site.")
    if about.get("format") != FORMAT:
        raise Refused(
            f"It was made by llmsite {about.get('site')} in a form that {__version__} does not read: "
            "use that version, or a newer one."
        )
    theirs, ours = _names(about["migrations"]), _names(applied_migrations())
    if unknown := sorted(theirs - ours):
        raise Refused(
            f"It was made by llmsite {about.get('site')}, whose database is newer than this one's "
            f"({unknown[0]}): upgrade the site first."
        )
    if lacking := sorted(ours - theirs):
        raise Refused(
            f"It was made by llmsite {about.get('site')}, whose database is older than this one's (it lacks "
            f"{lacking[0]}): restore it with that version, then upgrade."
        )
    return about


def _names(migrations: list[list[str]]) -> set[str]:
    return {f"{app}.{name}" for app, name in migrations}


def _take(name: str, content: IO[bytes], stage: Staging | None) -> Part:
    if name.startswith(f"{ROWS}/"):
        return archive.copy(content, len)
    found = kind_of(name)
    if found is None:
        raise Refused(f"It has a member that belongs to no backup: {name!r}.")
    return archive.copy(content, len) if stage is None else stage.take(name, *found, content)


def _compare(manifest: dict[str, Any], parts: dict[str, Part]) -> None:
    if not is_manifest(manifest):
        raise Refused("Its manifest is incomplete, or has what belongs into none.")
    wanted = manifest["parts"]
    for name, part in wanted.items():
        if name not in parts:
            raise Refused(f"Its part {name} is missing.")
        if archive.as_dicts({name: parts[name]})[name] != part:
            raise Refused(f"Its part {name} is not as it was written.")
    if unknown := sorted(name for name in parts.keys() - wanted.keys() if name.startswith(f"{ROWS}/")):
        raise Refused(f"Its part {unknown[0]} is not in its manifest.")
    known = {model._meta.label: sorted(tables.columns_of(model)) for model in tables.kept_models()}
    if known != {label: sorted(table["columns"]) for label, table in manifest["tables"].items()}:
        raise Refused("Its tables are not those of this site.")


# --- The second reading ----------------------------------------------------------------------------


def _replace(
    place: Path, manifest: dict[str, Any], stage: Staging, shut: closed.Closed, tell: Tell
) -> Restored:
    files = {name for name in manifest["parts"] if kind_of(name)}
    before = dict(Version.objects.values_list("name", "number"))
    try:
        with stage.placing(files), transaction.atomic():
            tables.empty()
            loaded = _load(place, manifest, tell)
            tables.let_ids_go_on()
            _count_as_changed(before)
            kept, problems = closed.close(shut)
            record(AuditKind.SITE_RESTORED, subject=None, actor=None, made_at=manifest["made_at"])
            connection.check_constraints()
    except DatabaseError as error:
        raise Refused(f"The database did not take it: {_line_of(error)} The site is as it was.") from error
    except NOT_TAKEN as error:
        # Rows that the database takes may be nonsense still, in a column of JSON for example.
        raise Refused(f"Its rows make no sense ({type(error).__name__}). The site is as it was.") from error
    finally:
        ContentType.objects.clear_cache()
    return Restored(loaded, manifest["files"], manifest["missing"], kept=kept, problems=problems)


def _load(place: Path, manifest: dict[str, Any], tell: Tell) -> dict[str, int]:
    """Fill the tables; each part is compared again, as what stands there now is what counts."""
    models = {model._meta.label: model for model in tables.kept_models()}
    counts = dict.fromkeys(models, 0)
    with archive.members(place) as found:
        for name, content in found:
            if not name.startswith(f"{ROWS}/"):
                continue
            label = name.split("/")[1]
            lines = _Lines(content)
            try:
                counts[label] += tables.load(models[label], manifest["tables"][label]["columns"], lines)
            except (ValueError, LookupError) as error:
                raise Refused(f"A row in {name} cannot be read: {error}.") from error
            if lines.part() != manifest["parts"][name]:
                raise Refused(f"Its part {name} has changed while it was read.")
            tell(f"{label}: {counts[label]} rows")
    for label, count in counts.items():
        if count != manifest["tables"][label]["rows"]:
            raise Refused(f"It has {count} rows of {label}, and its manifest says otherwise.")
    return counts


class _Lines:
    """The lines of a member, digested while they are read."""

    def __init__(self, content: IO[bytes]) -> None:
        self._content = content
        self._digest = hashlib.sha256()
        self._size = 0

    def __iter__(self) -> Iterator[bytes]:
        for line in self._content:
            self._digest.update(line)
            self._size += len(line)
            yield line

    def part(self) -> dict[str, Any]:
        return {"sha256": self._digest.hexdigest(), "bytes": self._size}


def _count_as_changed(before: dict[str, int]) -> None:
    """Let all processes read anew, and no answer be told that was kept under an older number.

    The numbers of the backup have been there before, so they go on from the time of day.
    """
    now = time.time_ns() // 1_000_000
    for name in VERSIONS:
        number = max(now, before.get(name, 0) + 1)
        Version.objects.update_or_create(name=name, defaults={"number": number})


def _line_of(error: DatabaseError) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") + "."


# --- Afterwards ------------------------------------------------------------------------------------


@contextmanager
def _telling(restored: Restored, failed: str, *, to_do: str) -> Iterator[None]:
    """The site is another one by now: whatever fails in the block is told, and the next step comes."""
    try:
        yield
    except Exception as error:
        reason = str(error) or type(error).__name__
        restored.problems.append(f"{failed} ({reason}): {to_do}")


def _erase_again(restored: Restored) -> None:
    with _telling(
        restored,
        "Those who were erased are locked out, and not all of them erased yet",
        to_do="run manage.py erase_user --unfinished.",
    ):
        restored.erased, problems = closed.erase_again()
        restored.problems += problems


def _tidy(restored: Restored, force: bool) -> None:
    """Remove what is no row's any more: files, and all that indexes had."""
    for kind in KINDS if force else ():
        with _telling(
            restored,
            f"Files of {kind.setting} that belong to nothing are left",
            to_do=f"see to {kind.root}, and restore again.",
        ):
            kind.clear()
    with _telling(
        restored,
        "What the search indexes had before is left",
        to_do=f"remove what is in {settings.INDEX_ROOT} before the process model starts.",
    ):
        root = Path(settings.INDEX_ROOT)
        for folder in root.iterdir() if root.is_dir() else ():
            if folder.is_dir():
                shutil.rmtree(folder)


def _build_indexes(restored: Restored) -> None:
    """They are made of the chunks: now where the process `model` runs, else when it starts."""
    with _telling(
        restored,
        "The search indexes are not made yet",
        to_do="start the process model, which makes them as it is asked to search.",
    ):
        if answers(settings.MODEL_URL):
            sync()
