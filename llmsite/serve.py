"""What `scripts/serve` does, step by step: refuse what cannot work, install, migrate, and run the Procfile.

It starts before anything is installed, so it uses nothing beyond Python itself.
"""

import errno
import fcntl
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".venv" / "bin" / "python"
GIGABYTE = 10**9
# Measured after an installation on Linux: 1.7 GB on the disk, and what pip downloads before it unpacks.
INSTALL_BYTES = {"cpu": 3 * GIGABYTE, "cuda": 12 * GIGABYTE}
_ASSIGNMENT = re.compile(r"^[ \t]*(?:export[ \t]+)?([A-Z][A-Z0-9_]*)[ \t]*=[ \t]*(.*?)[ \t]*$", re.MULTILINE)


class Refusal(Exception):
    """The site cannot be served; the text is one line that says what to do."""


def main() -> None:
    try:
        serve(ROOT)
    except Refusal as refusal:
        sys.exit(f"llmsite: {refusal}")
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)  # The step has said itself what went wrong.
    except KeyboardInterrupt:
        sys.exit(130)


def serve(root: Path) -> None:
    """Never returns: this process becomes the supervisor."""
    lock = take_lock(root / ".serve.lock")
    env_file = Path(os.environ.get("ENV_FILE") or root / ".env")
    environment = addresses({**read_env_file(env_file), **os.environ})
    host, port = environment["HOST"], int(environment["PORT"])
    check_port(host, port)
    check_model_port(environment["MODEL_URL"])
    if not PYTHON.exists():
        check_space(root)
    write_secret_key(env_file, os.environ)
    os.environ.update(environment)
    run("scripts/install")
    migrate()
    run(str(PYTHON), "manage.py", "prepare_model")
    print(f"\nThe site: {site_address(host, port)} (Ctrl-C stops it)")
    print("The first admin: .venv/bin/python manage.py createsuperuser\n", flush=True)
    os.set_inheritable(lock, True)  # The supervisor keeps the lock until it ends, however it ends.
    os.execv(PYTHON, [str(PYTHON), "-m", "llmsite.supervisor"])


def run(*command: str) -> None:
    subprocess.run(command, cwd=ROOT, check=True)


def migrate() -> None:
    """Bring the database up to date. Looking first is faster than a migration without work."""
    look = [str(PYTHON), "manage.py", "migrate", "--check"]
    if subprocess.run(look, cwd=ROOT, capture_output=True).returncode == 0:
        return
    act = [str(PYTHON), "manage.py", "migrate", "--no-input"]
    ended = subprocess.run(act, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    if ended.returncode:
        raise Refusal(last_words(ended.stderr))


def last_words(errors: str) -> str:
    """The line that says what went wrong: below a traceback, the last one without an indent."""
    lines = [line for line in errors.splitlines() if line.strip() and not line[0].isspace()]
    return lines[-1].removeprefix("llmsite: ") if lines else "it ended without a word"


def take_lock(path: Path) -> int:
    """Hold `path` for this process and what it becomes; its descriptor. Raises Refusal if it is held."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 20).decode().strip()
        os.close(descriptor)
        raise Refusal(f"this folder is served already, by process {holder}; stop that one first") from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def read_env_file(path: Path) -> dict[str, str]:
    """The assignments of a .env file, as far as the steps before Django need them."""
    if not path.is_file():
        return {}
    return {name: value.strip("'\"") for name, value in _ASSIGNMENT.findall(path.read_text(encoding="utf-8"))}


def addresses(settings: Mapping[str, str]) -> dict[str, str]:
    """HOST, PORT and MODEL_URL: as set, or the defaults. The model listens one port above the site."""
    raw = settings.get("PORT") or "8000"
    if not raw.isascii() or not raw.isdigit() or not 1 <= int(raw) <= 65534:
        raise Refusal(f"PORT must be a whole number from 1 to 65534, for example PORT=8000; it is {raw!r}")
    model = settings.get("MODEL_URL") or f"http://127.0.0.1:{int(raw) + 1}"
    return {"HOST": settings.get("HOST") or "127.0.0.1", "PORT": raw, "MODEL_URL": model}


def check_model_port(url: str) -> None:
    """Whether the process `model` can listen. A malformed URL is left to the settings, which explain it."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return
    if port is not None and parts.hostname in ("127.0.0.1", "localhost", "::1"):
        check_port(parts.hostname, port, what="the model's port", example="MODEL_URL=http://127.0.0.1:8101")


def check_port(host: str, port: int, *, what: str = "port", example: str = "PORT=8080") -> None:
    """Raises Refusal where nothing can listen on `host` and `port`."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            # Connections of a server that has just ended do not count as taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror:
        raise Refusal(f"HOST={host} is no address of this machine, for example HOST=127.0.0.1") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Refusal(f"{what} {port} on {host} is taken; choose another: {example} make serve") from None
        raise Refusal(f"cannot listen on {host}, {what} {port}: {error.strerror}") from None


def check_space(folder: Path) -> None:
    """Raises Refusal where the packages would not fit on the disk."""
    needed = INSTALL_BYTES["cuda" if os.environ.get("TORCH") == "cuda" else "cpu"]
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise Refusal(
            f"the packages need {needed / GIGABYTE:.0f} GB, and {folder} has {free / GIGABYTE:.1f} GB free;"
            " make room first"
        )


def write_secret_key(path: Path, environment: Mapping[str, str]) -> None:
    """Give the site a SECRET_KEY of its own in `path`, unless it has one there or in the environment.

    The file is replaced in one step and readable by its owner only; its other lines stay as they are.
    """
    written = read_env_file(path)
    if any(environment.get(name) or written.get(name) for name in ("SECRET_KEY", "SECRET_KEY_FILE")):
        return
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    kept = [line for line in text.splitlines() if not re.match(r"\s*(export\s+)?SECRET_KEY\s*=", line)]
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=".env.")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write("\n".join([*kept, f"SECRET_KEY={secrets.token_urlsafe(48)}", ""]))
        file.flush()
        os.fsync(descriptor)
    os.replace(draft, path)


def site_address(host: str, port: int) -> str:
    """Where a browser on this machine finds the site."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{port}"


if __name__ == "__main__":
    main()
