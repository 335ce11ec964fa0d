"""Training tokens a second beside a bare loop, and what a training costs those who ask meanwhile.

Run: python -m bench.train [--steps 10] [--rounds 2] [--seconds 4] [--only speed|latency].

- speed: the site's child (`training/process.py`, confinement, checkpoints, metrics) and a bare loop of
  torch and peft take turns, on the packaged model, with the same rows, batch and numbers.
- memory: what the child really took, beside what the estimate said before.
- latency: the same question again out of the cache, with one client and with eight, while nothing else goes
  on and while a training does, at the priority it has by default.
"""

import argparse
import base64
import json
import os
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench._processes import ROOT, end_on_sigterm, free_port, running
from bench._site import MODEL, site
from bench._wire import post

LENGTH, BATCH = 128, 4
WARM_STEPS = 2
PREDICT = "/api/predict"
QUESTION = "Answer at once: why do rivers bend?"
HIT = '"cache": ?"l1"'
TARGET_SPEED, TARGET_LATENCY = 0.9, 2.0


def main() -> int:
    """1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4, help="how long each load lasts")
    parser.add_argument("--only", choices=("speed", "latency"), default="")
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        return bare_loop(options.bare)
    end_on_sigterm()
    print(f"load before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores", flush=True)
    held = []
    with tempfile.TemporaryDirectory(prefix="bench-train-") as folder:
        weights = prepare(Path(folder))
        if options.only != "latency":
            held.append(speed(Path(folder), weights, options))
        if options.only != "speed":
            held.append(latency(Path(folder), weights, options))
    return int(not all(held))


def prepare(folder: Path) -> Path:
    """The packaged model's weights, dequantized, as the site's trainer takes them.

    The database is one of this run's own: the estimate asks it for the speed of trainings before.
    """
    os.environ.setdefault("SECRET_KEY", secrets.token_urlsafe(48))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "llmsite.settings")
    os.environ["DATABASE_URL"] = f"sqlite:///{folder / 'estimate.sqlite3'}"
    import django

    django.setup()
    from django.conf import settings
    from django.core.management import call_command

    call_command("migrate", verbosity=0)

    from inference.engine.base_model import base_model, weights_folder

    return weights_folder(base_model("", settings.MODELS_ROOT), settings.MODELS_ROOT)


# --- Speed -------------------------------------------------------------------------------------------


def job(folder: Path, weights: Path, *, steps: int) -> tuple[Path, Path]:
    """A job's folder, and the file of its rows, each of LENGTH tokens."""
    from training.child.base import load_chat
    from training.process import write_job
    from training.settings import RunSettings

    rows = folder / "rows.jsonl"
    text = row_of(load_chat(weights))
    rows.write_text(f"{json.dumps({'text': text})}\n" * (BATCH * 4))
    chosen = RunSettings(
        batch_size=BATCH,
        max_steps=steps,
        max_length=LENGTH,
        eval_fraction=0,
        save_every=5,
        learning_rate=1e-5,
    )
    place = folder / "job"
    data = {"model": str(weights), "base_name": "packaged", "device": "cpu", "memory_bytes": 0}
    write_job(place, {**data, "settings": chosen.as_dict()})
    return place, rows


def row_of(chat: Any) -> str:
    text = "The"
    while len(chat.encode(text)) < LENGTH - 1:
        text = f"{text} river"
    return text


def child(place: Path, rows: Path, weights: Path) -> list[float]:
    """When each of its steps was told."""
    from training.process import WORK, remove, run_child

    times: list[float] = []

    def note(event: dict[str, Any]) -> None:
        if event["event"] == "metric" and "loss" in event:
            times.append(time.perf_counter())

    end = run_child(
        "train", place, on_event=note, should_stop=lambda: None, files={"rows": rows}, reads=[weights]
    )
    if end.how != "finished":
        print((place / "log.txt").read_text()[-3000:], file=sys.stderr)
        sys.exit(f"the training has {end.how}: {end.code} {end.data}")
    remove(place / WORK / "checkpoints")
    return times


def speed(folder: Path, weights: Path, options: argparse.Namespace) -> bool:
    from django.conf import settings

    settings.TRAINING_NICE = 0  # The bare loop makes way for nobody either.
    place, rows = job(folder, weights, steps=options.steps)
    ours, bare, peaks = [], [], []
    for _ in range(options.rounds):
        with watched_memory(peaks):
            ours.append(rate(child(place, rows, weights)))
        command = [sys.executable, "-m", "bench.train", "--bare", str(folder)]
        ended = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        bare.append(float(ended.stdout.splitlines()[-1]))
    ratio = statistics.median(ours) / statistics.median(bare)
    print(f"batch of {BATCH} × {LENGTH} tokens, {options.steps} steps, medians of {options.rounds} rounds")
    print(f"{'the site’s child, tokens/s':<50} {statistics.median(ours):>8.1f}")
    print(f"{'a bare loop, tokens/s':<50} {statistics.median(bare):>8.1f}")
    print(f"{'most memory of the child, MB':<50} {max(peaks) / 1e6:>8.0f}")
    print(f"{'its estimate, MB':<50} {estimated(weights) / 1e6:>8.0f}")
    return judged(f"{ratio:.2f} of the bare loop’s tokens/s ≥ {TARGET_SPEED}", ratio >= TARGET_SPEED)


def rate(times: list[float]) -> float:
    """Tokens a second from the first steps, which allocate, to the last, whatever was done between them."""
    return BATCH * LENGTH * (len(times) - WARM_STEPS) / (times[-1] - times[WARM_STEPS - 1])


