"""The way of a child: `python -m training.child NAME FOLDER OPTIONS`, as training/process.py starts it."""

import errno
import importlib
import json
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from llmsite.core.devices import DeviceMissing, torch_device
from training.child.confinement import Confinement, lower_priority
from training.child.job import ChildFailure, Job, Stopped

NAMES = ("train", "evaluate", "probe")
DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "Cannot allocate memory")


def main() -> None:
    _, name, folder, given = sys.argv
    options = json.loads(given)
    lower_priority(options["nice"])
    job = _job(Path(folder), options)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    status = 0
    try:
        _do(name, job, options)
    except BaseException as error:
        status = _tell_of(error, job)
    # Without what Python does at its end: threads of libraries may keep it from coming.
    sys.stderr.flush()
    os._exit(status)


def _job(folder: Path, options: dict[str, Any]) -> Job:
    """Whatever prints, prints into the log; only `tell` reaches the parent."""
    output = os.dup(1)
    os.dup2(2, 1)
    os.chdir(folder)
    files = {name: os.fdopen(number, "rb") for name, number in options["files"].items()}
    return Job(folder, json.loads(Path(options["job"]).read_bytes()), files, output)


def _do(name: str, job: Job, options: dict[str, Any]) -> None:
    if name not in NAMES:
        raise ChildFailure("crashed")
    module = importlib.import_module(f"training.child.{name}")
    _choose_device(job)
    Confinement(
        folder=job.folder,
        reads=[Path(path) for path in options["reads"]],
        memory=options["memory"],
        disk=options["disk"],
        user=options["user"],
        device=job.data["device"],
    ).put_on()
    job.tell("finished", data=module.run(job))


def _choose_device(job: Job) -> None:
    """What is really there of what was asked for; afterwards nothing but the processor might be found."""
    wanted = str(job.data.get("device", "cpu"))
    try:
        job.data["device"] = wanted if wanted == "cpu" else torch_device(wanted)
    except DeviceMissing as error:
        raise ChildFailure("device_missing", device=wanted) from error


def _end_with_parent() -> None:
    """The parent writes nothing here: the end of the input is its own end."""
    os.read(0, 1)
    os._exit(1)


def _tell_of(error: BaseException, job: Job) -> int:
    if isinstance(error, Stopped):
        job.tell("stopped")
        return 0
    traceback.print_exception(error)
    code, data = meaning_of(error)
    job.tell("failed", code=code, data=data)
    return 1


def meaning_of(error: BaseException) -> tuple[str, dict[str, Any]]:
    """The code and the data of a failure; what a library raises is told by what it stands for."""
    if isinstance(error, ChildFailure):
        return error.code, error.data
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return "disk_full", {}
    if isinstance(error, MemoryError) or _is_of_memory(error):
        return "out_of_memory", {}
    return "crashed", {"kind": type(error).__name__}


def _is_of_memory(error: BaseException) -> bool:
    """torch has an error of its own for an accelerator's memory, and none for the machine's."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    text = str(error)
    return isinstance(error, RuntimeError) and any(words in text for words in OUT_OF_MEMORY)


if __name__ == "__main__":
    main()
