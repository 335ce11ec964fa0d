"""The process `worker`: what takes longer than a request may."""

import signal
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand

from dashboard import roller
from embeddings import storage
from embeddings.rebuild import ask_for_rebuild
from llmsite.core.worker import Worker, forget_ended_tasks
from llmsite.retention.pruning import ask_for_pruning

HOUR = 3600.0
ROLL_UP_SECONDS = 15.0
"""Until then the dashboard adds up by itself what has ended."""


class Command(BaseCommand):
    help = "Read documents, delete what is to be deleted: run the tasks that wait in the database."
    # As for serve_web: the checks run in `make lint` and at deployment.
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        hourly = (forget_ended_tasks, storage.sweep, ask_for_rebuild, ask_for_pruning, roller.trim)
        chores = [(ROLL_UP_SECONDS, roller.count_in_turns), *((HOUR, chore) for chore in hourly)]
        worker = Worker(chores=chores)

        def stop(number: int, frame: FrameType | None) -> None:
            # A second signal is from somebody who does not want to wait.
            signal.signal(number, signal.SIG_DFL)
            worker.stop()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        self.stdout.write("worker waits for tasks")
        worker.run()
