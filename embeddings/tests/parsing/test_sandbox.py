"""What a document that takes over its parser could do: nothing. Each belt is tried without the others."""

import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import pytest

from embeddings.parsing import ParsingFailed, Reason, limits, limits_in_force, parse, sandbox
from embeddings.parsing.child import lockdown, probe, seccomp
from embeddings.uploads import TEXT

NOBODY = 65534


@pytest.fixture
def document(tmp_path):
    path = tmp_path / "stored"
    path.write_text("words")
    return path


@pytest.fixture
def child_runs(monkeypatch):
    """A child that runs some other code instead of reading."""

    def run(code):
        monkeypatch.setattr(sandbox, "START", code)

    return run


def test_nothing_can_be_reached_or_used_up_on_this_machine():
    held = limits_in_force()

    assert held == dict.fromkeys(
        [
            "reading files",
            "writing files",
            "writing here",
            "making folders",
            "removing files",
            "processes",
            "signals",
            "network",
            "memory",
            "time",
        ],
        True,
    )


def test_the_child_knows_nothing_of_the_site(document, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_SITE", "x")
    with document.open("rb") as source:
        said = sandbox.run("probe", source, memory=limits.MOST_MEMORY, cpu=1)

    assert set(said["environment"]) <= {"LC_CTYPE"}
    assert not {"django", "embeddings", "llmsite", "numpy", "torch"} & set(said["modules"])


def refused_by(folder, *, without):
    """What a process of a user with no rights is refused, with some belts taken off before."""
    kept = folder / "kept"
    kept.touch(mode=0o666)
    folder.chmod(0o777)
    place = tempfile.mkdtemp()
    read_end, write_end = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        pid = os.fork()
        if pid == 0:
            try:
                os.chdir(place)
                os.chmod(place, 0o777)
                if os.geteuid() == 0:
                    os.setresgid(NOBODY, NOBODY, NOBODY)
                    os.setresuid(NOBODY, NOBODY, NOBODY)
                for module, name in without:
                    setattr(module, name, lambda *_: None)
                probe.MOST_CHILDREN = 3
                lockdown.lock_down(memory=1 << 36, cpu=20)
                said = probe.read(b"", file=str(kept), folder=str(folder), port=port)
                os.write(write_end, json.dumps(said["refused"]).encode())
            finally:
                os._exit(0)
        os.close(write_end)
        os.waitpid(pid, 0)
    with os.fdopen(read_end) as pipe:
        refused = json.load(pipe)
    for name in os.listdir(place):
        os.unlink(os.path.join(place, name))
    os.rmdir(place)
    return {name for name, is_refused in refused.items() if is_refused}


@pytest.fixture
def folder():
    """One that every user reaches."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


FILTER = (seccomp, "allow_only_computing")
NUMBERS = (lockdown, "_limit")
PLACES = (lockdown, "_leave")
ALL = {
    "reading files",
    "writing files",
    "writing here",
    "making folders",
    "removing files",
    "processes",
    "signals",
    "network",
}


@pytest.mark.parametrize(
    ("without", "refused"),
    [
        ([], ALL),
        ([NUMBERS, PLACES], ALL),
        ([FILTER, PLACES], ALL - {"making folders", "removing files", "signals"}),
        ([FILTER, NUMBERS], ALL - {"writing here", "processes", "signals"}),
    ],
    ids=["all", "the filter of calls", "the limits", "the namespaces"],
)
def test_each_belt_holds_alone_and_without_root(folder, without, refused):
    assert refused_by(folder, without=without) >= refused


def test_a_child_that_does_not_end_is_killed(document, child_runs, monkeypatch):
    monkeypatch.setattr(limits, "MOST_TIME", 0.3)
    child_runs("import os, time; os.fork(); time.sleep(60)")

    with pytest.raises(ParsingFailed) as failed:
        parse(document, TEXT)

    assert failed.value.reason == Reason.TOO_SLOW
    assert failed.value.retryable, "the machine may have been busy"


def test_the_time_of_the_processor_is_counted_and_is_the_documents_own_fault(document):
    with document.open("rb") as source, pytest.raises(ParsingFailed) as failed:
        sandbox.run("probe", source, memory=limits.MOST_MEMORY, cpu=1, task="time")

    assert failed.value.detail == f"status -{signal.SIGXCPU:d}"
    assert failed.value.reason == Reason.TOO_SLOW
    assert not failed.value.retryable


def test_what_the_child_started_dies_with_it(document, child_runs, monkeypatch):
    read_end, write_end = os.pipe()
    popen = partial(sandbox.subprocess.Popen, pass_fds=[write_end])
    monkeypatch.setattr(sandbox.subprocess, "Popen", popen)
    child_runs("import os, time; os.fork() or (os.close(1), time.sleep(60))")

    with pytest.raises(ParsingFailed):
        parse(document, TEXT)

    os.close(write_end)
    # The other end is closed everywhere, that is: the grandchild is no more.
    assert select.select([read_end], [], [], 10)[0]
    assert os.read(read_end, 1) == b""
    os.close(read_end)


def test_a_child_that_floods_its_parent_is_killed(document, child_runs, monkeypatch):
    monkeypatch.setattr(limits, "MOST_OUTPUT", 1000)
    child_runs("import os\nwhile True: os.write(1, b'x' * 1000)")

    with pytest.raises(ParsingFailed, match="too_large"):
        parse(document, TEXT)


def test_a_child_that_crashes_is_worth_another_try(document, child_runs):
    child_runs("import os; os.kill(os.getpid(), 11)")

    with pytest.raises(ParsingFailed) as failed:
        parse(document, TEXT)

    assert failed.value.reason == Reason.CRASHED
    assert failed.value.retryable


PAGE = {"number": 1, "text": "x", "headings": []}


@pytest.mark.parametrize(
    "said",
    [
        "no json",
        "[" * 100_000,
        [],
        {},
        {"failed": "a reason of its own"},
        {"failed": ["damaged"]},
        {"pages": [PAGE], "title": 1, "is_paged": True},
        {"pages": [PAGE, PAGE], "title": "", "is_paged": True},
        {"pages": [PAGE | {"text": "a\0"}], "title": "", "is_paged": True},
        {"pages": [PAGE | {"text": "\ud800"}], "title": "", "is_paged": True},
        {"pages": [PAGE | {"headings": [[2, "far"]]}], "title": "", "is_paged": True},
        {"pages": [PAGE | {"headings": [["0", "far"]]}], "title": "", "is_paged": True},
        {"pages": {"number": 1}, "title": "", "is_paged": True},
    ],
)
def test_nothing_that_a_child_says_is_believed_unseen(document, child_runs, said):
    text = said if isinstance(said, str) else json.dumps(said)
    child_runs(f"print({text!r})")

    with pytest.raises(ParsingFailed, match="crashed"):
        parse(document, TEXT)


@pytest.mark.parametrize("pages", [[], [PAGE | {"text": "\u200d\u2800"}]])
def test_a_child_that_says_there_is_nothing_is_an_empty_document(document, child_runs, pages):
    said = json.dumps({"pages": pages, "title": "", "is_paged": True})
    child_runs(f"print({said!r})")

    with pytest.raises(ParsingFailed, match="empty"):
        parse(document, TEXT)


def test_a_full_disk_is_told_as_one(document, monkeypatch):
    def full(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sandbox.tempfile, "mkdtemp", full)

    with pytest.raises(ParsingFailed) as failed:
        parse(document, TEXT)

    assert failed.value.reason == Reason.DISK_FULL
    assert failed.value.retryable


def test_nothing_is_left_of_a_child(document, tmp_path, monkeypatch):
    empty = tmp_path / "temporary"
    empty.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(empty))
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime

    parse(document, TEXT)

    assert list(empty.iterdir()) == []
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime > before  # It was waited for.


# --- The end of the parent ------------------------------------------------------------------------------

LOCKED = """
import os, sys
sys.path.insert(0, {folder!r})
from child import lockdown
lockdown.lock_down(memory=2**30, cpu=60, parent={parent})
os.write(1, b"locked")
os.read(0, 1)
"""
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"


@pytest.fixture
def orphan():
    """Starts a parent with a child that locks itself up and waits; what the child says, and the parent."""
    waiting, hold = os.pipe()
    said, saying = os.pipe()
    started = []

    def start(parent="os.getppid()"):
        child = LOCKED.format(folder=str(sandbox.HERE), parent=parent)
        started.append(subprocess.Popen([sys.executable, "-c", PARENT, child], stdin=waiting, stdout=saying))
        os.close(saying)
        return said, started[0]

    yield start
    os.close(hold)  # Whoever is left reads the end.
    for process in started:
        process.kill()
        process.wait()
    os.close(waiting)
    os.close(said)


def test_a_child_dies_with_its_parent(orphan):
    said, parent = orphan()
    assert os.read(said, 100) == b"locked"

    parent.kill()

    assert select.select([said], [], [], 20)[0]
    assert os.read(said, 100) == b"", "nobody is left who could say something"


def test_nor_does_it_go_on_where_the_parent_died_before_the_signal_was_set(orphan):
    said, _parent = orphan(parent="1 << 30")
    assert select.select([said], [], [], 20)[0]
    assert os.read(said, 100) == b""
