"""Write the site to one file."""

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from llmsite.backup.making import make
from llmsite.backup.refusal import Refused
from llmsite.core.errors import DiskFull

INCOMPLETE = 3
"""The exit status of a backup that is whole, of a site that is not."""


class Command(BaseCommand):
    help = (
        "Write rows and files of this site, as they are at one moment, to a new file (tar, gzip). The site "
        "goes on meanwhile. Status 1: nothing was written. Status 3: it was, and the site itself lacks files "
        "that its rows name."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        place: Path = options["file"]
        tell = (lambda _line: None) if options["verbosity"] == 0 else _tell
        try:
            summary = make(place, tell=tell)
        except Refused as error:
            raise CommandError(str(error)) from error
        except DiskFull as error:
            raise CommandError(f"The disk of {place} is full. Nothing was written.") from error
        except OSError as error:
            raise CommandError(f"{place}: {error.strerror or error}. Nothing was written.") from error
        rows, files, size = sum(summary.tables.values()), sum(summary.files.values()), place.stat().st_size
        if options["json"]:
            told = {"file": str(place), "bytes": size, "tables": summary.tables, "files": summary.files}
            self.stdout.write(json.dumps(told | {"missing": summary.missing}))
        else:
            self.stdout.write(f"{place}: {rows} rows, {files} files, {size} bytes")
        if summary.missing:
            raise CommandError(
                f"{len(summary.missing)} files that rows name are not there, such as {summary.missing[0]}; "
                "all else is in the backup.",
                returncode=INCOMPLETE,
            )


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
