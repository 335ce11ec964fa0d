"""The process `trainer` whose first child dies while it writes a checkpoint."""

import os

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "llmsite.settings"
django.setup()

from django.core.management import call_command  # noqa: E402

from training import process  # noqa: E402

if __name__ == "__main__":
    process.ENTRY = "training.tests.dying_child"
    call_command("train_worker")
