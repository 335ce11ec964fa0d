"""`manage.py rollback`: put back what stood behind a model before, and wait until it is."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from inference.models import ChatModelConfig
from llmsite.core.errors import SiteError, describe
from training.management.commands.promote import told
from training.models import PromotionStatus
from training.promotion import rollback, wait_for


class Command(BaseCommand):
    help = "Put back what stood behind a model before, or call off the promotion that is under way."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--model", help="the alias that is moved; without, the one that was moved last")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            model = ChatModelConfig.objects.named(options["model"]) if options["model"] else None
            move = rollback(user=None, model=model)
        except SiteError as error:
            raise CommandError(describe(error).message) from error
        if move.status == PromotionStatus.FAILED:
            self.stdout.write(f"The promotion is called off; {move.model.alias} stays what it is.")
            return
        self.stdout.write(told(wait_for(move)))
