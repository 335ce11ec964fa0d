"""Write feedback as rows to train on."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.audit import record
from accounts.models.audit import AuditKind
from feedback.export import ExportFormat, count
from feedback.export_file import provenance_of, write
from llmsite.core.errors import SiteError, describe

TOLD_EVERY = 500


class Command(BaseCommand):
    help = (
        "Write what people said of answers as rows to train on (sft, dpo, kto: JSON lines, as trl and "
        "datasets read them) or as a table (csv), of people who allow it. Beside it: where rows come from."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--format", required=True, choices=ExportFormat.values)
        parser.add_argument("--output", required=True, type=Path, metavar="FILE")

    def handle(self, *args: Any, **options: Any) -> None:
        wanted, path = ExportFormat(options["format"]), options["output"]
        try:
            written = write(wanted, path, on_row=self._progress(count(wanted)))
        except SiteError as error:
            raise CommandError(describe(error).message) from error
        except OSError as error:
            raise CommandError(f"{path} cannot be written: {error.strerror}.") from error
        if not written:
            raise CommandError(
                "There is nothing to export. Rows come from people who allow training on their account page; "
                "for sft and dpo a curator has to have accepted a correction."
            )
        record(AuditKind.FEEDBACK_EXPORTED, subject=None, actor=None, format=wanted.value, rows=written)
        self.stdout.write(f"{written} rows are in {path}, and where they come from in {provenance_of(path)}.")

    def _progress(self, total: int) -> Any:
        def tell(number: int) -> None:
            if self.stderr.isatty() and (number % TOLD_EVERY == 0 or number == total):
                self.stderr.write(f"\r{number} of {total} rows ", ending="\n" if number == total else "")
                self.stderr.flush()

        return tell
