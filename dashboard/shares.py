"""The charts of who or what took how much: models, people, API keys. A bar and a row for each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from django.conf import settings
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from accounts.models import ApiKey, User
from dashboard import colours, figures
from dashboard.answers import answers_link
from dashboard.chart import Chart, Series, Table
from dashboard.figures import Figures, Share
from dashboard.numbers import Numbers

Key = TypeVar("Key")

MOST_ROWS = 25
MOST_BARS = 10


@dataclass(frozen=True, slots=True)
class Row:
    """`name` has a part for each column that names it."""

    name: tuple[str, ...]
    share: Share
    link: str = ""
    colour: int = 0


class Shares:
    """These charts of one reading."""

    def __init__(self, read: Figures) -> None:
        self._read = read
        self._numbers = Numbers()

    def all(self) -> list[Chart]:
        return [self.models(), self.users(), self.keys()]

    def models(self) -> Chart:
        period = self._read.now.period
        rows = [
            Row(
                (model, provider),
                share,
                answers_link(period, model=model, provider=provider),
                colours.of_provider(provider),
            )
            for (model, provider), share in _ranked(self._read.now.by_model)
        ]
        return self._chart("models", _("Models"), [_("Model"), _("Provider")], rows)

    def users(self) -> Chart:
        by_user: dict[UUID, Share] = {}
        for (account, _key), share in self._read.accounts.items():
            by_user.setdefault(account, Share()).add(share)
        ranked = _ranked(by_user)
        found = User.objects.filter(pseudonym__in=[account for account, _ in ranked])
        names = dict(found.values_list("pseudonym", "username"))
        gone = _("people who have left")
        rows = [Row((names.get(account, gone),), share) for account, share in ranked]
        return self._chart("users", _("People"), [_("User")], rows, note=self._days_note(), has_errors=False)

    def keys(self) -> Chart:
        by_key: dict[str, Share] = {}
        for (_account, key), share in self._read.accounts.items():
            if key:
                by_key.setdefault(key, Share()).add(share)
        ranked = _ranked(by_key)
        found = ApiKey.objects.filter(public_id__in=[key for key, _ in ranked])
        names = {key: names for key, *names in found.values_list("public_id", "name", "user__username")}
        rows = [Row(tuple(names.get(key, (key, ""))), share) for key, share in ranked]
        return self._chart(
            "keys",
            _("API keys"),
            [_("API key"), _("User")],
            rows,
            note=self._days_note(),
            empty=_("No program has asked with a key in this time."),
            has_errors=False,
        )

    def _chart(
        self,
        key: str,
        title: str,
        names: Sequence[str],
        rows: Sequence[Row],
        *,
        note: str = "",
        empty: str = "",
        has_errors: bool = True,
    ) -> Chart:
        bars, unit = _bars(rows[:MOST_BARS])
        return Chart(
            key,
            title,
            "bars",
            [" · ".join(part for part in row.name if part) for row in rows[:MOST_BARS]],
            [bars],
            self._table(names, rows, has_errors=has_errors),
            unit=unit,
            note=note,
            links=[row.link for row in rows[:MOST_BARS]],
            empty=empty or _("Nobody has asked anything in this time."),
        )

    def _table(self, names: Sequence[str], rows: Sequence[Row], *, has_errors: bool) -> Table:
        errors = [_("Errors")] if has_errors else []
        return Table(
            [*names, _("Answers"), *errors, _("Tokens in"), _("Tokens out"), _("Cost"), _("Saved")],
            [self._texts(row, has_errors=has_errors) for row in rows],
            [_cells(row, has_errors=has_errors) for row in rows],
            [row.link for row in rows],
        )

    def _texts(self, row: Row, *, has_errors: bool) -> list[str]:
        share, whole, money = row.share, self._numbers.fixed, self._numbers.money
        errors = [self._numbers.percent(share.error_rate)] if has_errors else []
        tokens = [whole(share.input_tokens), whole(share.output_tokens)]
        return [
            *row.name,
            whole(share.answers),
            *errors,
            *tokens,
            money(share.cost_micro),
            money(share.saved_micro),
        ]

    def _days_note(self) -> str:
        first, last = figures.days_of(self._read.now.period)
        days = {
            "first": date_format(first, "MONTH_DAY_FORMAT"),
            "last": date_format(last, "MONTH_DAY_FORMAT"),
        }
        return _("Counted by the day (UTC): %(first)s to %(last)s.") % days


def _ranked(shares: Mapping[Key, Share]) -> list[tuple[Key, Share]]:
    """Those who took most."""
    return sorted(shares.items(), key=lambda item: _weight(item[1]), reverse=True)[:MOST_ROWS]


def _weight(share: Share) -> tuple[int, int, int]:
    return share.cost_micro, share.input_tokens + share.output_tokens, share.answers


def _bars(rows: Sequence[Row]) -> tuple[Series, str]:
    """What they cost, or, where nothing costs, their tokens; and the unit of it."""
    shares, shades = [row.share for row in rows], [row.colour for row in rows]
    if any(share.cost_micro for share in shares):
        costs = [share.cost_micro / 1e6 for share in shares]
        return Series(_("Cost"), costs, colour=shades), settings.CURRENCY
    tokens = [share.input_tokens + share.output_tokens for share in shares]
    return Series(_("Tokens"), tokens, colour=shades), _("tokens read and written")


def _cells(row: Row, *, has_errors: bool) -> list[Any]:
    share = row.share
    errors = [share.errors] if has_errors else []
    tokens = [share.input_tokens, share.output_tokens]
    return [
        *row.name,
        share.answers,
        *errors,
        *tokens,
        share.cost_micro / 1e6,
        share.saved_micro / 1e6,
    ]
