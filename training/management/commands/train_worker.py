"""The process `trainer`: trainings and their evaluations, one after the other."""

import signal
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand

from training.leftovers import remove_leftovers
from training.trainer import Trainer


class Command(BaseCommand):
    help = "Run the trainings and evaluations that wait in the database, with what nobody else needs."
    # As for serve_web: the checks run in `make lint` and at deployment.
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        # It only watches, and has to be there when a run is called off. Its child makes way (TRAINING_NICE).
        trainer = Trainer()

        def stop(number: int, frame: FrameType | None) -> None:
            # A second signal is from somebody who does not want to wait.
            signal.signal(number, signal.SIG_DFL)
            trainer.stop()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        self.stdout.write("trainer waits for runs")
        remove_leftovers()
        trainer.run()
