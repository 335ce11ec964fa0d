"""`manage.py evaluate_run`: measure a run's model before and after it, and say what the gate says."""

import json
import time
from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from accounts.models import User
from llmsite.core.errors import SiteError, describe
from training import gate
from training.evaluation import ask_for, failure_sentence
from training.examination import claim_next, make
from training.models import Evaluation
from training.promotion_api import run_of

LOOK_SECONDS = 0.5


class Command(BaseCommand):
    help = (
        "Measure a run's model before and after it, and decide whether it may be promoted. A process "
        "`trainer` that runs may make the evaluation, else it is made here."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("run", type=UUID, help="the id of the run")
        parser.add_argument("--judge", default="", help="the alias of a model that compares the answers")
        parser.add_argument("--user", help="who pays the judge")
        parser.add_argument("--json", action="store_true", help="print what was measured as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            evaluation = ask_for(run_of(options["run"]), user=_payer(options), judge=options["judge"])
        except SiteError as error:
            raise CommandError(describe(error).message) from error
        self._tell(_made(evaluation), as_json=options["json"])

    def _tell(self, evaluation: Evaluation, *, as_json: bool) -> None:
        if evaluation.error_code:
            raise CommandError(failure_sentence(evaluation))
        if as_json:
            self.stdout.write(json.dumps({"passed": evaluation.passed, **evaluation.results}, indent=2))
        for reason in evaluation.reasons:
            self.stderr.write(gate.sentence(reason))
        if not evaluation.passed:
            raise CommandError("It does not pass the gate.")
        self.stderr.write("It passes the gate.")


def _payer(options: dict[str, Any]) -> User | None:
    if options["judge"] and not options["user"]:
        raise CommandError("--judge needs --user: somebody has to pay for its answers.")
    if not options["user"]:
        return None
    user = User.objects.filter(username=options["user"]).first()
    if user is None:
        raise CommandError(f"There is no user named {options['user']}.")
    return user


def _made(evaluation: Evaluation) -> Evaluation:
    while evaluation.ended_at is None:
        if (mine := claim_next(only=evaluation)) is not None:
            make(mine)
        else:
            time.sleep(LOOK_SECONDS)
        evaluation.refresh_from_db()
    return evaluation
