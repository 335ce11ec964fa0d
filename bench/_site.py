"""One web process of llmsite with people who have keys, for a benchmark."""

import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench._processes import ROOT, Process, free_port, running

MODEL = "bench"
"""The alias of the model that the stand-in upstream serves."""
# Nothing is refused, and everything is counted, recorded and logged as on a site.
GENEROUS = {"RATE_LIMIT": "100000000/m", "RATE_LIMIT_ADDRESS": "100000000/m"}


@dataclass(frozen=True)
class Served:
    """A running site: where, its process, and a key for each person."""

    port: int
    process: Process
    keys: list[str]


@contextmanager
def site(
    *,
    upstream: int,
    people: int = 1,
    redis_url: str = "",
    core: int | None = None,
    files: int = 0,
    **settings: str,
) -> Iterator[Served]:
    """A site of its own on a new database, whose model `bench` is the stand-in on port `upstream`.

    The site reaches it like a model server of its own (LOCAL_BASE_URL).
    """
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        environment = {
            **GENEROUS,
            "ENV_FILE": "",
            "SECRET_KEY": secrets.token_urlsafe(48),
            "DATABASE_URL": f"sqlite:///{folder}/bench.sqlite3",
            "REDIS_URL": redis_url,
            "PORT": str(port),
            "LOCAL_BASE_URL": f"http://127.0.0.1:{upstream}",
            "NO_PROXY": "127.0.0.1",
            **settings,
        }
        keys = _prepare(environment, people)
        command = [sys.executable, "manage.py", "serve_web"]
        # Its log is written, and nobody reads it.
        with running(command, port=port, core=core, env=environment, quiet=True, files=files) as process:
            yield Served(port, process, keys)


def _prepare(environment: dict[str, str], people: int) -> list[str]:
    command = [sys.executable, "-m", "bench._site", str(people)]
    ended = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, check=True
    )
    return list(json.loads(ended.stdout))


def main(people: int) -> None:
    """In a process that has the site's settings: make its tables, the model and the people."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "llmsite.settings")
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import transaction

    from accounts.keys import create_key
    from accounts.models import User
    from inference.models import ChatModelConfig

    call_command("migrate", verbosity=0)
    ChatModelConfig.objects.create(
        alias=MODEL,
        provider="local",
        provider_model=MODEL,
        # Streams go on for a while, and some are floods.
        context_window=200_000,
        max_tokens=100_000,
        # Of no effect but where a benchmark sets SEMANTIC_CACHE.
        semantic_cache=True,
    )
    users = User.objects.bulk_create(
        User(username=f"person{number}", password="!") for number in range(people)
    )
    with transaction.atomic():
        keys = [create_key(user, "bench")[1] for user in users]
    print(json.dumps(keys))


if __name__ == "__main__":
    main(int(sys.argv[1]))
