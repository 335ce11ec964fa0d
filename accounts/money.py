"""Money, which is whole millionths of the site's CURRENCY, and the months that it is counted in."""

from datetime import UTC, date, timedelta
from decimal import ROUND_HALF_UP, Decimal

from django.utils import timezone

MICRO = Decimal(1_000_000)


def cost_micro(*, input_tokens: int, output_tokens: int, input_price: Decimal, output_price: Decimal) -> int:
    """What tokens cost, in millionths of the currency, rounded half up.

    A price is per million tokens, so tokens × price is already in millionths.
    """
    exact = input_tokens * input_price + output_tokens * output_price
    return int(exact.quantize(Decimal(1), ROUND_HALF_UP))


def as_money(micro: int) -> str:
    """Millionths as a decimal string in the site's CURRENCY: 1234 is "0.001234"."""
    return f"{Decimal(micro) / MICRO:f}"


def this_month() -> date:
    """The first day of the month, in UTC."""
    return timezone.now().astimezone(UTC).date().replace(day=1)


def next_month(month: date) -> date:
    return (month + timedelta(days=31)).replace(day=1)
