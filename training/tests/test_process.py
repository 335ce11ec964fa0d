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
    assert (folder / "kept").exists()


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
