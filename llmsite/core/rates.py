"""A rate as settings, rows and limits have it: so many in so long."""

from dataclasses import dataclass

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` in any `seconds`. Raises ValueError where either is not above 0."""

    count: int
    seconds: float

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 < self.seconds < float("inf"):
            raise ValueError(f"{self.count} in {self.seconds} s is no rate")

    def __str__(self) -> str:
        unit = next((unit for unit, seconds in UNITS.items() if seconds == self.seconds), None)
        return f"{self.count}/{unit or f'{self.seconds:g}s'}"

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """The rate of a text like `60/m`; the units are s, m, h and d. Raises ValueError."""
        count, _, unit = text.replace(" ", "").partition("/")
        if not (count.isascii() and count.isdigit()) or unit not in UNITS:
            raise ValueError(text)
        return cls(int(count), UNITS[unit])

    def share(self, processes: int) -> "Rate":
        """What one of `processes` may allow where they cannot count together: at least one."""
        return Rate(max(1, self.count // processes), self.seconds)


def normal_rate(text: str) -> str:
    """How a rate that somebody wrote is kept. Raises Django's ValidationError."""
    try:
        return str(Rate.parse(text))
    except ValueError as error:
        raise ValidationError(_("A rate is a number per s, m, h or d, such as 20/m.")) from error


def validate_rate(text: str) -> None:
    """The validator of fields that hold a rate. Raises Django's ValidationError."""
    normal_rate(text)
