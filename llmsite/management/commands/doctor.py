"""`manage.py doctor`: look at everything the site stands on, and say what to do."""

import json
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from llmsite.doctor import machine, processes
from llmsite.doctor.findings import Finding, Look, examine


class Command(BaseCommand):
    help = "Look at settings, stores, models, processes, disks and the proxy, and say what to do about each."
    # It runs them itself, and tells what they find.
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--url", help="the site's public address; by default as the settings have it")
        parser.add_argument("--json", action="store_true", help="findings as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        url = (options["url"] or processes.public_url()).rstrip("/")
        findings = []
        for finding in _findings(url):
            findings.append(finding)
            if not options["json"]:
                self._show(finding)
        if options["json"]:
            self.stdout.write(json.dumps([asdict(finding) for finding in findings], indent=2))
        if wrong := sum(finding.state == "failed" for finding in findings):
            raise CommandError(f"{wrong} of {len(findings)} findings need work.")

    def _show(self, finding: Finding) -> None:
        style = {"ok": self.style.SUCCESS, "warning": self.style.WARNING, "failed": self.style.ERROR}
        self.stdout.write(f"{style[finding.state](f'{finding.state:<8}')} {finding.part}: {finding.text}")
        if finding.todo:
            self.stdout.write(f"{'':<8} → {finding.todo}")


def _findings(url: str) -> Iterator[Finding]:
    looks: dict[str, Look] = {
        "settings": machine.look_at_settings,
        "redis": machine.look_at_redis,
        "model files": machine.look_at_model_files,
        "disk": machine.look_at_disk,
        "document limits": machine.look_at_limits,
        "training limits": machine.look_at_training_limits,
        "model process": processes.look_at_model_process,
        "proxy": processes.look_at_proxy(url),
    }
    for part, look in looks.items():
        yield from examine(part, look)
    # Each of these needs what comes before it.
    stored: dict[str, Look] = {
        "database": machine.look_at_database,
        "migrations": machine.look_at_migrations,
        "worker": processes.look_at_worker,
        "trainer": processes.look_at_trainer,
    }
    for part, look in stored.items():
        found = examine(part, look)
        yield from found
        if part in ("database", "migrations") and any(one.state == "failed" for one in found):
            return
