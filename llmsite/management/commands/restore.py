"""Put a backup into the site, or look whether it is whole."""

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from llmsite.backup.refusal import Refused
from llmsite.backup.restoring import Restored, check, restore
from llmsite.core.errors import DiskFull

UNFINISHED = 3
"""The exit status of a restore after which something is to be done by hand."""
KEPT = {
    "disabled": "disabled accounts",
    "consents": "consents to training",
    "roles": "roles",
    "people": "people's rights, passwords or addresses",
    "adapters": "adapters",
    "data_sets": "versions of data sets",
    "feedback": "accepted feedback",
    "memberships": "memberships of teams",
    "collections": "collections' readers",
    "keys": "keys",
    "limits": "people's limits",
    "models": "models",
}
"""What a restore leaves as the site has it, in words."""


class Command(BaseCommand):
    help = (
        "Put a file of `backup` into this site, whose other processes should be stopped. All of it is "
        "compared with its manifest before anything is changed. Status 1: the site is as it was. Status 3: "
        "it is restored, and what is left to be done is told."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--check", action="store_true", help="only look whether the file is whole")
        parser.add_argument("--force", action="store_true", help="replace all that the site has")
        parser.add_argument(
            "--erasures",
            type=Path,
            metavar="LIST",
            help="also erase these people again: pseudonyms, or lines of `export_audit`, as a file",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        place: Path = options["file"]
        tell = (lambda _line: None) if options["verbosity"] == 0 else _tell
        try:
            if options["check"]:
                self._tell_manifest(check(place, tell=tell), **options)
                return
            restored = restore(place, force=options["force"], erasures=options["erasures"], tell=tell)
        except Refused as error:
            raise CommandError(str(error)) from error
        except DiskFull as error:
            raise CommandError("There is not enough room on the disk. The site is as it was.") from error
        except OSError as error:
            raise CommandError(f"{error}. The site is as it was.") from error
        self._tell_restored(restored, **options)

    def _tell_manifest(self, manifest: dict[str, Any], **options: Any) -> None:
        rows = sum(table["rows"] for table in manifest["tables"].values())
        if options["json"]:
            told = {
                name: manifest[name] for name in ("format", "site", "made_at", "engine", "files", "missing")
            }
            self.stdout.write(json.dumps({"whole": True, "rows": rows} | told))
            return
        files = sum(manifest["files"].values())
        self.stdout.write(
            f"Whole: {rows} rows and {files} files, made by llmsite {manifest['site']} at "
            f"{manifest['made_at']}"
        )

    def _tell_restored(self, restored: Restored, **options: Any) -> None:
        rows, files = sum(restored.tables.values()), sum(restored.files.values())
        if options["json"]:
            told = {"tables": restored.tables, "files": restored.files, "erased_again": restored.erased}
            told |= {"was_empty": restored.was_empty, "missing": restored.missing, "kept": restored.kept}
            self.stdout.write(json.dumps(told | {"problems": restored.problems}))
        else:
            self.stdout.write(
                f"Restored {rows} rows and {files} files; {restored.erased} people were erased again. "
                "Everybody signs in anew; documents are found once the process model has made their indexes."
            )
            if kept := {kind: count for kind, count in restored.kept.items() if count}:
                counts = ", ".join(f"{count} {KEPT[kind]}" for kind, count in kept.items())
                self.stdout.write(f"Not as in the backup, because it was taken since: {counts}.")
            if restored.missing:
                self.stdout.write(f"The backup lacks {len(restored.missing)} files, as its site did.")
            if restored.was_empty:
                self.stdout.write(
                    "The site had no accounts, so nothing tells what was taken since the backup was made: "
                    "rights, passwords, teams, readers of "
                    "collections, limits, adapters, data sets and accepted feedback are those of the backup. "
                    "Look through them."
                )
        if restored.problems:
            raise CommandError("\n".join(restored.problems), returncode=UNFINISHED)


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
