"""Children that compute for long: what they are given, what they are kept from, and how they end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmsite.testing.site import ROOT
from training import process
from training.child.confinement import Confinement
from training.process import ChildEnd, Limits, limits_in_force, run_child, write_job

LIMITS = Limits(memory=256_000_000, disk=2_000_000, seconds=30.0)


@pytest.fixture
def folder(tmp_path, settings):
    settings.TRAINING_NICE = 0
    return tmp_path / "job"


def run(folder, task, *, limits=LIMITS, should_stop=lambda: None, on_event=lambda event: None, **options):
    write_job(folder, {"task": task, **options.pop("job", {})})
    return run_child("probe", folder, on_event=on_event, should_stop=should_stop, limits=limits, **options)


def is_alive(number):
    try:
        return Path(f"/proc/{number}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


# --- What it is given, and what not ---------------------------------------------------------------------


def test_a_child_is_kept_from_everything_but_its_work():
    """On Linux with namespaces, seccomp and Landlock, as here. As the same user, as `make serve` runs it."""
    held = limits_in_force()

    held.pop("another user")
    assert held.pop("memory")
    assert held.pop("files’ size")
    assert held == dict.fromkeys(
        (
            "reading files",
            "the parent’s secrets",
            "writing files",
            "removing files",
            "devices",
            "programs",
            "processes",
            "signals",
            "network",
        ),
        True,
    )


def test_it_reads_and_writes_nothing_beside_its_folder(folder, tmp_path):
    secret = tmp_path / "env.secret"
    secret.write_text("OPENAI_API_KEY=…")
    secret.chmod(0o666)

    end = run(folder, "refusals", job={"secret": str(tmp_path / "env"), "port": 9})

    assert end.how == "finished"
    assert all(end.data["refused"].values())
    assert secret.exists()


def test_links_in_its_folder_lead_its_parent_nowhere(folder, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("job.json", "log.txt"):
        (outside / name).write_text("mine")

    for _ in range(2):
        assert run(folder, "links", job={"outside": str(outside)}).how == "finished"

    assert [path.read_text() for path in outside.iterdir()] == ["mine", "mine"]
    assert "what the child chooses" in (folder / "log.txt").read_text()


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_nor_does_anything_else_that_is_no_file(folder, make):
    run(folder, "obey", should_stop=lambda: 30.0)
    for name in ("job.json", "log.txt"):
        make(folder / process.WORK / name)

    assert run(folder, "links", job={"outside": "/nowhere"}).how == "finished"


def test_only_what_lies_in_a_folder_is_taken_back(tmp_path, monkeypatch):
    outside, within, linked = (tmp_path / name for name in ("outside", "within", "linked"))
    for place in (outside, within):
        place.mkdir()
        (place / "file").touch()
    for link in (within / "link", linked):
        link.symlink_to(outside)
    given = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "lchown", lambda path, user, group: given.append((path, user, group)))

    process.reclaim(within)
    process.reclaim(linked)

    assert sorted(path for path, *_ in given) == [linked, within, within / "file", within / "link"]
    assert {(user, group) for _, user, group in given} == {(0, 0)}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_of_all_devices_it_gets_the_accelerator_it_computes_on(folder, monkeypatch, device):
    there = {"nvidia*": [Path("/dev/nvidia0"), Path("/dev/nvidiactl")], "kfd": [], "dri": [Path("/dev/dri")]}
    monkeypatch.setattr(Path, "glob", lambda place, pattern: there[pattern])
    own = Confinement(folder, reads=[], memory=0, disk=0, user=None, device=device)

    writes = {str(path) for path in own._writable()} - {str(folder)}

    accelerator = {"/dev/nvidia0", "/dev/nvidiactl", "/dev/dri"} if device == "cuda" else set()
    assert writes == {"/dev/null"} | accelerator
    reads = {str(path) for path in own._readable() if path.is_relative_to("/dev")}
    assert reads == {"/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"} | accelerator


def test_it_gets_no_key_and_no_address(folder, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "canary")

    end = run(folder, "refusals", job={"secret": "/nothing", "port": 9})

    environment = end.data["environment"]
    assert not {"OPENAI_API_KEY", "SECRET_KEY", "DATABASE_URL", "REDIS_URL"} & set(environment)
    assert "canary" not in environment.values()
    assert (environment["HF_HUB_OFFLINE"], environment["TRANSFORMERS_OFFLINE"]) == ("1", "1")


def test_it_makes_way_for_everything_else(folder, settings):
    settings.TRAINING_NICE = 7

    end = run(folder, "refusals", job={"secret": "/nothing", "port": 9})

    assert end.data["nice"] == os.getpriority(os.PRIO_PROCESS, 0) + 7


def test_as_root_it_goes_on_as_nobody(folder, tmp_path, monkeypatch):
    # Where Python lies in a folder of root's it stays root, without root's powers.
    expected = process.NOBODY if os.geteuid() == 0 else os.geteuid()
    monkeypatch.setattr(process, "_open_to_all", lambda path: True)
    tmp_path.chmod(0o711)

    end = run(folder, "refusals", job={"secret": "/nothing", "port": 9})

    assert (end.how, end.data["user"]) == ("finished", expected)


def test_it_reads_files_that_its_user_may_not_open(folder, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("one")
    rows.chmod(0o600)

    assert run(folder, "read", files={"rows": rows}).data == {"rows": "one"}


# --- How it ends ----------------------------------------------------------------------------------------


def test_what_is_no_word_of_its_own_is_passed_over(folder):
    heard = []

    end = run(folder, "babble", on_event=heard.append)

    assert heard == [{"event": "heard", "number": None}]
    assert end == ChildEnd("finished", data={"said": "all"})


@pytest.mark.parametrize(
    ("task", "code"),
    [("memory", "out_of_memory"), ("file", "disk_full"), ("die", "killed"), ("nonsense", "crashed")],
)
def test_a_bad_end_says_why(folder, task, code):
    end = run(folder, task)

    assert (end.how, end.code) == ("failed", code)


def test_it_may_not_fill_the_disk_with_many_files(folder, monkeypatch):
    monkeypatch.setattr(process, "LOOK_SECONDS", 0.1)

    assert run(folder, "files").code == "too_much_disk"


def test_it_may_not_go_on_for_ever(folder):
    assert run(folder, "wait", limits=Limits(256_000_000, 2_000_000, seconds=0.5)).code == "too_long"


def test_one_that_does_not_obey_is_killed(folder):
    heard = []

    end = run(folder, "wait", on_event=heard.append, should_stop=lambda: 0.2 if heard else None)

    assert end == ChildEnd("stopped")
    assert not is_alive(heard[0]["process"])


def test_one_that_obeys_keeps_what_it_has(folder):
    heard = []

    end = run(folder, "obey", on_event=heard.append, should_stop=lambda: 30.0 if heard else None)

    assert end == ChildEnd("stopped")
    assert (folder / process.WORK / "kept").exists()


def test_nothing_is_left_of_it_where_the_parent_fails(folder):
    seen = []

    def fail(event):
        seen.append(event["process"])
        raise RuntimeError("the database is away")

    with pytest.raises(RuntimeError, match="away"):
        run(folder, "wait", on_event=fail)

    assert not is_alive(seen[0])


PARENT = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "llmsite.settings"
import django; django.setup()
from pathlib import Path
from training.process import Limits, run_child
run_child("probe", Path(sys.argv[1]), on_event=lambda event: print(event["process"], flush=True),
          should_stop=lambda: None, limits=Limits(256_000_000, 2_000_000, 60.0))
"""


def test_it_ends_with_its_parent_however_that_ends(folder):
    write_job(folder, {"task": "wait"})
    environment = {**os.environ, "TRAINING_NICE": "0"}
    command = [sys.executable, "-c", PARENT, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        assert is_alive(child)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(child)


def test_it_ends_with_its_input_where_the_kernel_sends_no_signal():
    command = [sys.executable, "-c", "from training.child.__main__ import _end_with_parent as end; end()"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE) as child:
        child.stdin.close()
        assert child.wait(10) == 1
