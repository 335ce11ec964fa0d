"""Put into the ledger what a vendor says that calls really took."""

import json
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, transaction

from accounts.ledger import correct
from accounts.models import LedgerEntry
from accounts.money import as_money
from accounts.usage import totals_of
from inference.models import Generation

MOST_TOKENS = 2**31 - 1

AT_ONCE = 100
"""Lines of one transaction, during which nobody else writes to SQLite; PostgreSQL holds the payers' rows."""

PAUSE_SECONDS = 0.1
"""Between two of them: who waits for SQLite looks this often, and would find it locked each time."""


@dataclass(frozen=True, slots=True)
class Report:
    """One line: the tokens of one call."""

    call: UUID
    input_tokens: int
    output_tokens: int


class Command(BaseCommand):
    help = (
        "Correct calls that were booked from our own count. Reads JSON lines, "
        '{"call": id or "request_id": …, "input_tokens": …, "output_tokens": …}; a line that is wrong '
        "stops all of them before anything is booked. Calls whose provider reported its count stay as they "
        "are. Lines are booked a few at a time, so that the site goes on meanwhile; if that breaks off, run "
        "it again with the same file: no line counts twice."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", help="the file, or - for the standard input")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        reports = _read(options["file"])
        changes = [change for change in _apply_all(reports) if change is not None]
        result = {
            "corrected": len(changes),
            "unchanged": len(reports) - len(changes),
            "difference": as_money(sum(changes)),
        }
        if options["json"]:
            self.stdout.write(json.dumps(result))
        else:
            self.stdout.write("{corrected} corrected, {unchanged} unchanged: {difference}".format(**result))


def _read(name: str) -> list[Report]:
    if name == "-":
        return _parse(sys.stdin)
    try:
        with open(name, encoding="utf-8") as lines:
            return _parse(lines)
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{name}: {error}") from error


def _parse(lines: Iterable[str]) -> list[Report]:
    reports = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                reports.append(_report(json.loads(line)))
            except (ValueError, RecursionError) as error:
                raise CommandError(f"line {number}: {error}. Nothing was booked.") from error
    return reports


def _report(data: Any) -> Report:
    """Raises ValueError where `data` is not the report of one known call."""
    if not isinstance(data, dict):
        raise ValueError("not a JSON object")
    return Report(_call(data), _tokens(data, "input_tokens"), _tokens(data, "output_tokens"))


def _tokens(data: dict[str, Any], name: str) -> int:
    value = data.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST_TOKENS:
        raise ValueError(f"{name} must be a whole number from 0 up")
    return value


def _call(data: dict[str, Any]) -> UUID:
    call = _by_request_id(data["request_id"]) if "request_id" in data else _by_id(data.get("call"))
    if not LedgerEntry.objects.filter(call=call).exists():
        raise ValueError(f"the call {call} is not booked")
    return call


def _by_id(value: Any) -> UUID:
    try:
        return UUID(value)
    except (ValueError, TypeError, AttributeError):
        raise ValueError("call must be the id of an answer") from None


def _by_request_id(value: Any) -> UUID:
    calls = list(Generation.objects.filter(request_id=str(value)).values_list("pk", flat=True)[:2])
    # A program may choose the ids of its requests, so two answers can have the same.
    if len(calls) != 1:
        raise ValueError(f"{'several answers have' if calls else 'no answer has'} the request id {value}")
    return calls[0]


def _apply_all(reports: list[Report]) -> list[int | None]:
    results: list[int | None] = []
    try:
        for start in range(0, len(reports), AT_ONCE):
            if start:
                time.sleep(PAUSE_SECONDS)
            results += _apply_together(reports[start : start + AT_ONCE])
    except DatabaseError as error:
        done = f"{len(results)} of {len(reports)} lines were booked, then: {error}"
        raise CommandError(f"{done}. Run it again with the same file.") from error
    return results


@transaction.atomic
def _apply_together(reports: list[Report]) -> list[int | None]:
    return [_apply(report) for report in reports]


def _apply(report: Report) -> int | None:
    """Book the difference and return it, in millionths; None where the call stays as it is."""
    before = totals_of(report.call)
    if not correct(report.call, input_tokens=report.input_tokens, output_tokens=report.output_tokens):
        return None
    Generation.objects.show_booked(report.call)
    return totals_of(report.call).cost_micro - before.cost_micro
