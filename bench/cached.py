"""The same question again: what an answer out of the cache costs, beside a bare server and LiteLLM.

Run: python -m bench.cached [--seconds 3] [--rounds 5] [--clients 64] [--only llmsite] [--no-model]. All
servers run at once, each with one worker on the first core; the load comes from a process on the last core
and goes to one of them after the other, in rounds. Each answer is checked for having come from the cache.

- raw: an ASGI application on uvicorn with nothing but JSON, SHA-256 and a dict. Nobody is asked for a key.
- llmsite: bearer key, rate limits, metrics, ledger and log are all on; the limits are too high to refuse.
- LiteLLM: its in-memory cache and a master key; no database, so it keeps no books, which favours it.
"""

import argparse
import base64
import json
import os
import secrets
import statistics
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench._litellm import MASTER_KEY, litellm
from bench._processes import Process, end_on_sigterm, free_port, running
from bench._site import MODEL, Served, site
from bench._wire import post
from bench.generate import TOPICS
from llmsite.testing.servers import start_redis

QUESTION = "Answer at once: why do rivers bend?"
PREDICT, COMPLETIONS = "/api/predict", "/v1/chat/completions"
HIT = r'"cache": ?"l1"|x-llmsite-cache: ?l1'
TARGET_P50, TARGET_RATE, TARGET_RATIO, AIM_RATIO, TARGET_MISS = 0.5, 2000, 10, 20, 100
LEAST_RAW_RATE = 20_000
ROW = "{:<34} {:>8} {:>8} {:>10} {:>11} {:>8}  {}"
MISS_TOKENS = 128


@dataclass
class Peer:
    """One server that is asked."""

    name: str
    port: int
    path: str
    key: str
    process: Process
    marker: str = ""
    refusal: str = ""
    alone: list[dict[str, Any]] = field(default_factory=list)
    together: list[dict[str, Any]] = field(default_factory=list)

    def body(self) -> dict[str, Any]:
        if self.path == PREDICT:
            return {"prompt": QUESTION, "model": MODEL}
        return {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}]}

    def rate(self) -> float:
        return statistics.median(row["rate"] for row in self.together)


def main() -> int:
    """1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3, help="how long a round asks one server")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--only", default="", help="only the servers whose name contains this")
    parser.add_argument("--no-model", action="store_true", help="leave out the local model and its miss")
    options = parser.parse_args()
    end_on_sigterm()
    print(f"load before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores", flush=True)
    missed = False if options.no_model or options.only else miss_and_hit()
    with peers(options.only) as all_peers:
        for peer in all_peers:
            warm(peer)
        missed |= any(peer.refusal for peer in all_peers)
        all_peers = [peer for peer in all_peers if not peer.refusal]
        for _ in range(options.rounds):
            for peer in all_peers:
                peer.alone.append(load(peer, 1, options.seconds))
                peer.together.append(load(peer, options.clients, options.seconds))
        for peer in all_peers:
            peer.together[-1]["rss"] = peer.process.rss()
        return int(report(all_peers, options.clients) or missed)


@contextmanager
def peers(only: str) -> Iterator[list[Peer]]:
    with ExitStack() as stack:
        upstream = free_port()
        command = [sys.executable, "-m", "bench._upstream", str(upstream)]
        stack.enter_context(running(command, port=upstream))
        found = []
        if only in "raw ASGI":
            port, process = stack.enter_context(raw())
            found.append(Peer("raw ASGI", port, PREDICT, "none", process, '"l1"'))
        if only in f"llmsite, embedded: {PREDICT} {COMPLETIONS}":
            served = stack.enter_context(site(upstream=upstream, core=0))
            found += [of_site("llmsite, embedded", served, path) for path in (PREDICT, COMPLETIONS)]
        if only in f"llmsite, Redis: {PREDICT}":
            served = stack.enter_context(
                site(upstream=upstream, core=0, redis_url=stack.enter_context(redis()))
            )
            found.append(of_site("llmsite, Redis", served, PREDICT))
        if only in "LiteLLM":
            port, process = stack.enter_context(litellm(upstream=upstream, cache=True, core=0))
            found.append(Peer("LiteLLM", port, COMPLETIONS, MASTER_KEY, process, "x-litellm-cache-key"))
        yield found


def of_site(name: str, served: Served, path: str) -> Peer:
    return Peer(f"{name}: {path}", served.port, path, served.keys[0], served.process, HIT)


@contextmanager
def raw() -> Iterator[tuple[int, Process]]:
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "bench._raw:app",
        "--port",
        str(port),
        "--log-level",
        "warning",
    ]
    command += ["--no-access-log", "--loop", "uvloop", "--http", "httptools", "--no-proxy-headers"]
    with running(command, port=port, core=0) as process:
        yield port, process


@contextmanager
def redis() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        server = start_redis(Path(folder))
        try:
            yield server.url
        finally:
            server.stop()


def warm(peer: Peer) -> None:
    """The miss, and the first hits; a server that refuses takes no part."""
    try:
        for _ in range(20):
            ask(peer.port, peer.path, peer.key, peer.body())
    except urllib.error.HTTPError as error:
        peer.refusal = f"{error.code} {error.read()[:200]!r}"
        print(f"MISSED  {peer.name} takes no part, it answers {peer.refusal}")


def ask(port: int, path: str, key: str, body: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    """How many seconds one question took on a connection of its own, and the answer. Raises HTTPError."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(), headers)
    began = time.perf_counter()
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=120) as answer:
        data = json.load(answer)
    return time.perf_counter() - began, data


