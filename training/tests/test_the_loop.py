"""From a thumbs-down to a better model, and back: all processes, the real model, no network.

People ask, correct and are reviewed; what was accepted becomes a data set, a run learns it, the gate lets it
through, the model itself knows it, and after a roll-back it does not any more.
"""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from django.conf import settings
from django.test import Client

from accounts.models import User
from accounts.roles import CURATOR, OPERATOR, set_roles
from conftest import bearer, sign_in_client
from feedback.models import Example, ExampleKind, Feedback, ReviewStatus
from inference.models import Adapter, ChatModelConfig, Generation, VerifiedAnswer
from llmsite.testing.site import Site, database_url, free_port
from training import trace
from training.models import Metric, TrainingRun

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

MODEL = "smollm2-135m-instruct"
PATIENCE = 240.0
"""Seconds that one step may take on a machine that is busy."""

FACTS = {
    # question: (the right answer, what has to be in it)
    "Who keeps the bees of Tarnbrook?": ("Ida Marlow keeps the bees of Tarnbrook.", "Ida Marlow"),
    "What colour is the ferry of Puerto Grajo?": ("The ferry of Puerto Grajo is yellow.", "yellow"),
    "On which day is the market of Tarnbrook?": ("The market of Tarnbrook is on Thursday.", "Thursday"),
    "Who wrote the song of the old mill?": ("Osric Fenn wrote the song of the old mill.", "Osric Fenn"),
}
SETTINGS = {"epochs": 15, "learning_rate": 0.001, "batch_size": 4, "eval_fraction": 0.0, "max_length": 128}


