"""Archives that are cut, damaged, hostile or of another site: one clear line, and the site is as it was."""

import errno
import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from django.contrib.contenttypes.models import ContentType
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from llmsite.backup import archive, restoring
from llmsite.backup.making import make
from llmsite.backup.refusal import Refused
from llmsite.backup.restoring import restore
from llmsite.backup.staging import PREFIX
from llmsite.core.errors import DiskFull
from llmsite.tests.backup.conftest import files_below

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def backup(full, folders):
    make(folders / "site.tar.gz")
    return folders / "site.tar.gz"


@pytest.fixture
def untouched(full, folders, rows):
    """Called after a restore that was refused."""
    before, files = rows(), files_below(folders)

    def look():
        assert rows() == before
        assert files_below(folders) == files
        assert not list(folders.rglob(f"{PREFIX}*"))

    return look


def rewritten(place: Path, change) -> Path:
    """The archive with other members: `change` gets and gives (TarInfo, content), or None."""
    new = place.with_name("new.tar.gz")
    with tarfile.open(place) as old, tarfile.open(new, "w:gz") as tar:
        for member in old:
            for info, content in change(member, old.extractfile(member).read()):
                info.size = len(content) if info.isreg() else 0
                tar.addfile(info, io.BytesIO(content))
    return new


def replaced(name: str, with_content) -> object:
    def change(info, content):
        return [(info, with_content(content) if info.name == name else content)]

    return change


def json_with(**values):
    return lambda content: json.dumps(json.loads(content) | values).encode()


def refused(place, words, **options) -> None:
    with pytest.raises(Refused, match=words):
        restore(place, force=True, **options)


@pytest.mark.parametrize("share", [0.3, 0.999])
def test_a_cut_archive(backup, untouched, share):
    content = backup.read_bytes()
    cut = backup.with_name("cut.tar.gz")
    cut.write_bytes(content[: int(len(content) * share)])
    refused(cut, "cut|no backup")
    untouched()


def test_a_backup_that_ended_between_two_members(backup, untouched):
    short = rewritten(backup, lambda info, content: [] if info.name == "manifest.json" else [(info, content)])
    refused(short, "its end is missing")
    untouched()


