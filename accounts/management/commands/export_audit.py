"""Write the audit log as JSON lines."""

from argparse import ArgumentParser, ArgumentTypeError
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.audit import as_json_lines
from accounts.models import AuditEvent
from accounts.models.audit import AuditKind


class Command(BaseCommand):
    help = "Write the audit log as JSON lines, the oldest event first."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--kind", nargs="+", choices=AuditKind.values, help="only these events")
        parser.add_argument("--since", type=_moment, help="a date or moment (UTC) such as 2027-01-31T12:00")
        parser.add_argument("--before", type=_moment, help="likewise; it is itself left out")
        parser.add_argument("--output", default="-", help="a file; - is the terminal")

    def handle(self, *args: Any, **options: Any) -> None:
        filters = {
            "kind__in": options["kind"],
            "created_at__gte": options["since"],
            "created_at__lt": options["before"],
        }
        events = AuditEvent.objects.filter(**{name: value for name, value in filters.items() if value})
        if options["output"] == "-":
            self.stdout.writelines(as_json_lines(events))
            return
        try:
            with open(options["output"], "w", encoding="utf-8") as file:
                file.writelines(as_json_lines(events))
        except OSError as error:
            raise CommandError(f"{options['output']} cannot be written: {error.strerror}.") from None


def _moment(raw: str) -> datetime:
    try:
        moment = datetime.fromisoformat(raw)
    except ValueError:
        raise ArgumentTypeError(f"{raw!r} is no date (2027-01-31) and no moment (2027-01-31T12:00)") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
