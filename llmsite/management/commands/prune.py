"""Remove what the settings RETENTION_… do not keep, or show what that would be."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from llmsite.core.worker import forget_ended_tasks
from llmsite.retention.pruning import Due, preview, prune


class Command(BaseCommand):
    help = (
        "Remove what is past its time by the settings RETENTION_…, a few rows at a time while the site goes "
        "on. A worker does so every hour by itself."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="remove nothing, and say what is due")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["dry_run"]:
            self._preview(preview(), **options)
            return
        removed = prune()
        if tasks := forget_ended_tasks():
            removed["tasks"] = tasks
        if options["json"]:
            self.stdout.write(json.dumps({"removed": removed}))
        else:
            told = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in removed.items())
            self.stdout.write(f"Removed: {told or 'nothing'}.")

    def _preview(self, found: list[Due], **options: Any) -> None:
        if options["json"]:
            self.stdout.write(json.dumps({"due": {due.kind.name: _as_dict(due) for due in found}}))
            return
        for due in found:
            self.stdout.write(f"{due.kind.name:<18}{_as_text(due)}")


def _as_dict(due: Due) -> dict[str, Any]:
    oldest = due.oldest.isoformat() if due.oldest else None
    return {"days": due.kind.days, "rows": due.rows, "oldest": oldest}


def _as_text(due: Due) -> str:
    if not due.kind.days:
        return f"kept for ever ({due.kind.setting})"
    oldest = f", the oldest of {due.oldest:%Y-%m-%d}" if due.oldest else ""
    return f"{due.rows} older than {due.kind.days} days{oldest}"