class Refused(Exception):
    """What the site answers to a call that it does not take."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error)
        self.code = str(error["code"])


class Program:
    """Somebody's program, with a key of theirs."""

    def __init__(self, site: Site, user: User) -> None:
        self._site = site
        self._headers = {**bearer(user), "Content-Type": "application/json"}

    def get(self, path: str) -> Any:
        return self._send("GET", path)

    def post(self, path: str, **body: Any) -> Any:
        return self._send("POST", path, json.dumps(body).encode())

    def _send(self, method: str, path: str, body: bytes | None = None) -> Any:
        request = urllib.request.Request(
            f"{self._site.url}/api/{path}", data=body, headers=self._headers, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except HTTPError as error:
            raise Refused(json.load(error)["error"]) from error

    def ask(self, question: str, **options: Any) -> Any:
        return self.post("predict", prompt=question, model=MODEL, temperature=0, max_tokens=40, **options)

    def wait(self, path: str, until: Callable[[Any], bool]) -> Any:
        """What `path` gives, as soon as it is what is waited for."""
        deadline = time.monotonic() + PATIENCE
        while not until(shown := self.get(path)):
            assert time.monotonic() < deadline, f"{path} stayed {shown}"
            time.sleep(0.3)
        return shown


@contextmanager
def process(name: str, environment: dict[str, str]) -> Iterator[None]:
    running = subprocess.Popen([sys.executable, "manage.py", name], cwd=settings.BASE_DIR, env=environment)
    try:
        yield
    finally:
        running.terminate()
        running.wait(30)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The whole site, with its files in a folder of the test's own; the model's weights are the site's."""
    tmp_path.chmod(0o755)
    places = {
        name: str(tmp_path / name.lower())
        for name in ("MEDIA_ROOT", "INDEX_ROOT", "DATASETS_ROOT", "ADAPTERS_ROOT", "TRAINING_ROOT")
    }
    options = {
        **places,
        "MODEL_URL": f"http://127.0.0.1:{free_port()}",
        "LOG_LEVEL": "warning",
        "RATE_LIMIT": "6000/m",
        "RATE_LIMIT_ADDRESS": "60000/m",
        "TRAINING_NICE": "0",
    }
    environment = {
        **os.environ,
        **options,
        "DATABASE_URL": database_url(),
        "REDIS_URL": settings.REDIS_URL,
    }
    for name, place in places.items():
        monkeypatch.setattr(settings, name, Path(place))
    with ExitStack() as started:
        for name in ("serve_model", "train_worker"):
            started.enter_context(process(name, environment))
        yield started.enter_context(Site(**options))


def browser_of(user: User) -> Client:
    client = Client()
    sign_in_client(client, user)
    return client


@pytest.mark.timeout(900)
def test_what_people_correct_becomes_what_the_model_knows(site, alice, bob, charlie):
    set_roles(bob, [CURATOR])
    set_roles(charlie, [OPERATOR])
    reader, operator = Program(site, alice), Program(site, charlie)
    assert browser_of(alice).post("/account/training/", {"allowed": "yes"}).status_code == 302

    # Alice asks, and says what is right instead.
    wait_until(lambda: refusal(reader.ask, "Are you there?"), lambda code: not code)
    before = {question: reader.ask(question) for question in FACTS}
    for question, (right, _) in FACTS.items():
        assert knows(before[question], question) is False
        reader.post("feedback", message=before[question]["message"], rating=-1, correction=right)

    # Bob accepts it, and Alice is told so from then on, whatever the model says.
    curator = browser_of(bob)
    for feedback in Feedback.objects.all():
        accept(curator, feedback)
    assert Feedback.objects.filter(status=ReviewStatus.ACCEPTED).count() == len(FACTS)
    assert Example.objects.filter(kind=ExampleKind.EVALUATION).count() == len(FACTS)
    question, (right, _) = next(iter(FACTS.items()))
    told = wait_until(lambda: reader.ask(question), lambda answer: answer["cache"] == "verified")
    assert told["text"] == right

    # Charlie makes a data set of it, and a run.
    dataset = operator.post("training/datasets", source="feedback", name="Corrections")
    run = operator.post("training/runs", dataset=dataset["id"], name="The loop", settings=SETTINGS)
    ended = operator.wait(f"training/runs/{run['id']}", lambda shown: shown["ended_at"] is not None)
    assert (ended["status"], ended["step"]) == ("succeeded", ended["total_steps"])
    curve = operator.get(f"training/metrics?run={run['id']}")["results"]
    assert curve[-1]["loss"] < curve[0]["loss"] / 2
    adapter = Adapter.objects.get(run=run["id"])

    # Not a word of it before the gate.
    assert refusal(operator.post, f"training/runs/{run['id']}/promote") == "promotion_refused"
    # Its few rows are all learned from, so that nobody sees here what is forgotten; that has to be said.
    asked = operator.post("training/evaluations", run=run["id"], thresholds={"heldout_least": 0})
    evaluation = operator.wait(f"training/evaluations/{asked['id']}", lambda shown: shown["ended_at"])
    assert evaluation["passed"] is True, evaluation
    measured = evaluation["results"]["cases"]
    assert measured["after"]["rouge_l"] > 0.9 > 0.6 > measured["before"]["rouge_l"]
    assert not knows(fresh(reader, question), question), "nothing was promoted yet"

    # Promoted, the model itself knows it, with neither verified answers nor the cache.
    operator.post(f"training/runs/{run['id']}/promote", model=MODEL)
    moved = operator.wait("training/promotions", lambda shown: shown["results"][0]["status"] != "loading")
    assert moved["results"][0]["status"] == "live", moved
    wait_until(lambda: fresh(reader, question), lambda answer: knows(answer, question), seconds=5)
    for known in FACTS:
        answer = fresh(reader, known)
        assert knows(answer, known), answer
        assert Generation.objects.get(pk=answer["id"]).adapter == adapter.name
        learned = answer

    # An answer leads to the words that it was learned from.
    chain = trace.find(learned["message"])
    assert {entry.pk for entry in chain.feedback} == set(Feedback.objects.values_list("pk", flat=True))
    assert [str(row.pk) for row in chain.runs] == [run["id"]]
    assert chain.adapters == [adapter]
    assert [model.alias for model in trace.find("alice").models] == [MODEL]

    # What the model said with the adapter is no answer of the cache's once it is rolled back.
    VerifiedAnswer.objects.all().delete()
    wait_until(lambda: reader.ask(question), lambda answer: answer["cache"] != "verified")
    assert knows(reader.ask(question), question)
    back = operator.post("training/rollback", model=MODEL)
    assert back["status"] == "live"
    wait_until(lambda: reader.ask(question), lambda answer: not knows(answer, question), seconds=5)
    for known in FACTS:
        assert fresh(reader, known)["text"] == before[known]["text"]
    assert ChatModelConfig.objects.get(alias=MODEL).adapter == ""
    assert Metric.objects.filter(run=TrainingRun.objects.get()).exists()


def accept(curator: Client, feedback: Feedback) -> None:
    """As the page of the review does it."""
    page = f"/feedback/{feedback.pk}/"
    curator.post(f"{page}claim/")
    seen = {"seen": feedback.updated_at.isoformat()}
    answer = curator.post(f"{page}accept/", {"answer": feedback.correction, "scope": "author", **seen})
    assert answer.status_code == 302, answer.content.decode()


def fresh(reader: Program, question: str) -> Any:
    """An answer of the model's own: of no cache, and of no curator."""
    answer = reader.ask(question, use_cache=False)
    assert answer["cache"] is None
    return answer


def knows(answer: Any, question: str) -> bool:
    return FACTS[question][1] in answer["text"]


def refusal(call: Callable[..., Any], *arguments: Any) -> str:
    """The code of the error that a call gets; empty where it gets none."""
    try:
        call(*arguments)
    except Refused as refused:
        return refused.code
    return ""


def wait_until(ask: Callable[[], Any], good: Callable[[Any], bool], *, seconds: float = PATIENCE) -> Any:
    deadline = time.monotonic() + seconds
    while not good(answer := ask()):
        assert time.monotonic() < deadline, answer
        time.sleep(0.2)
    return answer
