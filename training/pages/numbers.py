"""Numbers as the pages of training show them: as many digits as say something."""

from django.utils import formats

NONE = "–"


def loss(value: float | None) -> str:
    return _fixed(value, 4)


def score(value: float | None) -> str:
    """One between 0 and 1, as per cent."""
    return NONE if value is None else f"{_fixed(100 * value, 1)} %"


def rate(value: float | None) -> str:
    """A learning rate: three digits, whatever their size."""
    return NONE if value is None else f"{value:.2e}"


def speed(value: float | None) -> str:
    return _fixed(value, 0)


def _fixed(value: float | None, digits: int) -> str:
    return NONE if value is None else formats.number_format(value, digits, force_grouping=True)
