"""What `scripts/serve` does before the site runs, and what it refuses."""

import os
import re
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmsite import serve
from llmsite.serve import Refusal

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    cleared = {name: value for name, value in os.environ.items() if name not in ("HOST", "PORT", "MODEL_URL")}
    return subprocess.run(
        command, cwd=ROOT, env=cleared | environment, capture_output=True, text=True, timeout=60
    )


def assert_refused(ended: subprocess.CompletedProcess[str], pattern: str) -> None:
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert re.fullmatch(f"llmsite: {pattern}\n", ended.stderr), ended.stderr


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def old_python(tmp_path: Path) -> Path:
    """A program that says of itself what a Python 3.9 would."""
    program = tmp_path / "python3.9"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    return program


def test_a_python_that_is_too_old_is_refused_in_one_line(old_python):
    ended = run("scripts/serve", PYTHON=str(old_python))
    assert_refused(
        ended, f"Python 3.11 or newer is needed \\(looked at: {old_python}\\); install one, or name it: .*"
    )


def test_no_python_at_all_is_refused_in_one_line():
    assert_refused(
        run("scripts/serve", PYTHON="no-such-python"), r"Python 3.11 or newer .* nothing found\).*"
    )


def test_a_python_that_is_new_enough_is_taken():
    ended = run("scripts/python", PYTHON=sys.executable)
    assert ended.returncode == 0
    assert ended.stdout.strip() == sys.executable


def test_a_refusal_leaves_nothing_but_the_lock_file(tmp_path, monkeypatch, taken_port):
    monkeypatch.setattr(serve, "ROOT", tmp_path)
    monkeypatch.setenv("PORT", str(taken_port))
    monkeypatch.delenv("ENV_FILE", raising=False)
    with pytest.raises(SystemExit) as ended:
        serve.main()
    assert str(ended.value).startswith(f"llmsite: port {taken_port} on 127.0.0.1 is taken;")
    assert [path.name for path in tmp_path.iterdir()] == [".serve.lock"]


class TestLock:
    def test_a_second_serve_on_the_same_folder_is_refused(self, tmp_path):
        first = serve.take_lock(tmp_path / "lock")
        with pytest.raises(Refusal, match=rf"served already, by process {os.getpid()};"):
            serve.take_lock(tmp_path / "lock")
        os.close(first)
        os.close(serve.take_lock(tmp_path / "lock"))

    def test_the_lock_outlives_the_step_to_the_supervisor_and_ends_with_it(self, tmp_path):
        program = (
            "import os, sys; from pathlib import Path; from llmsite import serve;"
            "os.set_inheritable(serve.take_lock(Path(sys.argv[1])), True);"
            "os.execv(sys.executable, [sys.executable, '-c', 'print(1, flush=True); input()'])"
        )
        command = [sys.executable, "-c", program, str(tmp_path / "lock")]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            with pytest.raises(Refusal, match=f"by process {process.pid}"):
                serve.take_lock(tmp_path / "lock")
            process.kill()
        os.close(serve.take_lock(tmp_path / "lock"))


