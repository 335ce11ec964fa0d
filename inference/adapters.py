"""Adapters on their way to the engine: kept once they are trained, wanted, confirmed when they are loaded."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from django.conf import settings

from inference.adapter_files import AdapterRefused, is_name, seal, verify
from inference.models import Adapter, AdapterLoad, ChatModelConfig, EngineProcess, LoadState
from llmsite.core.disk import telling_when_full, to_disk

__all__ = [
    "AdapterRefused",
    "Confirmation",
    "after_report",
    "confirmed",
    "folder_of",
    "publish",
    "reported",
    "sweep",
    "want",
    "wanted",
]

ABANDONED_SECONDS = 24 * 3600.0

Names = Callable[[], Iterable[str]]

_wanting: list[Names] = []
_after_report: list[Callable[[], object]] = []


@dataclass(frozen=True, slots=True)
class Base:
    """The weights that an adapter was trained on."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What the engine processes that live say of one adapter."""

    ready: int
    waiting: int
    """Those that have not loaded it yet."""
    failed: list[str] = field(default_factory=list)
    """Why those that cannot load it do not."""

    @property
    def is_complete(self) -> bool:
        """Whether every engine process that lives can answer with it, and there is one."""
        return self.ready > 0 and not self.waiting and not self.failed


def publish(folder: Path, *, base_model: str, base_sha256: str, run: UUID | None = None) -> Adapter:
    """Take over the adapter that a training has left in `folder`, which is gone then.

    The same run's again gives what is there. Raises AdapterRefused and DiskFull; nothing is kept then.
    """
    if run is not None and (known := Adapter.objects.filter(run=run).first()):
        return known
    with telling_when_full():
        sealed = seal(folder, base=Base(base_model, base_sha256), run=str(run or ""))
        _move(folder, folder_of(sealed.name), sealed.sha256)
    adapter, _ = Adapter.objects.get_or_create(
        name=sealed.name,
        defaults={"sha256": sealed.sha256, "base_model": base_model, "base_sha256": base_sha256, "run": run},
    )
    return adapter


def folder_of(name: str) -> Path:
    """Where the files of the adapter `name` lie."""
    return Path(settings.ADAPTERS_ROOT) / name


def confirmed(adapter: Adapter) -> Confirmation:
    """How far the engine processes that live have come with loading `adapter`."""
    live = set(EngineProcess.objects.live().values_list("pk", flat=True))
    told = AdapterLoad.objects.filter(adapter=adapter, process__in=live).values_list("state", "error")
    failed = [error for state, error in told if state == LoadState.FAILED]
    ready = sum(state == LoadState.READY for state, _ in told)
    return Confirmation(ready, len(live) - ready - len(failed), failed)


def want(source: Names) -> None:
    """Let the engine load what an upper app names, such as adapters that are about to go live."""
    if source not in _wanting:
        _wanting.append(source)


def after_report(hook: Callable[[], object]) -> None:
    """Let an upper app act, in each engine process, on what that has just told (about once a second)."""
    if hook not in _after_report:
        _after_report.append(hook)


def reported() -> None:
    """An engine process has told how its adapters are."""
    for hook in _after_report:
        hook()


def wanted() -> list[Adapter]:
    """What the engine should have loaded: what its active models name, and what upper apps ask for."""
    ours = ChatModelConfig.objects.active().filter(provider="local", base_url="").exclude(adapter="")
    names = set(ours.values_list("adapter", flat=True))
    names.update(name for source in _wanting for name in source())
    return list(Adapter.objects.servable().filter(name__in=names)) if names else []


def sweep() -> int:
    """Remove the files of adapters that no row speaks of, a day after they were written; how many."""
    root = Path(settings.ADAPTERS_ROOT)
    folders = {path.name: path for path in root.iterdir() if is_name(path.name)} if root.is_dir() else {}
    known = Adapter.objects.filter(name__in=folders).values_list("name", flat=True)
    lost = [folders[name] for name in folders.keys() - set(known) if _is_abandoned(folders[name])]
    for path in lost:
        shutil.rmtree(path)
    return len(lost)


def _move(folder: Path, place: Path, sha256: str) -> None:
    """Put the sealed adapter in `folder` into its place, whole or not at all."""
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _sweep(place.parent)
    if _is_whole(place, sha256):  # A worker that ended before it told anybody has put it there.
        os.utime(place)  # So that `sweep` leaves it to us.
        shutil.rmtree(folder)
        return
    shutil.rmtree(place, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=".adapter-", dir=place.parent) as temporary:
        new = Path(temporary) / "adapter"
        # Copied, because a training's folder may be on another volume, and an adapter is small.
        shutil.copytree(folder, new, symlinks=True)
        for path in [*new.iterdir(), new]:
            path.chmod(0o700 if path.is_dir() else 0o600)
            to_disk(path)
        verify(new, sha256)
        os.rename(new, place)
    to_disk(place.parent)
    shutil.rmtree(folder)


def _is_whole(place: Path, sha256: str) -> bool:
    try:
        verify(place, sha256)
    except AdapterRefused:
        return False
    return True


def _sweep(root: Path) -> None:
    """Remove what a worker that was killed in the middle has left."""
    for left in root.glob(".adapter-*"):
        if _is_abandoned(left):
            shutil.rmtree(left, ignore_errors=True)


def _is_abandoned(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > ABANDONED_SECONDS
