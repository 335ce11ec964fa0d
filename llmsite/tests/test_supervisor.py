"""The supervisor on real processes: small Python programs in a temporary folder."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from llmsite.supervisor import ProcfileError, child_environment, read_procfile

ROOT = Path(__file__).resolve().parents[2]
# Short pauses; everything else as `python -m llmsite.supervisor` does it.
DRIVER = """
import asyncio, os, sys
from pathlib import Path
from llmsite.supervisor import Output, Supervisor, Timing, read_procfile

async def main():
    commands = read_procfile(Path(sys.argv[1]).read_text(), os.environ)
    timing = Timing(first_pause=0.05, longest_pause=0.2, healthy_after=30, grace=float(sys.argv[2]))
    await Supervisor(commands, Output(list(commands), coloured=False), timing=timing).run()

asyncio.run(main())
"""
OBEDIENT = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = """
    import os, signal, subprocess, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print("up", os.getpid(), child.pid, flush=True)
    while True:
        time.sleep(1)
"""


class Running:
    """A supervisor under test, and the lines it has written so far."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self.log = log

    @property
    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()

    def wait_for(self, pattern: str, *, times: int = 1) -> list[re.Match[str]]:
        def found() -> list[re.Match[str]]:
            matches = [match for line in self.lines if (match := re.search(pattern, line))]
            return matches if len(matches) >= times else []

        return eventually(found, lambda: f"{pattern!r} in {self.lines}")

    def end(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)


def eventually(found: Callable[[], list], description: Callable[[], str]) -> list:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if result := found():
            return result
        time.sleep(0.02)
    raise AssertionError(f"waited in vain for {description()}")


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def start(*, grace: float = 20, **programs: str) -> Running:
        for name, program in programs.items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(program))
        procfile = tmp_path / "Procfile"
        procfile.write_text("".join(f"{name}: python {tmp_path}/{name}.py\n" for name in programs))
        log = tmp_path / "log"
        command = [sys.executable, "-c", DRIVER, str(procfile), str(grace)]
        with log.open("w") as output:
            process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, text=True)
        started.append(Running(process, log))
        return started[-1]

    yield start
    for running in started:
        if running.process.poll() is None:
            running.end()


def test_each_line_stands_behind_the_name_of_its_process(supervise):
    running = supervise(
        web=OBEDIENT, worker="print('one'); print('two', end=''); import time; time.sleep(600)"
    )
    running.wait_for(r"^web    \| up$")
    running.wait_for(r"^worker \| one$")


def test_a_last_line_without_its_end_is_not_lost(supervise):
    running = supervise(worker="print('half a line', end='')")
    running.wait_for(r"^worker \| half a line$")


def test_a_process_that_dies_starts_again_after_growing_pauses_while_the_others_go_on(supervise):
    running = supervise(web=OBEDIENT, model="import sys; sys.exit(3)")
    running.wait_for(r"^model \| ended with status 3; starts again", times=5)
    pauses = re.findall(r"again in ([\d.]+) s", "\n".join(running.lines))
    assert pauses[:5] == ["0.05", "0.1", "0.2", "0.2", "0.2"]
    assert [line for line in running.lines if line.startswith("web")] == ["web   | up"]


def test_a_killed_process_starts_again(supervise):
    running = supervise(web="import os, time; print('up', os.getpid(), flush=True); time.sleep(600)")
    os.kill(int(running.wait_for(r"up (\d+)")[0][1]), signal.SIGKILL)
    running.wait_for(r"was killed by SIGKILL; starts again")
    running.wait_for(r"up \d+", times=2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_all_processes_with_status_0(supervise, number):
    report = "import os, time; print('up', os.getpid(), flush=True); time.sleep(600)"
    running = supervise(web=report, model=report)
    pids = [int(match[1]) for match in running.wait_for(r"up (\d+)", times=2)]
    assert running.end(number) == 0
    assert all(is_gone(pid) for pid in pids)


def test_a_process_may_end_its_work_before_it_goes(supervise):
    graceful = """
        import signal, sys, time
        def leave(number, frame):
            print("saved", flush=True)
            sys.exit(0)
        signal.signal(signal.SIGTERM, leave)
        print("up", flush=True)
        time.sleep(600)
    """
    running = supervise(web=graceful)
    running.wait_for("up")
    assert running.end() == 0
    up, told, saved = running.lines
    assert (up, saved) == ("web | up", "web | saved")
    assert "Ctrl-C once more" in told


def test_a_process_that_ignores_the_signal_is_killed_with_its_children_after_the_grace(supervise):
    running = supervise(grace=0.3, web=STUBBORN)
    up = running.wait_for(r"up (\d+) (\d+)")[0]
    assert running.end() == 0
    assert is_gone(int(up[1]))
    assert is_gone(int(up[2]))


def test_a_second_signal_kills_at_once(supervise):
    running = supervise(
        grace=600,
        web=STUBBORN,
        witness="""
        import signal, time
        signal.signal(signal.SIGTERM, lambda *_: print("asked", flush=True))
        print("ready", flush=True)
        while True:
            time.sleep(1)
    """,
    )
    up = running.wait_for(r"up (\d+) (\d+)")[0]
    running.wait_for("ready")
    running.process.send_signal(signal.SIGINT)
    running.wait_for("asked")  # The first signal has been worked off.
    assert running.end() == 0
    assert is_gone(int(up[1]))


def test_what_a_dead_process_has_left_running_is_ended(supervise):
    parent = """
        import subprocess, sys
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print("child", child.pid, flush=True)
    """
    running = supervise(web=parent)
    child = int(running.wait_for(r"child (\d+)")[0][1])
    running.wait_for("starts again")
    assert is_gone(child)


def test_killing_the_supervisor_itself_leaves_no_process(supervise):
    running = supervise(grace=0.3, web=STUBBORN)
    up = running.wait_for(r"up (\d+) (\d+)")[0]
    running.process.kill()
    eventually(
        lambda: [True] if is_gone(int(up[1])) and is_gone(int(up[2])) else [], lambda: "the end of both"
    )


def test_an_endless_line_is_cut_rather_than_collected(supervise):
    running = supervise(
        web="import sys, time; sys.stdout.write('x' * 3_000_000); sys.stdout.flush(); time.sleep(600)"
    )
    eventually(lambda: [line for line in running.lines if len(line) > 1 << 20], lambda: "a long line")


def test_a_procfile_is_read_with_the_variables_filled_in():
    text = "# processes\n\nweb: python serve.py --port $PORT '$HOST name'\n"
    commands = read_procfile(text, {"PORT": "8000", "HOST": "a host"})
    assert commands == {"web": ["python", "serve.py", "--port", "8000", "a host name"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no process"),
        ("web python serve.py", "expected `name: command`"),
        ("web:", "expected `name: command`"),
        ("web: serve $PORT", "web uses $PORT, which is not set"),
        ("web: serve 'half", "web: No closing quotation"),
    ],
)
def test_a_procfile_that_cannot_be_run_says_why(text, message):
    with pytest.raises(ProcfileError, match=re.escape(message)):
        read_procfile(text, {})


def test_a_missing_program_is_named(tmp_path):
    (tmp_path / "Procfile").write_text("web: no-such-program\n")
    command = [sys.executable, "-m", "llmsite.supervisor", str(tmp_path / "Procfile")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        line = process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert line.startswith("web | did not start (No such file or directory: no-such-program)")


def test_processes_find_the_python_of_the_supervisor_first():
    found = child_environment({"PATH": "/usr/bin"})
    assert found["PATH"] == f"{Path(sys.executable).parent}{os.pathsep}/usr/bin"