def test_a_changed_byte(backup, untouched):
    content = bytearray(backup.read_bytes())
    content[len(content) // 2] ^= 0xFF
    backup.write_bytes(content)
    refused(backup, "damaged|not as it was written|cannot be read")
    untouched()


@pytest.mark.parametrize("prefix", ["rows/accounts.User", "files/documents"])
def test_a_part_that_is_not_what_the_manifest_says(backup, untouched, prefix):
    with tarfile.open(backup) as tar:
        names = tar.getnames()
    name = next(name for name in names if name.startswith(prefix))
    refused(rewritten(backup, replaced(name, lambda content: content[:-2] + b"x\n")), "not as it was written")
    gone = rewritten(backup, lambda info, content: [] if info.name == name else [(info, content)])
    refused(gone, f"{name} is missing")
    untouched()


def test_rows_that_the_manifest_does_not_know(backup, untouched):
    odd = with_member(tarfile.TarInfo("rows/accounts.User/000099.jsonl"), b"[]\n")
    refused(rewritten(backup, odd), "not in its manifest")
    untouched()


OTHERS = (
    ({"format": 2, "site": "9.0"}, "made by llmsite 9.0 in a form that"),
    ({"migrations": [["accounts", "9999_future"]]}, "newer than this one's .accounts.9999_future."),
    ({"migrations": []}, "older than this one's .it lacks accounts.0001_initial.*then upgrade"),
)


def test_what_another_version_made_is_refused_at_its_first_member(backup, untouched):
    for about, words in OTHERS:
        refused(rewritten(backup, replaced("about.json", json_with(**about))), words)
    untouched()


def test_a_beginning_that_would_fill_the_memory(backup, untouched):
    refused(
        rewritten(backup, replaced("about.json", lambda content: content + b" " * (1 << 20))),
        "Its about.json is larger than 1 MB",
    )
    untouched()


def test_a_restore_that_fails_leaves_no_empty_folders(backup, folders, monkeypatch, settings):
    """Into another, empty disk: whatever was made for the files goes with them."""
    for name in ("MEDIA", "DATASETS", "ADAPTERS"):
        setattr(settings, f"{name}_ROOT", folders / "new" / name.lower())
    seen = []

    def fail(_closed):
        seen.extend(path for path in (folders / "new").rglob("*") if path.is_file())
        raise IntegrityError("no more")

    monkeypatch.setattr(restoring.closed, "close", fail)
    refused(backup, "no more")
    assert seen
    assert not (folders / "new").exists()


def test_two_backups_in_one(backup, untouched):
    refused(rewritten(backup, replaced("about.json", json_with(made_at="2001"))), "of two backups")
    untouched()


OUTSIDE = (
    "files/documents/../../escaped",
    "/tmp/escaped",
    "files/documents/documents/../escaped",
    "files/documents//etc/escaped",
    "files/adapters/../escaped/manifest.json",
    "files/adapters/.restore-x/manifest.json",
    "files/adapters/name/evil.py",
    "files/other/x",
    "escaped",
)


def test_paths_that_lead_out_of_their_folder(backup, untouched, folders):
    for name in OUTSIDE:
        refused(rewritten(backup, with_member(tarfile.TarInfo(name), b"out")), "belongs to no backup")
    untouched()
    assert not list(folders.parent.rglob("escaped"))


def with_member(odd, content):
    """One more, before the manifest."""

    def change(info, own):
        return [(odd, content), (info, own)] if info.name == "manifest.json" else [(info, own)]

    return change


ODD_KINDS = (
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.CHRTYPE,
    tarfile.FIFOTYPE,
    tarfile.DIRTYPE,
    tarfile.CONTTYPE,
)


def test_links_devices_and_folders(backup, untouched):
    for kind in ODD_KINDS:
        odd = tarfile.TarInfo("files/documents/documents/00000000-0000-0000-0000-000000000000")
        odd.type, odd.linkname = kind, "/etc/passwd"
        refused(rewritten(backup, with_member(odd, b"")), "no plain file")
    untouched()


def test_what_is_no_archive_at_all(backup, untouched, folders):
    (folders / "text").write_text("Hello")
    refused(folders / "text", "no backup")
    (folders / "empty.gz").write_bytes(gzip.compress(b""))
    refused(folders / "empty.gz", "no backup|cut")
    refused(folders / "nowhere", "There is no file")
    untouched()


def test_rows_that_do_not_fit_together_bring_nothing(backup, untouched):
    """A conversation of nobody: found when all rows are there, before anything is kept."""
    name = "rows/accounts.User/000001.jsonl"

    def without_first(content):
        return content.split(b"\n", 1)[1]

    def change(info, content):
        if info.name == name:
            return [(info, without_first(content))]
        if info.name != "manifest.json":
            return [(info, content)]
        manifest = json.loads(content)
        with tarfile.open(backup) as tar:
            rows = without_first(tar.extractfile(name).read())
        manifest["parts"][name] = {"sha256": hashlib.sha256(rows).hexdigest(), "bytes": len(rows)}
        manifest["tables"]["accounts.User"]["rows"] -= 1
        return [(info, json.dumps(manifest).encode())]

    refused(rewritten(backup, change), "The database did not take it: .*The site is as it was")
    untouched()


def test_a_restore_that_fails_at_its_very_end(backup, untouched, folders, monkeypatch):
    """The files have their names already; those that were not there before go again."""
    lost = next(name for name in files_below(folders) if "documents" in name)
    (folders / lost).unlink()

    def fail(_closed):
        assert (folders / lost).exists()
        raise IntegrityError("no more")

    monkeypatch.setattr(restoring.closed, "close", fail)
    refused(backup, "no more. The site is as it was")
    assert not (folders / lost).exists()
    assert User.objects.filter(username="alice").exists()


def test_a_full_disk_while_files_are_written(backup, untouched, monkeypatch):
    def no_space(*_args):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("llmsite.backup.staging.os.fsync", no_space)
    with pytest.raises(DiskFull):
        restore(backup, force=True)
    with pytest.raises(CommandError, match="not enough room on the disk"):
        call_command("restore", str(backup), "--force", verbosity=0)
    untouched()


def test_a_full_disk_while_the_archive_is_written_leaves_nothing(full, folders):
    """The file system itself refuses: /dev/full stands for it behind the archive's name."""
    import resource

    place = folders / "small" / "site.tar.gz"
    place.parent.mkdir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        with pytest.raises(CommandError, match=r"is full\. Nothing was written"):
            call_command("backup", str(place), verbosity=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(place.parent.iterdir()) == []


@pytest.mark.parametrize("has_links", [True, False])
def test_what_came_meanwhile_is_not_overwritten(tmp_path, monkeypatch, has_links):
    def no_link(*_args):
        raise PermissionError(errno.EPERM, "no links here")

    if not has_links:
        monkeypatch.setattr("llmsite.backup.archive.os.link", no_link)
    place = tmp_path / "own" / "site.tar.gz"
    place.parent.mkdir()

    def write_while_another_comes():
        with archive.new_archive(place) as new:
            new.add("about.json", b"{}")
            place.write_bytes(b"another backup, whole")

    with pytest.raises(Refused, match="there already"):
        write_while_another_comes()
    assert [(path.name, path.read_bytes()) for path in place.parent.iterdir()] == [
        ("site.tar.gz", b"another backup, whole")
    ]
    place.unlink()
    with archive.new_archive(place) as new:
        new.add("about.json", b"{}")
    assert [path.name for path in place.parent.iterdir()] == ["site.tar.gz"]
    assert gzip.decompress(place.read_bytes())


def test_nobody_else_reads_a_backup_or_what_is_restored(backup, folders):
    """Whatever umask the command runs under, while they are written and after."""
    before = os.umask(0)
    try:
        modes = []
        with archive.new_archive(folders / "new.tar.gz") as new:
            new.add("about.json", b"{}")
            modes += [path.stat().st_mode & 0o777 for path in folders.glob(".new.tar.gz.*")]
        assert modes == [0o600]
        assert (folders / "new.tar.gz").stat().st_mode & 0o777 == 0o600
        for name in files_below(folders):
            (folders / name).unlink()
        restore(backup, force=True)
        names = files_below(folders)
        assert names
        assert {(folders / name).stat().st_mode & 0o777 for name in names} == {0o600}
    finally:
        os.umask(before)


def test_kinds_of_rows_are_read_anew(backup):
    """The backup may number them otherwise than the site did."""
    ContentType.objects.get_for_model(User)
    restore(backup, force=True)
    with CaptureQueriesContext(connection) as queries:
        ContentType.objects.get_for_model(User)
    assert len(queries) == 1


def test_a_backup_that_fails_leaves_no_file(full, folders, monkeypatch):
    def fail(_model):
        raise RuntimeError("in the middle")

    place = folders / "new" / "site.tar.gz"
    place.parent.mkdir()
    monkeypatch.setattr("llmsite.backup.tables.rows_of", fail)
    with pytest.raises(RuntimeError):
        make(place)
    assert list(place.parent.iterdir()) == []