def bare_loop(folder: Path) -> int:
    """What somebody would write who wants nothing but the weights."""
    from peft import LoraConfig, get_peft_model
    from torch.nn.utils import clip_grad_norm_
    from torch.optim import AdamW

    import training.child.train as ours
    from training.child.rows import encoded_all

    data = json.loads((folder / "job" / "job.json").read_text())
    chosen, weights = data["settings"], Path(data["model"])
    chat = ours.load_chat(weights)
    lines = (folder / "rows.jsonl").read_text().splitlines()
    rows = encoded_all([json.loads(line) for line in lines], chat)
    batches = ours.Rows(rows, chat.pad)
    model = ours.load_model(weights, "cpu")
    config = LoraConfig(
        r=chosen["rank"], lora_alpha=chosen["alpha"], target_modules=ours.linear_layers(model)
    )
    model = get_peft_model(model, config).train()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = AdamW(trained, lr=chosen["learning_rate"], weight_decay=0)
    times = []
    for step in range(chosen["max_steps"]):
        at = step * BATCH % len(rows)
        model(**batches.batch(rows[at : at + BATCH])).loss.backward()
        clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter())
    print(rate(times))
    return 0


@contextmanager
def watched_memory(peaks: list[int]) -> Iterator[None]:
    """Adds the most memory of a child that this process has while the block runs (Linux)."""
    over, most = threading.Event(), [0]

    def watch() -> None:
        while not over.wait(0.2):
            most[0] = max([most[0], *map(data_of, Path("/proc").glob("[0-9]*"))])

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        peaks.append(most[0])


def data_of(place: Path) -> int:
    """Bytes of a child's own memory, as RLIMIT_DATA counts them; 0 for other processes."""
    try:
        if f"PPid:\t{os.getpid()}\n" not in (status := (place / "status").read_text()):
            return 0
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmData")) * 1024
    except (OSError, StopIteration):
        return 0


def estimated(weights: Path) -> int:
    from training.estimate import estimate, sizes_of
    from training.models import DatasetVersion
    from training.settings import RunSettings

    report = {"tokens": {"unit": "tokens", "longest": LENGTH, "total": LENGTH * BATCH * 4}}
    version = DatasetVersion(row_count=BATCH * 4, report=report)
    chosen = RunSettings(batch_size=BATCH, max_length=LENGTH, eval_fraction=0)
    base: Any = type("Base", (), {"sha256": "", "source": weights})
    return estimate(version, chosen, base=base, sizes=sizes_of(weights, "")).memory_bytes


# --- Latency -----------------------------------------------------------------------------------------


def latency(folder: Path, weights: Path, options: argparse.Namespace) -> bool:
    from django.conf import settings

    settings.TRAINING_NICE = 19
    upstream = free_port()
    command = [sys.executable, "-m", "bench._upstream", str(upstream)]
    with running(command, port=upstream), site(upstream=upstream) as served:
        request = post(served.port, PREDICT, served.keys[0], {"prompt": QUESTION, "model": MODEL})
        ask = {
            "port": served.port,
            "request": base64.b64encode(request).decode(),
            "seconds": options.seconds,
            "marker": HIT,
        }
        load({**ask, "seconds": 1, "clients": 1})  # The miss.
        with trained(folder, weights) as resume:
            held = [compared(ask, clients, options.rounds, resume) for clients in (1, 8)]
    return all(held)


@contextmanager
def trained(folder: Path, weights: Path) -> Iterator[Callable[[bool], None]]:
    """A training that goes on for as long as the block; called with False it stands still."""
    from training.process import run_child

    (folder / "long").mkdir()
    place, rows = job(folder / "long", weights, steps=100_000)
    over, begun = threading.Event(), threading.Event()

    def work() -> None:
        run_child(
            "train",
            place,
            on_event=lambda event: begun.set() if event["event"] == "metric" else None,
            should_stop=lambda: 0.0 if over.is_set() else None,
            files={"rows": rows},
            reads=[weights],
        )

    thread = threading.Thread(target=work)
    thread.start()
    if not begun.wait(120):
        over.set()
        sys.exit("the training did not begin within two minutes")
    seen = [int(path.name) for path in Path("/proc").glob("[0-9]*") if data_of(path) > 500_000_000]

    def resume(goes_on: bool) -> None:
        for process in seen:
            os.kill(process, signal.SIGCONT if goes_on else signal.SIGSTOP)

    try:
        yield resume
    finally:
        resume(True)
        over.set()
        thread.join()


def compared(ask: dict[str, Any], clients: int, rounds: int, resume: Callable[[bool], None]) -> bool:
    idle, busy = [], []
    for _ in range(rounds):
        for goes_on, figures in ((False, idle), (True, busy)):
            resume(goes_on)
            figures.append(load({**ask, "clients": clients}))
    quiet, loud = (statistics.median(row["p95"] for row in rows) for rows in (idle, busy))
    print(f"{f'{clients} clients, idle, p50 / p95 in ms':<50} {median(idle, 'p50')} / {quiet:.3f}")
    print(f"{f'{clients} clients, with a training, p50 / p95 in ms':<50} {median(busy, 'p50')} / {loud:.3f}")
    words = f"p95 with a training {loud / quiet:.2f} times the idle one < {TARGET_LATENCY:g}"
    return judged(words, loud < TARGET_LATENCY * quiet)


def median(rows: list[dict[str, Any]], name: str) -> str:
    return f"{statistics.median(row[name] for row in rows):.3f}"


def load(options: dict[str, Any]) -> dict[str, Any]:
    with running([sys.executable, "-m", "bench._load"]) as generator:
        output, _ = generator.popen.communicate(json.dumps(options), timeout=options["seconds"] + 60)
    return dict(json.loads(output))


def judged(words: str, good: bool) -> bool:
    print(f"{'holds ' if good else 'MISSED'}  {words}", flush=True)
    return good


if __name__ == "__main__":
    sys.exit(main())
