"""What a run will take, before it begins: seconds, memory and disk. What cannot fit is refused.

The figures come from the sizes of the model's matrices and of the rows. How fast this machine is, earlier
runs on the same model say; without any, a short multiplication does. docs/training.md says how near it comes.
"""

import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.utils.translation import gettext as _

from llmsite.core.devices import may_have_accelerator
from llmsite.core.errors import RunRefused
from training.models import DatasetVersion, Metric
from training.process import Limits
from training.settings import RunSettings

if TYPE_CHECKING:
    from inference.engine.base_model import BaseModel

MEGABYTE, GIGABYTE = 10**6, 10**9

PROGRAM = 700 * MEGABYTE
"""Of memory: Python, its libraries and their threads, without any model."""
BYTES_A_WEIGHT = 2
BYTES_A_LORA_WEIGHT = 24
"""A weight, its gradient and the optimizer's two averages, each in 32 bits; and a copy for a checkpoint."""
BYTES_AN_INPUT, BYTES_AN_OUTPUT, BYTES_A_LOGIT = 6, 3, 14
"""What is kept until the way back, for each token and each number that goes into or comes out of a layer."""
FLOPS_A_WEIGHT = 4
"""Multiplications and additions for a token, there and back. The weights themselves do not change."""
SHARE_OF_MATRICES = 0.5
"""How fast a training is beside one large multiplication in 32 bits."""
BEGINNING_SECONDS = 15.0
"""To start the program and to load the model."""
CHARACTERS_A_TOKEN = 4
CHECKPOINTS_ON_DISK = 3


@dataclass(frozen=True, slots=True)
class Estimate:
    """`seconds` is None where nothing says how fast the device is."""

    seconds: float | None
    memory_bytes: int
    disk_bytes: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a model: its weights, the numbers that go into its linear layers and come out, its vocabulary."""

    weights: int
    inputs: int
    outputs: int
    vocabulary: int


def estimate(
    version: DatasetVersion, chosen: RunSettings, *, base: "BaseModel", sizes: Sizes | None = None
) -> Estimate:
    """What a run over `version` takes."""
    sizes = sizes or sizes_of(base.source, base.sha256)
    lora = chosen.rank * (sizes.inputs + sizes.outputs)
    return Estimate(
        seconds=_seconds(version, chosen, sizes, base),
        memory_bytes=_memory(version, chosen, sizes, lora),
        disk_bytes=CHECKPOINTS_ON_DISK * lora * 12 + lora * 4,
    )


def require_fitting(found: Estimate) -> None:
    """Raises RunRefused, saying what there is and what would help."""
    limits, free = Limits.of_site(), _free_disk()
    if found.memory_bytes > limits.memory:
        raise RunRefused(
            field="settings.batch_size",
            reason=_(
                "This run needs about {needed} GB of memory, and may take {limit} GB. "
                "Choose a smaller batch_size or max_length."
            ).format(needed=_tenths(found.memory_bytes), limit=_tenths(limits.memory)),
        )
    if found.disk_bytes > min(limits.disk, free):
        raise RunRefused(
            field="settings.rank",
            reason=_("This run writes about {needed} GB of files, and may write {limit} GB.").format(
                needed=_tenths(found.disk_bytes), limit=_tenths(min(limits.disk, free))
            ),
        )
    if found.seconds is not None and found.seconds > limits.seconds:
        raise RunRefused(
            field="settings.epochs",
            reason=_("This run takes about {needed} hours, and may take {limit}. Train fewer epochs.").format(
                needed=math.ceil(found.seconds / 3600), limit=math.floor(limits.seconds / 3600)
            ),
        )


def _tenths(amount: float) -> str:
    return f"{amount / GIGABYTE:.1f}"


def _free_disk() -> int:
    place = Path(settings.TRAINING_ROOT)
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


# --- Memory ------------------------------------------------------------------------------------------


def _memory(version: DatasetVersion, chosen: RunSettings, sizes: Sizes, lora: int) -> int:
    tokens = chosen.batch_size * min(_longest(version), chosen.max_length)
    kept = BYTES_AN_INPUT * sizes.inputs + BYTES_AN_OUTPUT * sizes.outputs + BYTES_A_LOGIT * sizes.vocabulary
    return PROGRAM + BYTES_A_WEIGHT * sizes.weights + BYTES_A_LORA_WEIGHT * lora + kept * tokens


def _longest(version: DatasetVersion) -> int:
    return int(_tokens(version).get("longest") or 10**9)


def _tokens(version: DatasetVersion) -> dict[str, float]:
    """How long the rows are, as its report says, in tokens."""
    told = version.report.get("tokens") or {}
    share = 1 if told.get("unit") == "tokens" else CHARACTERS_A_TOKEN
    figures = {name: told[name] for name in ("longest", "total") if isinstance(told.get(name), int | float)}
    return {name: figure / share for name, figure in figures.items()}


# --- Time --------------------------------------------------------------------------------------------


def _seconds(version: DatasetVersion, chosen: RunSettings, sizes: Sizes, base: "BaseModel") -> float | None:
    speed = _tokens_a_second(base.sha256, sizes)
    if speed is None:
        return None
    held_out = round(version.row_count * chosen.eval_fraction)
    rows = max(1, version.row_count - held_out)
    steps = chosen.steps(rows)
    length = min(_tokens(version).get("total", 0) / version.row_count or chosen.max_length, chosen.max_length)
    looks = 2 + steps // chosen.save_every if held_out else 0
    # To look at a row takes the way there alone, about a third.
    tokens = steps * chosen.rows_a_step * length + looks * held_out * length / 3
    return round(BEGINNING_SECONDS + tokens / speed, 1)


def _tokens_a_second(base_sha256: str, sizes: Sizes) -> float | None:
    """What the last run on the same model came to, else what the processor should come to."""
    known = Metric.objects.filter(run__base_sha256=base_sha256, tokens_per_second__gt=0)
    latest = known.order_by("-logged_at").values_list("tokens_per_second", flat=True)[:20]
    if figures := [figure for figure in latest if figure]:
        return median(figures)
    if settings.DEVICE not in ("cpu", "auto") or (settings.DEVICE == "auto" and may_have_accelerator()):
        return None
    return _flops() * SHARE_OF_MATRICES / (FLOPS_A_WEIGHT * sizes.weights)


PROBE = """
import time, numpy
one = numpy.ones((1024, 1024), dtype=numpy.float32)
def once():
    began = time.perf_counter(); one @ one; return time.perf_counter() - began
