"""`manage.py promote`: put what a run has learned before users, and wait until it is."""

from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from inference.models import ChatModelConfig
from llmsite.core.errors import SiteError, describe
from training.models import Promotion, PromotionStatus
from training.promotion import promote, wait_for
from training.promotion_api import run_of


class Command(BaseCommand):
    help = "Put what a run has learned behind a model, and wait until every model process has loaded it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("run", type=UUID, help="the id of the run")
        parser.add_argument("--model", help="the alias that is moved; without, the first that fits")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            model = ChatModelConfig.objects.named(options["model"]) if options["model"] else None
            move = promote(run_of(options["run"]), user=None, model=model)
        except SiteError as error:
            raise CommandError(describe(error).message) from error
        self.stderr.write(f"{move.model.alias} waits for its processes to load {move.adapter} …")
        self.stdout.write(told(wait_for(move)))


def told(move: Promotion) -> str:
    """How it ended. Raises CommandError where the model has not moved."""
    if move.status != PromotionStatus.LIVE:
        raise CommandError(move.reason or f"{move.model.alias} was moved elsewhere meanwhile.")
    return f"{move.model.alias} stands on {move.adapter or 'its base model alone'} now."
