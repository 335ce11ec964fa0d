"""What the way through a web process adds to each token of many streams at once.

Run: python -m bench.stream [--streams 1,100,500] [--seconds 10] [--rounds 3] [--only llmsite,relay].

A stand-in upstream sends 50 tokens a second into each stream, and each token carries when it was sent, so
its age at the reader is the time that everything between has added. The upstream, the readers and the server
are processes of their own on one machine: with two cores they take turns, and `direct` shows what that costs
without a server between. `bare relay` is the least that a server in Python costs: one read and one write for
a token, and nothing else; `raw relay` does the same under uvicorn. LiteLLM has one worker and no database,
which favours it.
"""

import argparse
import base64
import json
import os
import secrets
import statistics
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from bench._litellm import MASTER_KEY, litellm
from bench._processes import Process, end_on_sigterm, free_port, running
from bench._site import MODEL, site
from bench._wire import post

TARGET_STREAMS, TARGET_MS = 500, 10.0
AT_ONCE = 8
PREDICT, COMPLETIONS = "/api/predict/stream", "/v1/chat/completions"
ROW = "{:<28} {:>8} {:>9} {:>9} {:>11} {:>12} {:>8}  {}"


@dataclass
class Way:
    """One way from the upstream to the readers."""

    name: str
    port: int
    path: str
    key: str
    process: Process | None
    rounds: dict[int, list[dict[str, Any]]] = field(default_factory=dict)

    def request(self) -> bytes:
        """A question that was never asked before, so that no cache answers it."""
        question = f"Stream {secrets.token_hex(8)}"
        if self.path == PREDICT:
            body: dict[str, Any] = {"prompt": question, "model": MODEL}
        else:
            messages = [{"role": "user", "content": question}]
            body = {"model": MODEL, "messages": messages, "stream": True}
        return post(self.port, self.path, self.key, body)


def main() -> int:
    """1 where the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--streams", default="1,100,500", help="how many at once, separated by commas")
    parser.add_argument("--seconds", type=float, default=10, help="how long a round measures")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="only the ways with one of these in their names")
    options = parser.parse_args()
    end_on_sigterm()
    print(f"load before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores", flush=True)
    counts = [int(count) for count in options.streams.split(",")]
    with ways(options.only) as (upstream, all_ways):
        for _ in range(options.rounds):
            for count in counts:
                for way in all_ways:
                    way.rounds.setdefault(count, []).append(measured(way, upstream, count, options.seconds))
    return report(all_ways, counts)


@contextmanager
def ways(only: str) -> Iterator[tuple[int, list[Way]]]:
    with ExitStack() as stack:
        upstream = free_port()
        command = [sys.executable, "-m", "bench._upstream", str(upstream)]
        stack.enter_context(running(command, port=upstream, files=4096))

        def is_wanted(name: str) -> bool:
            return any(part in name for part in only.split(","))

        found = [Way("direct", upstream, COMPLETIONS, "none", None)]
        if any(is_wanted(f"llmsite {path}") for path in (PREDICT, COMPLETIONS)):
            found += our_ways(stack, upstream)
        if is_wanted("bare relay"):
            found.append(relay("bare relay", stack, upstream, bare_command))
        if is_wanted("raw relay"):
            found.append(relay("raw relay", stack, upstream, raw_command))
        if is_wanted("LiteLLM"):
            port, process = stack.enter_context(litellm(upstream=upstream, cache=False))
            found.append(Way("LiteLLM", port, COMPLETIONS, MASTER_KEY, process))
        yield upstream, [way for way in found if is_wanted(way.name)]


def our_ways(stack: ExitStack, upstream: int) -> list[Way]:
    served = stack.enter_context(site(upstream=upstream, files=4096))
    return [
        Way(f"llmsite {path}", served.port, path, served.keys[0], served.process)
        for path in (PREDICT, COMPLETIONS)
    ]


def relay(name: str, stack: ExitStack, upstream: int, command: Callable[[int], list[str]]) -> Way:
    port, environment = free_port(), {"BENCH_UPSTREAM": str(upstream)}
    process = stack.enter_context(running(command(port), port=port, files=4096, env=environment))
    return Way(name, port, COMPLETIONS, "none", process)


def bare_command(port: int) -> list[str]:
    return [sys.executable, "-m", "bench._relay", str(port)]


def raw_command(port: int) -> list[str]:
    command = f"-m uvicorn bench._raw:app --port {port} --log-level warning --no-access-log"
    return [sys.executable, *command.split(), "--loop", "uvloop", "--http", "httptools"]


def measured(way: Way, upstream: int, count: int, seconds: float) -> dict[str, Any]:
    """One round: `count` streams are opened, read for `seconds`, and ended."""
    requests = [base64.b64encode(way.request()).decode() for _ in range(count)]
    options = {"port": way.port, "requests": requests, "seconds": seconds, "at_once": AT_ONCE}
    with running([sys.executable, "-m", "bench._readers"], files=4096) as reader:
        assert reader.popen.stdin
        assert reader.popen.stdout
        reader.popen.stdin.write(json.dumps(options))
        reader.popen.stdin.close()
        usage = []
        for _ in ("measuring", "measured"):
            if not reader.popen.stdout.readline():
                sys.exit(f"the readers of {way.name} have ended; they say why above.")
            usage.append(way.process.cpu_seconds() if way.process else 0.0)
        result: dict[str, Any] = json.loads(reader.popen.stdout.readline())
    end_streams(upstream)
    result["cpu"] = (usage[1] - usage[0]) / seconds
    result["rss"] = way.process.rss() if way.process else 0
    result["share"] = result["tokens"] / (count * 50 * seconds)
    return result


def end_streams(upstream: int) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{upstream}/end", data=b"{}")
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10):
        pass


def report(all_ways: list[Way], counts: list[int]) -> int:
    print(ROW.format("", "streams", "p50 ms", "p99 ms", "tokens/s", "µs CPU/token", "RSS MB", ""))
    failed = False
    for count in counts:
        for way in all_ways:
            failed |= show(way, count)
    print(
        f"\np50 and p99: age of a token at its reader. Target: p99 at {TARGET_STREAMS} streams of llmsite"
        f" ≤ {TARGET_MS:.0f} ms."
    )
    return int(failed)


def show(way: Way, count: int) -> bool:
    """Print one row; whether it misses the target."""
    rounds = way.rounds[count]

    def median(name: str) -> float:
        return statistics.median(row[name] or 0.0 for row in rounds)

    rate = median("share") * count * 50
    cpu = median("cpu") / rate * 1e6 if rate and way.process else 0.0
    remarks = [f"only {row['live']} open" for row in rounds if row["live"] < count]
    remarks += [row["refusal"] for row in rounds if row["refusal"]]
    if median("share") < 0.98:
        remarks.append(f"{median('share'):.0%} of the tokens came in time")
    missed = bool(remarks) or (count == TARGET_STREAMS and median("p99") > TARGET_MS)
    missed &= way.name.startswith("llmsite")
    if missed and not remarks:
        remarks.append("misses the target")
    figures = [f"{median('p50'):.2f}", f"{median('p99'):.2f}", f"{rate:,.0f}", f"{cpu:.0f}" if cpu else ""]
    rss = f"{median('rss') / 1e6:.0f}" if way.process else ""
    print(ROW.format(way.name, count, *figures, rss, "; ".join(dict.fromkeys(remarks))))
    return missed


if __name__ == "__main__":
    sys.exit(main())