print(2 * 1024**3 / min(once() for _ in range(5)))
"""


@lru_cache(maxsize=1)
def _flops() -> float:
    """Multiplications and additions a second, tried in a process of its own: web processes load no numpy."""
    ended = subprocess.run([sys.executable, "-I", "-c", PROBE], capture_output=True, check=True, timeout=30)
    return float(ended.stdout)


# --- The model ---------------------------------------------------------------------------------------

_NOT_IN_A_LAYER = re.compile(r"embed|lm_head|wte|token_embd|^output")
_OF_A_LAYER = re.compile(r"\.\d+\.")


@lru_cache(maxsize=4)
def sizes_of(source: Path, sha256: str) -> Sizes:
    """The sizes of the model at `source`, read from the list of its matrices."""
    shapes = dict(_gguf_shapes(source) if source.is_file() else _safetensors_shapes(source))
    layers = [
        shape
        for name, shape in shapes.items()
        if len(shape) == 2 and _OF_A_LAYER.search(name) and not _NOT_IN_A_LAYER.search(name)
    ]
    tables = [shape for name, shape in shapes.items() if len(shape) == 2 and _NOT_IN_A_LAYER.search(name)]
    return Sizes(
        weights=sum(math.prod(shape) for shape in shapes.values()),
        inputs=sum(shape[1] for shape in layers),
        outputs=sum(shape[0] for shape in layers),
        vocabulary=max((shape[0] for shape in tables), default=0),
    )


def _safetensors_shapes(folder: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        yield from ((name, tuple(one["shape"])) for name, one in header.items() if name != "__metadata__")


def _gguf_shapes(path: Path) -> Iterable[tuple[str, tuple[int, ...]]]:
    from gguf import GGUFReader

    # GGUF counts the axes from the other end.
    return [
        (tensor.name, tuple(map(int, reversed(tensor.shape)))) for tensor in GGUFReader(str(path)).tensors
    ]
