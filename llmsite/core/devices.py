"""Which processor a model runs on."""

import platform
from collections.abc import MutableMapping
from pathlib import Path

SLEEPING_THREADS = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000"}
"""How torch's threads wait for each other: by spinning for some ten microseconds (libgomp), and then asleep.

Those that spin for longer are ruinous beside other work on the same cores; those that sleep at once make a
question's vector a third slower, and a step of a training an eighth (docs/decisions/0009-encoder.md).
"""


class DeviceMissing(Exception):
    """The device that was asked for is not there; the text is one line that says what to do."""


def wait_asleep(environment: MutableMapping[str, str]) -> None:
    """Have torch wait so in a process that has not imported it yet, unless somebody has said otherwise."""
    if "OMP_WAIT_POLICY" not in environment:
        for name, value in SLEEPING_THREADS.items():
            environment.setdefault(name, value)


def torch_device(wanted: str) -> str:
    """The device of this machine for `wanted` (auto, cuda, mps, cpu); imports torch. Raises DeviceMissing."""
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return next(name for name, available in there.items() if available)
    if not there[wanted]:
        raise DeviceMissing(
            f"DEVICE is {wanted}, and torch finds no such device here. Set DEVICE=auto or DEVICE=cpu."
        )
    return wanted


def may_have_accelerator() -> bool:
    """Whether it is worth importing torch to ask for a GPU."""
    apple = platform.system() == "Darwin" and platform.machine() == "arm64"
    return apple or Path("/proc/driver/nvidia").exists() or Path("/dev/nvidiactl").exists()
