"""What it costs to know a caller and to count the request, where the caller was seen a moment ago.

Run: python -m bench.auth [--calls 1000] [--rounds 7]. The site's own gate (`accounts.middleware`) with a
trivial async view behind it, minus that view alone, in milliseconds a request: in one process without Redis,
and with a real Redis on a Unix socket. Bare and gated calls take turns in rounds; a figure is the median of
the rounds. A thread hop would cost more than all of this, so they are counted as well: there must be none.
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
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TARGETS = {"embedded": 0.15, "redis": 0.3}
ROW = "{:<10} {:>8} {:>8} {:>9} {:>9} {:>9} {:>9} {:>8} {:>6}"
FIGURES = ("bare", "bare p90", "gated", "gated p90", "cost", "cost p90")


def main() -> int:
    """1 where a target is missed or a thread was used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--calls", type=int, default=1000, help="calls in a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measured(options.calls, options.rounds)))
        return 0
    print(f"load before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores", flush=True)
    rows = {"embedded": child(""), "redis": with_redis(child)}
    print(ROW.format("ms", *FIGURES, "target", "hops"))
    for store, row in rows.items():
        figures = (f"{row[name]:.3f}" for name in FIGURES)
        print(ROW.format(store, *figures, TARGETS[store], row["hops"]))
    return int(any(row["cost"] > TARGETS[store] or row["hops"] for store, row in rows.items()))


def with_redis(measure: Callable[[str], dict[str, float]]) -> dict[str, float]:
    from llmsite.testing.servers import start_redis

    with tempfile.TemporaryDirectory() as folder:
        server = start_redis(Path(folder))
        try:
            return measure(server.url)
        finally:
            server.stop()


def child(redis_url: str) -> dict[str, float]:
    """The figures of a process of its own, because settings are read once."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "ENV_FILE": "",
            "SECRET_KEY": secrets.token_urlsafe(48),
            "DATABASE_URL": f"sqlite:///{folder}/bench.sqlite3",
            "REDIS_URL": redis_url,
            # Nothing is refused, and the windows are as long as on a site.
            "RATE_LIMIT": "10000000/m",
            "RATE_LIMIT_ADDRESS": "10000000/m",
            "LOG_LEVEL": "error",
        }
        command = [sys.executable, "-m", "bench.auth", "--child", *sys.argv[1:]]
        ended = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True)
        return dict(json.loads(ended.stdout))


def measured(calls: int, rounds: int) -> dict[str, float]:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "llmsite.settings")
    import django
    import uvloop

    django.setup()
    headers = {"Authorization": f"Bearer {new_key()}"}
    return uvloop.run(in_rounds(headers, calls, rounds))  # The loop that uvicorn takes.


def new_key() -> str:
    from django.core.management import call_command

    from accounts.keys import create_key
    from accounts.models import User

    call_command("migrate", verbosity=0)
    _, key = create_key(User.objects.create_user("bench"), "bench")
    return key


async def in_rounds(headers: dict[str, str], calls: int, rounds: int) -> dict[str, float]:
    from accounts.middleware import GateMiddleware

    gate = GateMiddleware(view)
    bare, gated = [], []
    for _ in range(rounds):
        await timed(gate, headers, 50)  # Asks the database for the key, which is then known for a while.
        bare.append(await timed(view, headers, calls))
        gated.append(await timed(gate, headers, calls))
    hops = await thread_hops(gate, headers, 100)
    figures = [median_of(times) for times in (bare, gated)]
    costs = [after - before for before, after in zip(*figures, strict=True)]
    return dict(zip(FIGURES, [*figures[0], *figures[1], *costs], strict=True)) | {"hops": hops}


async def view(request: Any) -> Any:
    from django.http import HttpResponse

    return HttpResponse(b"{}")


async def timed(handler: Callable[[Any], Awaitable[Any]], headers: dict[str, str], calls: int) -> list[float]:
    """Milliseconds of each call; making the request is not part of it."""
    times = []
    for request in requests(headers, calls):
        began = time.perf_counter()
        response = await handler(request)
        times.append((time.perf_counter() - began) * 1000)
        if response.status_code != 200:
            raise SystemExit(f"a call was answered with {response.status_code}: {response.content!r}")
    return times


def requests(headers: dict[str, str], count: int) -> list[Any]:
    from django.test import AsyncRequestFactory

    factory = AsyncRequestFactory()
    return [factory.get("/api/models", headers=headers) for _ in range(count)]


async def thread_hops(handler: Callable[[Any], Awaitable[Any]], headers: dict[str, str], calls: int) -> int:
    from asgiref.sync import SyncToAsync

    await timed(handler, headers, 1)
    hops, call = 0, SyncToAsync.__call__

    async def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal hops
        hops += 1
        return await call(*args, **kwargs)

    SyncToAsync.__call__ = counted  # type: ignore[method-assign]
    await timed(handler, headers, calls)
    SyncToAsync.__call__ = call  # type: ignore[method-assign]
    return hops


def median_of(rounds: list[list[float]]) -> tuple[float, float]:
    """The median, and the 90th percentile, of the rounds' own."""
    medians = [statistics.median(times) for times in rounds]
    ninetieths = [statistics.quantiles(times, n=10)[-1] for times in rounds]
    return statistics.median(medians), statistics.median(ninetieths)


if __name__ == "__main__":
    sys.exit(main())
