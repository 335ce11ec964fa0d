"""How long the dashboard takes to open on a site with 1,000,000 recorded answers over 90 days.

Run: python -m bench.dashboard [--generations 1000000] [--on sqlite postgresql] [--times 15] [--uncounted 0].
The answers are invented (`manage.py seed_demo`). Those of SQLite are kept below .bench/dashboard/; PostgreSQL
is made anew each time. `--uncounted` measures while so many answers are in no sum, as after an upgrade of an
old site.

A time is that of the whole request in the server: sign-in, all queries, the page. The goal is 300 ms.
"""

import argparse
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench._processes import ROOT

FOLDER = ROOT / ".bench" / "dashboard"
GOAL_MS = 300
DAYS = 90
SECRET_KEY = secrets.token_urlsafe(48)
RANGES = ("1h", "6h", "24h", "7d", "30d", "90d")
OTHERS = (
    "/dashboard/data/?range=24h",
    "/dashboard/csv/?range=90d",
    "/dashboard/answers/",
    "/dashboard/answers/?only=errors",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--generations", type=int, default=1_000_000)
    parser.add_argument("--on", nargs="+", choices=("sqlite", "postgresql"), default=("sqlite", "postgresql"))
    parser.add_argument("--times", type=int, default=15)
    parser.add_argument("--uncounted", type=int, default=0)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.times, uncounted=options.uncounted)))
        return 0
    print(f"load before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores", flush=True)
    worst = [{"sqlite": on_sqlite, "postgresql": on_postgresql}[name](options) for name in options.on]
    return int(max(worst) > GOAL_MS)


def on_sqlite(options: argparse.Namespace) -> float:
    FOLDER.mkdir(parents=True, exist_ok=True)
    file = FOLDER / f"{options.generations}.sqlite3"
    is_filled = file.with_suffix(".filled")
    if not is_filled.exists():
        for old in FOLDER.glob(f"{file.name}*"):
            old.unlink()
        fill(f"sqlite:///{file}", options.generations)
        is_filled.touch()
    manage(f"sqlite:///{file}", "migrate", "-v", "0")
    return show("SQLite", f"sqlite:///{file}", options)


def on_postgresql(options: argparse.Namespace) -> float:
    from llmsite.testing.servers import start_postgres

    with tempfile.TemporaryDirectory() as folder:
        server = start_postgres(Path(folder))
        try:
            fill(server.url, options.generations)
            return show("PostgreSQL", server.url, options)
        finally:
            server.stop()


def fill(url: str, generations: int) -> None:
    began = time.perf_counter()
    manage(url, "migrate", "-v", "0")
    manage(url, "seed_demo", "--generations", str(generations), "--days", str(DAYS))
    print(f"filled in {time.perf_counter() - began:.0f} s", flush=True)


def manage(url: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "manage.py", *arguments], cwd=ROOT, env=environment(url), check=True)


def environment(url: str) -> dict[str, str]:
    given = {"DATABASE_URL": url, "REDIS_URL": "", "LOG_LEVEL": "error", "ENV_FILE": ""}
    return {
        **os.environ,
        "SECRET_KEY": SECRET_KEY,
        **given,
        "RATE_LIMIT": "100000/s",
        "PYTHONWARNINGS": "ignore",
    }


def show(name: str, url: str, options: argparse.Namespace) -> float:
    """Print what was measured; the slowest median of a page."""
    command = [sys.executable, "-m", "bench.dashboard", "--measure", "--times", str(options.times)]
    command += ["--uncounted", str(options.uncounted)]
    ended = subprocess.run(command, cwd=ROOT, env=environment(url), stdout=subprocess.PIPE, check=True)
    found = json.loads(ended.stdout)
    print(f"{name}, {found['answers']:,} answers, {found['sums']:,} sums:", flush=True)
    for address, (middle, slow, work, queries) in found["ms"].items():
        times = f"p50 {middle:6.0f} ms   p95 {slow:6.0f} ms   processor {work:6.0f} ms"
        print(f"  {address:<34} {times}   {queries} queries", flush=True)
    return max(middle for middle, *_ in found["ms"].values())


def measure(times: int, *, uncounted: int) -> dict[str, object]:
    """In a process with the settings of the site."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "llmsite.settings")
    import django

    django.setup()
    from django.conf import settings
    from django.test import Client

    from accounts.models import User
    from accounts.tokens import sign_in
    from dashboard.models import AnswerSum
    from inference.models import Generation

    settings.ALLOWED_HOSTS = ["*"]
    user, _ = User.objects.get_or_create(username="bench", defaults={"is_superuser": True, "is_staff": True})
    pair = sign_in(user)
    client = Client()
    client.cookies[settings.ACCESS_COOKIE] = pair.access
    client.cookies[settings.REFRESH_COOKIE] = pair.refresh
    addresses = [f"/dashboard/?range={name}" for name in RANGES]
    addresses += [f"{addresses[-1]}&compare=1", *OTHERS]
    newest = Generation.objects.filter(ended_at__isnull=False).order_by("-pk")[:uncounted]
    Generation.objects.filter(pk__in=newest.values("pk")).update(rolled_up=False)
    try:
        ms = {address: timed(client, address, times) for address in addresses}
    finally:  # The file of SQLite is kept.
        Generation.objects.filter(rolled_up=False, ended_at__isnull=False).update(rolled_up=True)
    return {"answers": Generation.objects.count(), "sums": AnswerSum.objects.count(), "ms": ms}


def timed(client: object, address: str, times: int) -> tuple[float, float, float, int]:
    """Milliseconds, median and 95th percentile, those of the processor, and queries; two do not count."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    found, worked = [], []
    for at in range(times + 2):
        began, began_to_work = time.perf_counter(), time.process_time()
        answer = client.get(address)  # type: ignore[attr-defined]
        assert answer.status_code == 200, (address, answer.status_code)
        if at >= 2:
            found.append((time.perf_counter() - began) * 1000)
            worked.append((time.process_time() - began_to_work) * 1000)
    with CaptureQueriesContext(connection) as asked:
        client.get(address)  # type: ignore[attr-defined]
    return (
        statistics.median(found),
        sorted(found)[int(len(found) * 0.95)],
        statistics.median(worked),
        len(asked),
    )


if __name__ == "__main__":
    sys.exit(main())