class TestPorts:
    def test_a_taken_port_is_refused_with_what_to_do(self, taken_port):
        with pytest.raises(
            Refusal, match=f"port {taken_port} on 127.0.0.1 is taken; choose another: PORT=8080"
        ):
            serve.check_port("127.0.0.1", taken_port)

    def test_a_taken_port_of_the_model_names_the_setting(self, taken_port):
        with pytest.raises(Refusal, match=f"the model's port {taken_port} .* MODEL_URL=http://"):
            serve.check_model_port(f"http://127.0.0.1:{taken_port}")

    def test_a_model_on_another_machine_needs_no_port_here(self, taken_port):
        serve.check_model_port(f"http://model.example.org:{taken_port}")

    def test_a_port_is_free_again_as_soon_as_its_server_has_ended(self, taken_port):
        with socket.create_connection(("127.0.0.1", taken_port)):
            pass
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            client = socket.create_connection(("127.0.0.1", port))
            server.accept()[0].close()
            client.close()
        serve.check_port("127.0.0.1", port)

    def test_a_name_of_no_machine_is_refused(self, monkeypatch):
        def unknown(*_, **__):
            raise socket.gaierror

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        with pytest.raises(Refusal, match=r"HOST=no-such-host is no address of this machine"):
            serve.check_port("no-such-host", 8000)

    def test_an_address_of_another_machine_is_refused(self):
        with pytest.raises(Refusal, match=r"cannot listen on 192\.0\.2\.1"):
            serve.check_port("192.0.2.1", 8000)

    @pytest.mark.parametrize("port", ["0", "65535", "-1", "eighty", "8000.5", "８０００"])
    def test_a_port_that_is_none_is_refused(self, port):
        with pytest.raises(Refusal, match=r"PORT must be a whole number from 1 to 65534"):
            serve.addresses({"PORT": port})

    def test_the_model_listens_one_port_above_the_site(self):
        assert serve.addresses({}) == {
            "HOST": "127.0.0.1",
            "PORT": "8000",
            "MODEL_URL": "http://127.0.0.1:8001",
        }
        assert serve.addresses({"PORT": "9000"})["MODEL_URL"] == "http://127.0.0.1:9001"
        assert serve.addresses({"MODEL_URL": "http://model:8001"})["MODEL_URL"] == "http://model:8001"


class TestSecretKey:
    def test_a_new_folder_gets_a_key_that_only_its_owner_can_read(self, tmp_path):
        path = tmp_path / ".env"
        serve.write_secret_key(path, {})
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert len(serve.read_env_file(path)["SECRET_KEY"]) >= 64
        assert list(tmp_path.iterdir()) == [path]

    def test_each_folder_gets_a_key_of_its_own(self, tmp_path):
        for name in ("one", "two"):
            serve.write_secret_key(tmp_path / name, {})
        assert (tmp_path / "one").read_text() != (tmp_path / "two").read_text()

    def test_the_other_lines_stay_and_an_empty_key_is_filled(self, tmp_path):
        path = tmp_path / ".env"
        path.write_text("# mine\nSECRET_KEY=\nPORT=9000\n")
        path.chmod(0o644)
        serve.write_secret_key(path, {})
        lines = path.read_text().splitlines()
        assert lines[:2] == ["# mine", "PORT=9000"]
        assert re.fullmatch(r"SECRET_KEY=[\w-]{64}", lines[2])
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    @pytest.mark.parametrize(
        "line", ["SECRET_KEY=of-my-own", "export SECRET_KEY='of-my-own'", "SECRET_KEY_FILE=/run/key"]
    )
    def test_a_key_that_is_there_stays(self, tmp_path, line):
        path = tmp_path / ".env"
        path.write_text(f"{line}\n")
        serve.write_secret_key(path, {})
        assert path.read_text() == f"{line}\n"

    def test_a_key_in_the_environment_is_enough(self, tmp_path):
        serve.write_secret_key(tmp_path / ".env", {"SECRET_KEY": "from outside"})
        assert not (tmp_path / ".env").exists()


@pytest.mark.parametrize(
    ("errors", "words"),
    [
        ("llmsite: SECRET_KEY is too short.\n", "SECRET_KEY is too short."),
        ("Traceback:\n  File x\nOperationalError: refused\n\tIs it running?\n", "OperationalError: refused"),
        ("", "it ended without a word"),
    ],
)
def test_of_a_failed_step_the_line_that_matters_is_told(errors, words):
    assert serve.last_words(errors) == words


def test_a_disk_without_room_for_the_packages_is_refused_before_anything_is_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(serve.INSTALL_BYTES, "cpu", 10**18)
    monkeypatch.delenv("TORCH", raising=False)
    with pytest.raises(Refusal, match=r"the packages need 1000000000 GB, and .* GB free; make room first"):
        serve.check_space(tmp_path)


def test_a_disk_with_room_is_taken(tmp_path, monkeypatch):
    monkeypatch.setitem(serve.INSTALL_BYTES, "cpu", 1)
    monkeypatch.delenv("TORCH", raising=False)
    serve.check_space(tmp_path)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("::1", "http://[::1]:8000"),
        ("llm.example.org", "http://llm.example.org:8000"),
    ],
)
def test_the_printed_address_opens_in_a_browser_on_this_machine(host, address):
    assert serve.site_address(host, 8000) == address
