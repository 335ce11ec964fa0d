"""`manage.py import_dataset`: a file becomes a data set, or a new version of one."""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from llmsite.core.errors import SiteError, describe
from training.importing import columns_of, import_file, look_at
from training.problems import Problem


class Command(BaseCommand):
    help = "Make a data set, or a new version of one, of a file: JSON, JSONL, CSV, TXT or Parquet."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", metavar="FILE", type=Path)
        parser.add_argument(
            "--name", required=True, help="of the data set; one that is there gets a new version"
        )
        parser.add_argument("--columns", default="", help='such as "prompt=question, completion=reply"')
        parser.add_argument(
            "--leave-out-bad",
            action="store_true",
            help="leave out rows that are not right or longer than the model takes; else they refuse it all",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="say what it would become, and store nothing"
        )
        parser.add_argument("--json", action="store_true", help="print the outcome as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        path: Path = options["file"]
        if not path.is_file():
            raise CommandError(f"{path}: there is no such file.")
        if self.stderr.isatty():
            self.stderr.write(f"Reading {path} …")
        try:
            told = self._look(path, options) if options["dry_run"] else self._import(path, options)
        except SiteError as error:
            raise CommandError(describe(error).message) from error
        except OSError as error:
            raise CommandError(f"{path} cannot be read: {error.strerror or error}.") from error
        if options["json"]:
            self.stdout.write(json.dumps(told, ensure_ascii=False, indent=2))
            return
        self._tell(told)

    def _import(self, path: Path, options: dict[str, Any]) -> dict[str, Any]:
        made = import_file(
            path,
            path.name,
            dataset=options["name"],
            user=None,
            columns=columns_of(options["columns"]),
            leave_out_bad=options["leave_out_bad"],
        )
        version = made.version
        return {
            "dataset": str(version.dataset_id),
            "name": version.dataset.name,
            "version": version.number,
            "id": str(version.pk),
            "is_new": made.is_new,
            "layout": version.layout,
            "shape": version.origin.get("shape", ""),
            "mapping": version.origin.get("mapping", {}),
            "rows": version.row_count,
            "left_out": version.origin.get("left_out", {}).get("rows", 0),
            "problems": version.origin.get("left_out", {}).get("first", []),
            "sha256": version.sha256,
            "report": version.report,
        }

    def _look(self, path: Path, options: dict[str, Any]) -> dict[str, Any]:
        found = look_at(path, path.name, columns=columns_of(options["columns"]))
        return {
            "layout": found.layout,
            "shape": found.shape,
            "mapping": found.mapping,
            "rows": found.count,
            "left_out": found.bad,
            "problems": [problem.as_dict() for problem in found.problems],
            "report": found.report,
        }

    def _tell(self, told: dict[str, Any]) -> None:
        if "version" in told:
            how = "is" if told["is_new"] else "was there already, as"
            self.stdout.write(f"{told['name']} {how} version {told['version']}, {told['sha256'][:12]}.")
        mapping = ", ".join(f"{name} → {role}" for name, role in told["mapping"].items())
        self.stdout.write(f"{told['rows']} rows ({told['layout']}), recognised as {told['shape']}: {mapping}")
        if tokens := told["report"].get("tokens"):
            said = "{median} in the middle, {p95} at most in 95 of 100, {longest} in the longest"
            self.stdout.write(f"{tokens['unit'].capitalize()} a row: {said.format(**tokens)}")
        for name in ("duplicates", "same_question"):
            if count := told["report"].get(name, {}).get("rows"):
                self.stdout.write(f"{name.replace('_', ' ').capitalize()}: {count} rows")
        if told["left_out"]:
            self.stdout.write(f"Not right: {told['left_out']} rows")
        for problem in told["problems"]:
            self.stdout.write("  " + Problem(problem["code"], problem["line"]).placed(problem["reason"]))
