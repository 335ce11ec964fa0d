"""Numbers in the reader's language. Tables have thousands, so their marks are looked up once a page."""

from dataclasses import dataclass, field

from django.conf import settings
from django.utils import formats

NONE = "–"


@dataclass(frozen=True, slots=True)
class Numbers:
    _marks: dict[int, str] = field(
        default_factory=lambda: {
            ord(","): formats.get_format("THOUSAND_SEPARATOR") or "\N{NO-BREAK SPACE}",
            ord("."): formats.get_format("DECIMAL_SEPARATOR"),
        }
    )

    def fixed(self, value: float | None, digits: int = 0) -> str:
        return NONE if value is None else f"{value:,.{digits}f}".translate(self._marks)

    def short(self, value: float | None) -> str:
        """As many digits as say something."""
        if value is None:
            return NONE
        return self.fixed(value, 0 if value >= 100 or value == int(value) else 1 if value >= 10 else 2)

    def percent(self, share: float | None, digits: int = 1) -> str:
        return NONE if share is None else f"{self.fixed(100 * share, digits)}\N{NO-BREAK SPACE}%"

    def money(self, micro: int | None) -> str:
        """Four places below one unit of the currency, two above."""
        if micro is None:
            return NONE
        units = micro / 1_000_000
        places = 2 if micro == 0 or units >= 1 else 4
        return f"{self.fixed(units, places)}\N{NO-BREAK SPACE}{settings.CURRENCY}"

    def duration(self, milliseconds: float | None) -> str:
        if milliseconds is None:
            return NONE
        if milliseconds < 1000:
            return f"{self.fixed(milliseconds)}\N{NO-BREAK SPACE}ms"
        return f"{self.fixed(milliseconds / 1000, 1 if milliseconds < 100_000 else 0)}\N{NO-BREAK SPACE}s"

    def growth(self, now: float | None, before: float | None) -> str:
        """How something has grown, as "+12 %" or "× 40"; empty where there is nothing to compare with."""
        if now is None or not before:
            return ""
        if now >= 10 * before:
            return f"×\N{NO-BREAK SPACE}{self.fixed(now / before)}"
        return self._signed(100 * (now - before) / before, "%")

    def points(self, now: float | None, before: float | None, digits: int = 1) -> str:
        """How a share has changed, in percentage points: from 0.010 to 0.012 is "+0.2 pp"."""
        if now is None or before is None:
            return ""
        return self._signed(100 * (now - before), "pp", digits)

    def _signed(self, change: float, unit: str, digits: int = 0) -> str:
        """What is rounded to nothing is "0", without a sign and without places."""
        amount = round(change, digits)
        told = f"{'+' if amount > 0 else ''}{self.fixed(amount, digits)}" if amount else "0"
        return f"{told}\N{NO-BREAK SPACE}{unit}"
