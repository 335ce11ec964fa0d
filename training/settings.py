"""What somebody may choose about a training run, and between which limits."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from django.utils.translation import gettext as _

from llmsite.core.errors import InvalidInput, UnknownParameter

LIMITS: dict[str, tuple[float, float]] = {
    "rank": (1, 256),
    "alpha": (1, 1024),
    "dropout": (0, 0.5),
    "learning_rate": (1e-7, 1e-1),
    "warmup": (0, 10_000),
    "batch_size": (1, 256),
    "gradient_accumulation": (1, 256),
    "epochs": (1, 100),
    "max_steps": (0, 1_000_000),
    "max_length": (16, 131_072),
    "seed": (0, 2**31 - 1),
    "eval_fraction": (0, 0.5),
    "save_every": (1, 100_000),
    "log_every": (1, 10_000),
}
"""The least and the most of each number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """How a run trains. Raises InvalidInput, naming the field, for what is out of its limits.

    A step is one change of the weights: `batch_size` × `gradient_accumulation` rows. There are `max_steps` of
    them, or, where that is 0, as many as `epochs` passes over the rows take.
    """

    rank: int = 8
    """Of the two matrices that stand in for the change of one."""
    alpha: int = 16
    """The change is scaled by alpha / rank."""
    dropout: float = 0.0
    learning_rate: float = 2e-4
    """The highest one: it is reached after `warmup` steps, and then falls to 0 in a straight line."""
    warmup: int = 0
    batch_size: int = 4
    gradient_accumulation: int = 1
    epochs: int = 3
    max_steps: int = 0
    max_length: int = 512
    """Tokens of the longest row. One that is longer is an error, and is never cut."""
    leave_out: bool = False
    """Longer rows are left out where this is true: neither trained on nor held out."""
    seed: int = 0
    eval_fraction: float = 0.1
    """Of the rows, held out to see how well the model does on what it was not trained on."""
    save_every: int = 20
    """Steps between two checkpoints, at which the held-out rows are looked at too."""
    log_every: int = 1

    def __post_init__(self) -> None:
        for field in fields(self):
            _check(field.name, getattr(self, field.name), field.type)

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Self:
        """From values as JSON has them; those that are not given are as above. Raises InvalidInput."""
        known = {field.name for field in fields(cls)}
        unknown = next((name for name in given if name not in known), None)
        if unknown is not None:
            raise UnknownParameter(field=f"settings.{unknown}")
        return cls(**given)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def rows_a_step(self) -> int:
        return self.batch_size * self.gradient_accumulation

    def steps(self, rows: int) -> int:
        """How many steps a run over `rows` takes."""
        return self.max_steps or self.epochs * -(-rows // self.rows_a_step)


def _check(name: str, value: Any, kind: Any) -> None:
    if kind is bool:
        if not isinstance(value, bool):
            raise InvalidInput(field=f"settings.{name}", reason=_("This must be true or false."))
        return
    (least, most), whole = LIMITS[name], kind is int
    is_number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not is_number or not least <= value <= most:
        form = _("a whole number") if whole else _("a number")
        raise InvalidInput(
            field=f"settings.{name}",
            reason=_("This must be {form} from {least} to {most}.").format(
                form=form, least=_shown(least), most=_shown(most)
            ),
        )


def _shown(limit: float) -> str:
    return f"{limit:.10f}".rstrip("0").rstrip(".")
