"""`manage.py prepare_model`: make the packaged model ready, so that `serve_model` starts at once."""

import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    help = "Make the packaged local model ready under MODELS_ROOT. Does nothing when it already is."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        replaced_by = next(
            (name for name in ("LOCAL_BASE_URL", "LOCAL_MODEL_PATH") if getattr(settings, name)), None
        )
        if replaced_by:
            self.stdout.write(f"{replaced_by} is set: there is nothing to prepare.")
            return
        from inference.engine.prepare import prepared_model
        from inference.engine.runner import EngineError

        try:
            folder = prepared_model(settings.MODELS_ROOT, progress=sys.stderr.isatty())
        except EngineError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"The local model is ready in {folder}")
