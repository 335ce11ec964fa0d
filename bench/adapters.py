"""What an adapter costs: the packaged model on the fast engine, and with an adapter on the general one.

Run: python -m bench.adapters [--repeat 6]. The two runners take turns in one process, without scheduler and
HTTP, so that what else runs on the machine meets both; medians, and the least beside them. The adapter is of
random numbers, which cost the same.
"""

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import Any

from llmsite.core.devices import wait_asleep

PROMPT = list(range(100, 160))
LONG = [100 + at * 7 % 4000 for at in range(1000)]
STEPS = 16
RANK = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeat", type=int, default=6, help="how often the two take turns")
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "llmsite.settings")
    os.environ.setdefault("SECRET_KEY", "bench-" + "0123456789abcdefghijklmnopqrstuvwxyz")
    wait_asleep(os.environ)  # As serve_model has it.
    import django
    from django.conf import settings

    django.setup()
    print(f"load before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores", flush=True)
    for name, value in measure(settings.MODELS_ROOT, options.repeat):
        print(f"{name:<52} {value}", flush=True)


def measure(models_root: Path, repeat: int) -> list[tuple[str, str]]:
    from inference.engine.base_model import base_model, weights_folder
    from inference.engine.load import load, load_adapter

    folder = weights_folder(base_model("", models_root), models_root)
    fast = load(path="", device="cpu", models_root=models_root)
    _import_torch()
    before, began = _memory(), time.perf_counter()
    adapter = load_adapter("bench", random_lora(folder), folder, fast)
    seconds, more = time.perf_counter() - began, _memory() - before
    runners = {"fast engine": fast.scheduler._runner, "with an adapter": adapter.scheduler._runner}
    times = take_turns(runners, repeat)
    fast.scheduler.close()
    adapter.scheduler.close()
    rows = [("an adapter is loaded in, s", f"{seconds:.2f}"), ("and takes, MB", f"{more:.0f}")]
    return rows + [(name, shown(found, tokens)) for (name, tokens), found in times.items()]


def take_turns(runners: dict[str, Any], repeat: int) -> dict[tuple[str, int], list[float]]:
    """Seconds of each call, by what it is and how many tokens it gives."""
    times: dict[tuple[str, int], list[float]] = {}
    for _ in range(repeat):
        for name, runner in runners.items():
            for rows in (1, 4, 8):
                times.setdefault((f"{name}, {rows} at once, tokens/s", rows), []).extend(_steps(runner, rows))
            times.setdefault((f"{name}, a prompt of 60 tokens, s", 0), []).append(_read(runner, PROMPT))
            times.setdefault((f"{name}, a prompt of 1,000 tokens, s", 0), []).append(_read(runner, LONG))
    return times


def shown(found: list[float], tokens: int) -> str:
    middle, least = statistics.median(found), min(found)
    return f"{tokens / middle:.0f} ({tokens / least:.0f})" if tokens else f"{middle:.3f} ({least:.3f})"


def _steps(runner: Any, rows: int) -> list[float]:
    for row in range(rows):
        runner.prefill(row, PROMPT, 0)
    found = []
    for step in range(STEPS):
        began = time.perf_counter()
        runner.decode([5] * rows, [len(PROMPT) + step] * rows)
        found.append(time.perf_counter() - began)
    return found


def _read(runner: Any, prompt: list[int]) -> float:
    began = time.perf_counter()
    for start in range(0, len(prompt), runner.chunk):
        runner.prefill(0, prompt[start : start + runner.chunk], start)
    return time.perf_counter() - began


def random_lora(folder: Path) -> Any:
    """An adapter of every linear layer of the packaged model."""
    import numpy as np
    from safetensors import safe_open
    from safetensors.numpy import save

    from inference.adapter_files import LoraFiles

    tensors = {}
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - it is no dictionary
            shape = file.get_slice(name).get_shape()
            if name.endswith("_proj.weight"):
                layer = f"base_model.model.{name.removesuffix('.weight')}"
                tensors[f"{layer}.lora_A.weight"] = np.full((RANK, shape[1]), 1e-4, np.float32)
                tensors[f"{layer}.lora_B.weight"] = np.full((shape[0], RANK), 1e-4, np.float32)
    return LoraFiles(RANK, 2.0, save(tensors))


def _import_torch() -> None:
    """What the encoder beside it has imported already in the model's process."""
    import transformers.models.llama.modeling_llama  # noqa: F401

    import inference.engine.lora
    import inference.engine.torch_runner  # noqa: F401


def _memory() -> float:
    """Megabytes that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
