"""`manage.py prepare_model`: makes the packaged model ready before `serve_model` needs it."""

import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    help = "Make the model that comes with the site ready, once. Does nothing where another model is set."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.LOCAL_MODEL_PATH or settings.LOCAL_BASE_URL:
            return
        from inference.engine.load import pick_device
        from inference.engine.prepare import prepared_model
        from inference.engine.runner import EngineError

        try:
            if pick_device(settings.DEVICE, packaged=True) == "cpu":
                prepared_model(settings.MODELS_ROOT, progress=sys.stderr.isatty())
        except EngineError as error:
            raise CommandError(str(error)) from error
