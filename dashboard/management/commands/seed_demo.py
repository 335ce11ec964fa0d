"""Fills a site with invented answers, to look at its dashboard and to measure it."""

import random
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID

from django.contrib.auth.hashers import make_password
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from django.utils import timezone

from accounts.keys import create_key
from accounts.models import ApiKey, User
from dashboard import roller, seeding
from dashboard.counting import Counted, Tally
from dashboard.seeding import DemoAnswer
from feedback.models import Feedback
from inference.models import ChatModelConfig, Conversation, Generation, Message, Role
from llmsite.core.bulk import insert
from training.models import Dataset, DatasetVersion, Layout, Metric, RunStatus, TrainingRun
from training.settings import RunSettings

AT_ONCE = 10_000
"""Answers of one transaction, which are counted in it."""
TURNS = 10
"""Answers of one conversation."""
PREFIX = "demo-"
RUN_STEPS = 300


class Command(BaseCommand):
    help = (
        "Fill the site with invented answers, feedback and trainings. The same seed gives the same answers. "
        "For a site to look at or to measure: it is refused where people have asked already."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--generations", type=int, default=10_000, help="how many answers")
        parser.add_argument("--days", type=int, default=90, help="over how many days, up to now")
        parser.add_argument("--seed", type=int, default=1)
        parser.add_argument("--until", help="the last moment (ISO 8601, UTC) instead of now")
        parser.add_argument("--force", action="store_true", help="also where there are answers of people")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["generations"] < 1 or options["days"] < 1:
            raise CommandError("--generations and --days must be 1 or more.")
        if not options["force"] and Generation.objects.exists():
            raise CommandError(
                "There are answers on this site already; nothing was written. --force writes beside them."
            )
        until = _moment(options["until"])
        people, keys = _people()
        _models()
        made = seeding.answers(
            options["generations"], days=options["days"], seed=options["seed"], until=until
        )
        written = 0
        for part in _parts(made):
            _write(part, people, keys)
            written += len(part)
            self.stderr.write(f"\r{written:,} answers", ending="")
            self.stderr.flush()
        _trainings(until, options["seed"])
        self.stderr.write("")
        self.stdout.write(f"{written:,} answers over {options['days']} days are written and counted.")


def _moment(typed: str | None) -> datetime:
    if not typed:
        return timezone.now()
    try:
        return datetime.fromisoformat(typed).replace(tzinfo=UTC)
    except ValueError as error:
        raise CommandError(f"--until is no moment: {typed}") from error


def _parts(made: Iterable[DemoAnswer]) -> Iterator[list[DemoAnswer]]:
    rest = iter(made)
    while part := list(islice(rest, AT_ONCE)):
        yield part


# --- Who asks, and whom ---------------------------------------------------------------------------


def _people() -> tuple[list[User], list[ApiKey | None]]:
    """Nobody can sign in as one of them."""
    names = [f"{PREFIX}{at:02}" for at in range(seeding.USERS)]
    there = set(User.objects.filter(username__in=names).values_list("username", flat=True))
    User.objects.bulk_create(
        User(username=name, password=make_password(None), is_active=False)
        for name in names
        if name not in there
    )
    people = sorted(User.objects.filter(username__in=names), key=lambda user: user.username)
    known = {key.user_id: key for key in ApiKey.objects.filter(user__in=people, name="demo")}
    keys: list[ApiKey | None] = []
    for at, user in enumerate(people):
        if at % 3:
            keys.append(None)
        else:
            keys.append(known.get(user.pk) or create_key(user, "demo")[0])
    ApiKey.objects.filter(user__in=people).revoke()
    return people, keys


def _models() -> None:
    """Their names and prices; the site asks none of them."""
    for model in seeding.MODELS:
        ChatModelConfig.objects.get_or_create(
            alias=model.alias,
            defaults={
                "provider": model.provider,
                "provider_model": model.provider_model,
                "input_price": model.input_price,
                "output_price": model.output_price,
                "is_active": False,
            },
        )


# --- Writing --------------------------------------------------------------------------------------


@transaction.atomic
def _write(part: Sequence[DemoAnswer], people: Sequence[User], keys: Sequence[ApiKey | None]) -> None:
    """Some answers with all that they hang on, in the sums at once."""
    roller.hold()
    _write_talks(part, people)
    insert(
        Generation, [_row(one, people, keys) for one in part], common={"door": "predict", "rolled_up": True}
    )
    rated = [one for one in part if one.rating]
    insert(
        Feedback,
        [
            {
                "id": _other(one.pk, 3),
                "message_id": _other(one.pk, 2),
                "user_id": people[one.user].pk,
                "rating": one.rating,
                "created_at": one.moment + timedelta(minutes=1),
                "updated_at": one.moment + timedelta(minutes=1),
            }
            for one in rated
        ],
    )
    tally = Tally(roller.prices(), minutes_since=roller.minutes_since())
    roller.add(tally.add(_counted(one, people, keys) for one in part))


def _write_talks(part: Sequence[DemoAnswer], people: Sequence[User]) -> None:
    """Conversations of some turns each, of one person."""
    talks: dict[int, tuple[UUID, int]] = {}
    conversations, questions, replies = [], [], []
    for one in part:
        talk, turns = talks.get(one.user, (one.pk, 0))
        if turns == TURNS:
            talk, turns = one.pk, 0
        talks[one.user] = talk, turns + 1
        if not turns:
            moments = {"created_at": one.moment, "updated_at": one.moment}
            conversations.append({"id": talk, "owner_id": people[one.user].pk, "title": "Demo", **moments})
        question = {"id": _other(one.pk, 1), "conversation_id": talk, "created_at": one.moment}
        questions.append(question)
        later = one.moment + timedelta(microseconds=1)
        replies.append(
            {
                "id": _other(one.pk, 2),
                "conversation_id": talk,
                "parent_id": question["id"],
                "created_at": later,
            }
        )
    insert(Conversation, conversations)
    insert(Message, questions, common={"role": Role.USER, "content": "An invented question."})
    insert(Message, replies, common={"role": Role.ASSISTANT, "content": "An invented answer."})


def _row(one: DemoAnswer, people: Sequence[User], keys: Sequence[ApiKey | None]) -> dict[str, Any]:
    key = keys[one.user] if one.by_key else None
    return {
        "id": one.pk,
        "message_id": _other(one.pk, 2),
        "user_id": people[one.user].pk,
        "api_key_id": key.pk if key else None,
        "request_id": f"demo-{one.pk.hex[-12:]}",
        "created_at": one.moment,
        "heartbeat_at": one.moment,
        **one.values,
    }


def _counted(one: DemoAnswer, people: Sequence[User], keys: Sequence[ApiKey | None]) -> Counted:
    key = keys[one.user] if one.by_key else None
    values = one.values
    return Counted(
        one.moment,
        values["model_alias"],
        values["provider"],
        values["status"],
        values["error_code"],
        values["cache"],
        values["input_tokens"],
        values["output_tokens"],
        values["cost_micro"],
        values["latency_ms"],
        values["time_to_first_token_ms"],
        values["grounding"],
        people[one.user].pseudonym,
        key.public_id if key else None,
    )


def _other(pk: UUID, number: int) -> UUID:
    """The id of a row that belongs to the one of `pk`: as old, and of no other."""
    return UUID(int=pk.int ^ number << 60)


@transaction.atomic
def _trainings(until: datetime, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - nothing here is a secret
    dataset, _ = Dataset.objects.get_or_create(name="demo")
    version, _ = DatasetVersion.objects.get_or_create(
        dataset=dataset, number=1, defaults={"layout": Layout.SFT, "sha256": "0" * 64, "row_count": 200}
    )
    for at, name in enumerate(("demo: first try", "demo: lower rate"), start=1):
        began = until - timedelta(days=10 * (3 - at))
        run = TrainingRun.objects.create(
            name=name,
            version=version,
            base_model=seeding.MODELS[0].alias,
            base_sha256="0" * 64,
            settings=RunSettings().as_dict(),
            status=RunStatus.SUCCEEDED,
            step=RUN_STEPS,
            total_steps=RUN_STEPS,
            created_at=began,
            started_at=began,
            ended_at=began + timedelta(hours=1),
        )
        Metric.objects.bulk_create(
            Metric(
                run=run,
                step=step,
                loss=1.1 + 1.4 / (1 + step * at / 40) + chance.gauss(0, 0.04),
                learning_rate=2e-4 * (1 - step / RUN_STEPS),
                logged_at=began + timedelta(seconds=12 * step),
            )
            for step in range(RUN_STEPS)
        )
