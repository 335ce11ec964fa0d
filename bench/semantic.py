"""What an answer costs that was kept for the same question in other words.

Run: python -m bench.semantic [--questions 128]. A web process and the process `model` with its encoder; the
provider is a stand-in that answers at once, so a miss is what the site itself takes. Each question is asked
once, and then once in other words, one after another: the same words again would come out of the memory.
"""

import argparse
import os
import secrets
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from bench._processes import end_on_sigterm, free_port, running
from bench._site import MODEL, Served, site
from bench.cached import PREDICT, ask, judged

TARGET_MS = 10
TOWNS = ["Aldmoor", "Carrow", "Dunmere", "Eastlow", "Fernhill", "Garth", "Holmby", "Inverlea"]
THINGS = ["river", "bridge", "market", "harbour", "library", "museum", "castle", "garden"]
FORMS = (
    (
        "What is the age of the {thing} of {town}? Answer at once.",
        "What's the age of the {thing} of {town}? Answer at once.",
    ),
    (
        "How big is the {thing} of {town}? Answer at once.",
        "How large is the {thing} of {town}? Answer at once.",
    ),
)


def main() -> int:
    """1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--questions", type=int, default=128, help="at most 128")
    options = parser.parse_args()
    end_on_sigterm()
    print(f"load before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores", flush=True)
    with ExitStack() as stack:
        served = started(stack)
        return report(measured(served, list(pairs())[: options.questions]))


def started(stack: ExitStack) -> Served:
    upstream, model = free_port(), free_port()
    common = {"MODEL_URL": f"http://127.0.0.1:{model}", "SEMANTIC_CACHE": "true"}
    stack.enter_context(running([sys.executable, "-m", "bench._upstream", str(upstream)], port=upstream))
    own = {**common, "ENV_FILE": "", "SECRET_KEY": secrets.token_urlsafe(48)}
    stack.enter_context(
        running([sys.executable, "manage.py", "serve_model"], port=model, env=own, quiet=True)
    )
    served = stack.enter_context(site(upstream=upstream, **common))
    warm(served)
    return served


def warm(served: Served) -> None:
    """Until the encoder is loaded and the index answers."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        tag = secrets.token_hex(3)
        predict(served, f"What is the height of the tower of {tag}? Answer at once.")
        if predict(served, f"What's the height of the tower of {tag}? Answer at once.")[1] == "l3":
            return
        time.sleep(0.5)
    sys.exit("the index of meanings did not answer within 60 s")


def pairs() -> Iterator[tuple[str, str]]:
    for town in TOWNS:
        for thing in THINGS:
            for form in FORMS:
                first, again = (words.format(thing=thing, town=town) for words in form)
                yield first, again


def predict(served: Served, prompt: str) -> tuple[float, Any]:
    """Milliseconds, and which level of the cache it came from."""
    seconds, answer = ask(served.port, PREDICT, served.keys[0], {"prompt": prompt, "model": MODEL})
    return seconds * 1000, answer["cache"]


def measured(served: Served, questions: list[tuple[str, str]]) -> dict[str, list[float]]:
    """Milliseconds of each miss and of each hit."""
    took: dict[str, list[float]] = {"miss": [], "l3": [], "no hit": []}
    for first, again in questions:
        took["miss"].append(predict(served, first)[0])
        ms, level = predict(served, again)
        took["l3" if level == "l3" else "no hit"].append(ms)
    return took


def report(took: dict[str, list[float]]) -> int:
    print(f"{'':<34} {'count':>6} {'p50 ms':>8} {'p95 ms':>8} {'p99 ms':>8}")
    for name, times in took.items():
        if len(times) > 1:
            cuts = statistics.quantiles(times, n=100)
            print(f"{name:<34} {len(times):>6} {cuts[49]:>8.2f} {cuts[94]:>8.2f} {cuts[98]:>8.2f}")
    if not took["l3"]:
        return int(not judged("no question in other words was a hit", good=False))
    p50, p95 = (statistics.quantiles(took["l3"], n=100)[at] for at in (49, 94))
    words = f"a hit in other words: p50 {p50:.1f} ms, p95 {p95:.1f} ms ≤ {TARGET_MS} ms"
    return int(not judged(words, p95 <= TARGET_MS))


if __name__ == "__main__":
    sys.exit(main())