def load(peer: Peer, clients: int, seconds: float) -> dict[str, Any]:
    options = {
        "port": peer.port,
        "request": base64.b64encode(post(peer.port, peer.path, peer.key, peer.body())).decode(),
        "clients": clients,
        "seconds": seconds,
        "marker": peer.marker,
    }
    before = peer.process.cpu_seconds()
    with running([sys.executable, "-m", "bench._load"], core=-1) as generator:
        output, _ = generator.popen.communicate(json.dumps(options), timeout=seconds + 60)
    result: dict[str, Any] = json.loads(output)
    result["cpu"] = (peer.process.cpu_seconds() - before) / max(1, result["count"]) * 1e6
    return result


def report(all_peers: list[Peer], clients: int) -> bool:
    """Print the table; whether a target is missed."""
    print(ROW.format("", "p50 ms", "p95 ms", "requests/s", "µs CPU/req.", "RSS MB", ""))
    for peer in all_peers:
        figures = [
            f"{statistics.median(row[name] or 0 for row in peer.alone):.3f}" for name in ("p50", "p95")
        ]
        cpu = statistics.median(row["cpu"] for row in peer.together)
        rss = f"{peer.together[-1]['rss'] / 1e6:.0f}"
        print(ROW.format(peer.name, *figures, f"{peer.rate():,.0f}", f"{cpu:.0f}", rss, faults(peer)))
    print(f"\np50 and p95 with 1 client, the rest with {clients}, whose connections are kept.")
    held = [judged(words, good) for words, good in targets(all_peers)]
    return not all(held)


def faults(peer: Peer) -> str:
    rows = peer.alone + peer.together
    wrong, count = sum(row["wrong"] for row in rows), sum(row["count"] for row in rows)
    if not wrong:
        return ""
    first = next(row["first_wrong"] for row in rows if row["wrong"])
    status = first.split("\r\n", 1)[0]
    what = "not out of the cache" if "200" in status else status
    return f"{wrong:,} of {count:,} answers: {what}"


def targets(all_peers: list[Peer]) -> Iterator[tuple[str, bool]]:
    by_name = {peer.name: peer for peer in all_peers}
    bare, lite = by_name.get("raw ASGI"), by_name.get("LiteLLM")
    ours = by_name.get(f"llmsite, embedded: {PREDICT}")
    if bare:
        words = f"the load is not the bottleneck: raw ASGI {bare.rate():,.0f}/s ≥ {LEAST_RAW_RATE:,}/s"
        yield words, bare.rate() >= LEAST_RAW_RATE
    for peer in all_peers:
        if peer.marker:
            yield f"{peer.name}: every answer was a hit", not faults(peer)
    if ours:
        p50 = statistics.median(row["p50"] for row in ours.alone)
        yield f"p50 of a hit {p50:.3f} ms ≤ {TARGET_P50} ms", p50 <= TARGET_P50
        yield f"hits {ours.rate():,.0f}/s ≥ {TARGET_RATE:,}/s", ours.rate() >= TARGET_RATE
    if ours and lite:
        ratio = ours.rate() / lite.rate()
        words = f"{ratio:.1f} times LiteLLM's requests/s ≥ {TARGET_RATIO} (the aim is {AIM_RATIO})"
        yield words, ratio >= TARGET_RATIO


def judged(words: str, good: bool) -> bool:
    print(f"{'holds ' if good else 'MISSED'}  {words}")
    return good


def miss_and_hit() -> bool:
    """The local model's answer of 128 tokens, and the same question again; whether the target is missed."""
    model = free_port()
    environment = {"MODEL_URL": f"http://127.0.0.1:{model}", "LOCAL_BASE_URL": "", "ENV_FILE": ""}
    own = {**environment, "SECRET_KEY": secrets.token_urlsafe(48)}
    with ExitStack() as stack:
        command = [sys.executable, "manage.py", "serve_model"]
        stack.enter_context(running(command, port=model, env=own, quiet=True))
        served = stack.enter_context(site(upstream=model, **environment))
        wait_for_model(served)
        misses, hits, missed = [], [], False
        for topic in TOPICS[:5]:
            body = {"prompt": f"Explain in detail {topic}.", "max_tokens": MISS_TOKENS}
            seconds, first = ask(served.port, PREDICT, served.keys[0], body)
            if first["usage"]["output_tokens"] < MISS_TOKENS:
                continue  # It ended before; the miss would look cheaper than it is.
            misses.append(seconds)
            again = [ask(served.port, PREDICT, served.keys[0], body) for _ in range(20)]
            hits += [took for took, _ in again]
            missed |= any(answer["cache"] != "l1" for _, answer in again)
    if not misses:
        return not judged(f"no answer of the local model had {MISS_TOKENS} tokens", good=False)
    miss, hit = statistics.median(misses), statistics.median(hits)
    words = f"a repeated question {hit * 1000:.1f} ms, its miss {miss * 1000:,.0f} ms with the local model"
    words += f" ({MISS_TOKENS} tokens): {miss / hit:.0f} times faster" + (
        ", BUT NOT OUT OF THE CACHE" if missed else ""
    )
    return not judged(f"{words} ≥ {TARGET_MISS}", not missed and miss / hit >= TARGET_MISS)


def wait_for_model(served: Served) -> None:
    """Until the model is loaded and answers."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{served.port}/health/ready", timeout=2).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    sys.exit("the local model did not come up within 60 s")


if __name__ == "__main__":
    sys.exit(main())
