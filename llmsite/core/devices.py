"""Which processor a model runs on."""

import platform
from pathlib import Path


class DeviceMissing(Exception):
    """The device that was asked for is not there; the text is one line that says what to do."""


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
