"""Tokens a second and time to the first token of the local model, through HTTP and bare.

Run: python -m bench.generate [--repeat 5]. It starts its own `serve_model` on a free port, greedy,
128 tokens an answer, and prints medians. `bare` is the runner alone in this process: a fixed batch
of prompts of 60 tokens, no scheduler, no HTTP, no text.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TOKENS = 128
GAP = 0.1
TOPICS = (
    "how rivers shape valleys",
    "why bread rises in the oven",
    "how a bicycle stays upright",
    "what bees do in winter",
    "how old maps were drawn",
    "why the sea is salty",
    "how a clock keeps time",
    "what makes glass transparent",
)


@dataclass(frozen=True)
class Timing:
    """One answer: seconds from its request to the first piece and to the end, and its tokens."""

    began: float
    first: float
    ended: float
    tokens: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5, help="how often each figure is measured (median)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # So that its server ends with it.
    print(f"load before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores", flush=True)
    with served() as (port, process):
        rows = asyncio.run(measure(port, options.repeat))
        rows.append(("memory of the process, MB (now / peak)", "{} / {}".format(*memory(process.pid))))
    rows += list(bare(options.repeat))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


@contextmanager
def served() -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "MODEL_URL": f"http://127.0.0.1:{port}", "LOG_LEVEL": "warning"}
    process = subprocess.Popen([sys.executable, "manage.py", "serve_model"], cwd=ROOT, env=environment)
    began = time.perf_counter()
    try:
        while not ready(port):
            if process.poll() is not None:
                sys.exit("serve_model has ended; it says why above.")
            time.sleep(0.02)
        print(f"start to ready: {time.perf_counter() - began:.2f} s")
        yield port, process
    finally:
        process.terminate()
        process.wait()


def ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


async def measure(port: int, repeat: int) -> list[tuple[str, str]]:
    short = [fit(port, f"Explain in detail {topic}.", 60) for topic in TOPICS]
    long = [fit(port, f"Explain in detail {topic}.", 1000) for topic in TOPICS]
    await ask(port, short[0], 16)
    alone = [await ask(port, short[turn % 8], TOKENS) for turn in range(repeat)]
    together = [await staggered(port, short) for _ in range(repeat)]
    slow = [await ask(port, long[turn % 8], 1) for turn in range(repeat)]
    stalls = [await longest_gap(port, short[0], long[1]) for _ in range(repeat)]
    return [
        ("one request, tokens/s", median([rate([timing]) for timing in alone])),
        ("one request, tokens/s after the first token", median([decode_rate(timing) for timing in alone])),
        ("eight, 100 ms apart, tokens/s together", median([rate(timings) for timings in together])),
        ("first token, prompt of 60 tokens, one, s", median([timing.first for timing in alone], 3)),
        ("first token, the eighth of eight, s", median([timings[-1].first for timings in together], 3)),
        ("first token, worst of the eight, s", median([max(t.first for t in ts) for ts in together], 3)),
        ("first token, prompt of 1,000 tokens, s", median([timing.first for timing in slow], 2)),
        ("longest pause of a stream while 1,000 tokens arrive, s", median(stalls, 3)),
    ]


def fit(port: int, start: str, tokens: int) -> str:
    """A message that makes a prompt of exactly `tokens` tokens, or the nearest above."""
    text = start
    while count(port, text) < tokens:
        text += " and"
    return text


def count(port: int, text: str) -> int:
    body = json.dumps({"messages": [{"role": "user", "content": text}]}).encode()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/tokenize", body, timeout=10) as answer:
        return int(json.load(answer)["count"])


async def staggered(port: int, prompts: list[str]) -> list[Timing]:
    async def later(turn: int, prompt: str) -> Timing:
        await asyncio.sleep(turn * GAP)
        return await ask(port, prompt, TOKENS)

    return await asyncio.gather(*(later(turn, prompt) for turn, prompt in enumerate(prompts)))


async def longest_gap(port: int, prompt: str, arriving: str) -> float:
    """How long a stream pauses at most while a long prompt is read beside it."""
    times: list[float] = []
    stream = asyncio.create_task(ask(port, prompt, TOKENS, times))
    await asyncio.sleep(0.3)
    await ask(port, arriving, 1)
    await stream
    return max(after - before for before, after in pairwise(times))


async def ask(port: int, prompt: str, tokens: int, times: list[float] | None = None) -> Timing:
    """One streamed request over a connection of its own; `times` collects when pieces arrive."""
    body = json.dumps(
        {
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": tokens,
            "frequency_penalty": 0,  # So that answers do not end before all their tokens.
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    began, first, used = time.perf_counter(), 0.0, 0
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head.encode() + body)
    async for line in reader:
        if b'"content":"' in line and b'"content":""' not in line:
            first = first or time.perf_counter()
            if times is not None:
                times.append(time.perf_counter())
        if b'"usage":{' in line:
            used = json.loads(line[6:])["usage"]["completion_tokens"]
        if line.startswith(b"data: [DONE]"):
            break
    writer.close()
    ended = time.perf_counter()
    return Timing(began, (first or ended) - began, ended - began, used)


def rate(timings: list[Timing]) -> float:
    """Tokens a second from the first request to the last end."""
    ended = max(timing.began + timing.ended for timing in timings)
    return sum(timing.tokens for timing in timings) / (ended - min(timing.began for timing in timings))


def decode_rate(timing: Timing) -> float:
    return (timing.tokens - 1) / (timing.ended - timing.first)


def bare(repeat: int) -> Iterator[tuple[str, str]]:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "llmsite.settings")
    from django.conf import settings

    from inference.engine.load import CONTEXT, SLOTS, cores
    from inference.engine.onnx_runner import OnnxRunner
    from inference.engine.prepare import prepared_model, read_shape

    folder = prepared_model(settings.MODELS_ROOT)
    runner = OnnxRunner(folder, read_shape(folder), slots=SLOTS, context=CONTEXT, threads=cores())
    prompt = list(range(1000, 1060))
    for rows in (1, 4, 8):
        for row in range(rows):
            runner.prefill(row, prompt, 0)
        yield f"bare, {rows} in a batch, tokens/s", median([steps(runner, rows) for _ in range(repeat)])
    yield "bare, prompt of 1,000 tokens, s", median([read(runner, 1000) for _ in range(repeat)], 2)


def steps(runner: Any, rows: int) -> float:
    began = time.perf_counter()
    for step in range(TOKENS):
        runner.decode([500] * rows, [60 + step] * rows)
    return TOKENS * rows / (time.perf_counter() - began)


def read(runner: Any, length: int) -> float:
    began = time.perf_counter()
    for start in range(0, length, runner.chunk):
        end = min(start + runner.chunk, length)
        runner.prefill(0, list(range(1000 + start, 1000 + end)), start)
    return time.perf_counter() - began


def memory(process: int) -> tuple[int, int]:
    """The process's memory in MB, now and at its peak (Linux)."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    values = dict(line.split(":", 1) for line in lines)
    return int(values["VmRSS"].split()[0]) // 1000, int(values["VmHWM"].split()[0]) // 1000


def median(values: list[float], digits: int = 0) -> str:
    return f"{statistics.median(values):.{digits}f}"


if __name__ == "__main__":
    main()
