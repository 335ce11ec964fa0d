"""What a chart is: its series for a canvas, and the same numbers as a table and as rows of CSV."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from io import StringIO
from typing import Any

from django.utils.functional import Promise
from django.utils.safestring import SafeString, mark_safe

Text = str | Promise
Value = float | int | None
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a spreadsheet takes for the beginning of a formula, where a text begins with it."""
LONGEST_NAME = 60


@dataclass(slots=True)
class Series:
    """One line, or one part of all bars. `role` is "", "target" or "before"; those are drawn dashed.

    `colour` is one of `dashboard.colours`, or one for each bar; None is that of its place in the chart.
    """

    name: str
    values: Sequence[Value]
    role: str = ""
    colour: int | Sequence[int] | None = None


@dataclass(slots=True)
class Table:
    """`rows` are texts for people, `raw` the same for programs, `links` what the first cell leads to."""

    head: Sequence[Text]
    rows: Sequence[Sequence[str]]
    raw: Sequence[Sequence[Any]]
    links: Sequence[str] = ()

    def html(self) -> SafeString:
        """Its rows. A template takes ten times as long, and a page has thousands of cells."""
        return mark_safe("".join(self._rows()))  # noqa: S308 - each cell is escaped below

    def _rows(self) -> Iterator[str]:
        for at, (first, *rest) in enumerate(self.rows):
            link = self.links[at] if self.links else ""
            name = f'<a href="{escape(link)}">{escape(first)}</a>' if link else escape(first)
            cells = "".join(f"<td>{escape(cell)}</td>" for cell in rest)
            yield f'<tr><th scope="row">{name}</th>{cells}</tr>'


@dataclass(slots=True)
class Chart:
    """`kind` is "line", "stack" (bars above each other) or "bars" (one bar for each label, lying)."""

    key: str
    title: Text
    kind: str
    labels: Sequence[str]
    series: Sequence[Series]
    table: Table
    unit: Text = ""
    note: Text = ""
    links: Sequence[str] = ()
    scale: str = "linear"
    empty: Text = ""
    is_timed: bool = False
    """Whether its points are the steps of the period that is shown."""
    has_links: bool = True
    """Whether these steps lead to their answers."""
    only: str = ""
    """What is added to their links."""
    more_link: str = ""
    more_text: Text = ""

    @property
    def is_empty(self) -> bool:
        own = (one.values for one in self.series if not one.role)
        return not any(value for values in own for value in values)

    def drawn(self) -> dict[str, Any]:
        """What the script draws. Labels and links of `times` are told once for all charts that have them."""
        own = {"labels": [cut(label) for label in self.labels], "links": list(self.links)}
        return {
            "key": self.key,
            "kind": self.kind,
            "unit": str(self.unit),
            "scale": self.scale,
            **({"only": self.only, "leads": self.has_links} if self.is_timed else own),
            "series": [_series_drawn(one, at) for at, one in enumerate(self.series)],
            "empty": self.is_empty,
        }


def _series_drawn(one: Series, at: int) -> dict[str, Any]:
    return {
        "name": cut(one.name),
        "role": one.role,
        "colour": at if one.colour is None else one.colour,
        "values": [_rounded(value) for value in one.values],
    }


def cut(name: str) -> str:
    """A name for a legend or a bar: on one line, not too long, without what a terminal would obey."""
    plain = name
    if not name.isprintable():
        plain = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in name)
    return plain if len(plain) <= LONGEST_NAME else f"{plain[: LONGEST_NAME - 1]}…"


def _rounded(value: Value) -> Value:
    return round(value, 6) if isinstance(value, float) else value


def as_csv(charts: Iterable[Chart]) -> str:
    """The tables of charts behind each other, each with its name before it."""
    file = StringIO()
    writer = csv.writer(file)
    for at, chart in enumerate(charts):
        if at:
            writer.writerow([])
        writer.writerow([cell(chart.title)])
        writer.writerow([cell(name) for name in chart.table.head])
        writer.writerows([cell(value) for value in row] for row in chart.table.raw)
    return file.getvalue()


def cell(value: Any) -> Any:
    """A value that no spreadsheet takes for a formula."""
    if isinstance(value, str | Promise):
        text = str(value)
        return f"'{text}" if text.startswith(FORMULA) else text
    return "" if value is None else value
