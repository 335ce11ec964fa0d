"""The archive: a tar file, compressed by gzip, that is written and read from end to end in one go.

Its first member, `about.json`, says what made it, so that a stranger is refused at once; the last one, the
manifest, has the SHA-256 of every part. An archive without a manifest was cut. A new one has another name
until it is whole and on the disk; only its owner may read it.
"""

import errno
import gzip
import hashlib
import io
import json
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from llmsite.backup.refusal import Refused
from llmsite.core.disk import telling_when_full, to_disk

ABOUT, MANIFEST = "about.json", "manifest.json"
FORMAT = 1
PIECE = 1 << 20
MOST_JSON = {ABOUT: 1 << 20, MANIFEST: 1 << 30}
"""Bytes of each, which are read into memory. A manifest has a line for each file; before it comes, anybody
could have made the archive."""
NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}
LEVEL = 5
"""Of compression: most of a site is text, and the command should not take all of a processor for long."""


@dataclass(frozen=True, slots=True)
class Part:
    sha256: str
    bytes: int


class Writer:
    """Adds parts to an archive, and knows what it has added."""

    def __init__(self, file: IO[bytes]) -> None:
        self._gzip = gzip.GzipFile(fileobj=file, mode="wb", compresslevel=LEVEL, filename="", mtime=0)
        self._tar = tarfile.open(fileobj=self._gzip, mode="w|")  # noqa: SIM115 - `close` closes it
        self.parts: dict[str, Part] = {}

    def add(self, name: str, data: bytes) -> None:
        self._add(name, io.BytesIO(data), len(data))

    def add_file(self, name: str, path: Path) -> None:
        """Raises FileNotFoundError, and nothing is added."""
        with path.open("rb") as file:
            self._add(name, file, os.fstat(file.fileno()).st_size)

    def close(self) -> None:
        self._tar.close()
        self._gzip.close()

    def abandon(self) -> None:
        """Let go of what is written to; it is going to be removed."""
        with suppress(OSError):
            self._tar.close()
        with suppress(OSError):
            self._gzip.close()

    def _add(self, name: str, file: IO[bytes], size: int) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, 0o600
        reading = _Digesting(file)
        self._tar.addfile(info, reading)
        self.parts[name] = Part(reading.digest.hexdigest(), size)


@contextmanager
def new_archive(place: Path) -> Iterator[Writer]:
    """An archive that has its name when the block is left, whole, and leaves nothing where that fails.

    Raises Refused where there is something of that name, before or after, DiskFull and OSError.
    """
    if os.path.lexists(place):
        raise _there_already(place)
    draft = place.with_name(f".{place.name}.{uuid4().hex[:8]}.part")
    with telling_when_full():
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with open(handle, "wb") as file:
                writer = Writer(file)
                try:
                    yield writer
                    writer.close()
                except BaseException:
                    writer.abandon()
                    raise
                file.flush()
                os.fsync(file.fileno())
            _name(draft, place)
            to_disk(place.parent)
        finally:
            draft.unlink(missing_ok=True)


def _name(draft: Path, place: Path) -> None:
    """A link, other than a new name, never takes the place of what has come there meanwhile."""
    try:
        os.link(draft, place)
    except FileExistsError as error:
        raise _there_already(place) from error
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        _name_without_links(draft, place)


def _name_without_links(draft: Path, place: Path) -> None:
    """Where the disk has no links (exFAT, many shares), an empty file takes the name first."""
    try:
        os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    except FileExistsError as error:
        raise _there_already(place) from error
    draft.rename(place)


def _there_already(place: Path) -> Refused:
    return Refused(f"{place} is there already; it is not overwritten.")


@contextmanager
def members(place: Path) -> Iterator[Iterator[tuple[str, IO[bytes]]]]:
    """The names and contents of all members, which have to be read one after the other.

    Raises Refused where it is no archive, is cut or damaged, or has a member that is no plain file.
    """
    try:
        with gzip.open(place) as whole, tarfile.open(fileobj=whole, mode="r|") as tar:
            yield _plain_files(tar, whole)
    except FileNotFoundError as error:
        raise Refused(f"There is no file {place}.") from error
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as error:
        raise Refused(f"{place} is cut or damaged, or is no backup: {error}.") from error


def _plain_files(tar: tarfile.TarFile, whole: gzip.GzipFile) -> Iterator[tuple[str, IO[bytes]]]:
    for member in tar:
        if member.type != tarfile.REGTYPE:
            raise Refused(f"It has a member that is no plain file: {member.name!r}.")
        content = tar.extractfile(member)
        assert content is not None  # It is a plain file.
        yield member.name, content
    # To the very end, where the sum of gzip stands.
    while whole.read(PIECE):
        pass


def copy(content: IO[bytes], add: Callable[[bytes], object]) -> Part:
    """Pass a member's content on piece by piece; what it was."""
    digest, size = hashlib.sha256(), 0
    while piece := content.read(PIECE):
        digest.update(piece)
        size += len(piece)
        add(piece)
    return Part(digest.hexdigest(), size)


def read_json(name: str, content: IO[bytes]) -> dict[str, Any]:
    """`name` is ABOUT or MANIFEST. Raises Refused."""
    most = MOST_JSON[name]
    data = content.read(most + 1)
    if len(data) > most:
        raise Refused(f"Its {name} is larger than {most >> 20} MB: it is no backup of this site.")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Refused(f"Its {name} cannot be read: it is no backup of this site.")
    return value


def as_json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode()


def as_dicts(parts: dict[str, Part]) -> dict[str, dict[str, Any]]:
    return {name: asdict(part) for name, part in parts.items()}


class _Digesting:
    """A file that is digested while it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data
