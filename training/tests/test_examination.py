"""Evaluations as the trainer's process makes them: whose they are, what is kept, and how they may end."""

import json
import threading
from contextlib import suppress
from datetime import timedelta
from io import StringIO
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connections
from django.utils import timezone

from feedback.models import Example, ExampleKind
from feedback.tests.making import make_answer, make_feedback
from inference import adapters
from inference.models import Adapter, Conversation, Message
from inference.providers import scripted
from inference.providers.scripted import Script
from training import examination, judge
from training.evaluation import ask_for, failure_sentence, state_of
from training.examination import MOST_TRIES, SILENCE, claim_next, make, sweep
from training.models import Evaluation, EvaluationAnswer, RunStatus, TrainingRun
from training.process import WORK, ChildEnd
from training.promotion import withdraw
from training.rows import read_file
from training.tests import running, tiny
from training.tests.making import side

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _furnished(settings, tmp_path):
    running.furnish(settings, tmp_path)


@pytest.fixture
def run(tmp_path, staff):
    """One that has succeeded, with its adapter's files."""
    started = running.start(user=staff)
    folder = tiny.make_adapter(tmp_path / "trained")
    adapters.publish(folder, base_model=started.base_model, base_sha256=started.base_sha256, run=started.pk)
    TrainingRun.objects.filter(pk=started.pk).update(status=RunStatus.SUCCEEDED, ended_at=timezone.now())
    return TrainingRun.objects.get(pk=started.pk)


@pytest.fixture
def corrected(bob):
    """Makes evaluation cases of Bob's, who allows training."""
    bob.training_consent_at = timezone.now()
    bob.save()

    def correct(question="Who keeps the bees?", answer="Ida.", *, user=bob):
        feedback = make_feedback(user, make_answer(user, question))
        return Example.objects.create(
            feedback=feedback,
            kind=ExampleKind.EVALUATION,
            prompt=[{"role": "user", "content": question}],
            chosen=answer,
        )

    return correct


class Child:
    """Stands in for the child: it answers every case, and keeps what it was given."""

    def __init__(self):
        self.end = None
        self.meanwhile = lambda: None
        self.left_out = set()
        self.job = self.rows = self.folder = None

    def __call__(self, module, folder, *, on_event, should_stop, reads):
        assert module == "evaluate"
        self.folder = folder
        self.job = json.loads((folder / "job.json").read_text())
        self.rows = {name: list(read_file(folder / WORK / f"{name}.jsonl")) for name in ("heldout", "cases")}
        self.files = sorted(path.name for path in (folder / WORK / "adapter").iterdir())
        self.reads = reads
        if should_stop() is not None:
            return ChildEnd("stopped")
        scores = {"before": {"loss": 3.0, "rouge_l": 0.0}, "after": {"loss": 0.1, "rouge_l": 1.0}}
        answered = [number for number in range(len(self.rows["cases"])) if number not in self.left_out]
        for number in answered:
            on_event({"event": "progress", "done": number})
            on_event({"event": "case", "number": number, "before": "No.", "after": "Ida.", "scores": scores})
        self.meanwhile()
        if self.end:
            return self.end
        sets = {"heldout": len(self.rows["heldout"]), "cases": len(answered)}
        measured = {
            name: {"before": side(count=count), "after": side(count=count, loss=1.0)}
            for name, count in sets.items()
        }
        return ChildEnd("finished", data=measured)


@pytest.fixture
def child(monkeypatch):
    standing_in = Child()
    monkeypatch.setattr(examination, "run_child", standing_in)
    return standing_in


def again(evaluation):
    return Evaluation.objects.get(pk=evaluation.pk)


def made(evaluation, **options):
    claimed = claim_next()
    assert claimed.pk == evaluation.pk
    make(claimed, **options)
    return again(evaluation)


# --- What is made --------------------------------------------------------------------------------------


def test_it_is_measured_decided_and_kept(run, child, staff, corrected):
    example = corrected()
    asked = ask_for(run, user=staff)
    assert state_of(asked) == "queued"

    evaluation = made(asked)

    assert (evaluation.passed, evaluation.reasons, state_of(evaluation)) == (True, [], "done")
    assert evaluation.results["cases"]["after"]["count"] == 1
    [answer] = EvaluationAnswer.objects.all()
    assert (answer.example, answer.before, answer.after, answer.preferred) == (example, "No.", "Ida.", "")
    assert answer.scores["after"]["rouge_l"] == 1.0


def test_the_child_gets_what_the_run_was_not_trained_on(run, child, staff, corrected, settings):
    corrected()
    made(ask_for(run, user=staff))

    trained = json.dumps(child.rows["heldout"])
    assert len(child.rows["heldout"]) == 2  # A tenth of twenty.
    assert "What is number" in trained
    [case] = child.rows["cases"]
    assert case["messages"][-1] == {"role": "assistant", "content": "Ida."}
    assert [str(path) for path in child.reads] == [settings.LOCAL_MODEL_PATH]
    assert child.files == ["adapter_config.json", "adapter_model.safetensors", "manifest.json"]
    assert child.job["max_length"] == run.settings["max_length"]


def test_nothing_of_it_stays_on_the_disk(run, child, staff, corrected, settings):
    corrected()
    made(ask_for(run, user=staff))

    assert not list(settings.TRAINING_ROOT.iterdir())


def test_what_is_worse_does_not_pass(run, child, staff):
    child.end = ChildEnd("finished", data={"heldout": {"before": side(), "after": side(loss=9.0)}})

    evaluation = made(ask_for(run, user=staff))

    assert evaluation.passed is False
    assert [reason["code"] for reason in evaluation.reasons] == ["loss_grew"]


def test_its_own_thresholds_decide(run, child, staff):
    asked = ask_for(run, user=staff, thresholds={"rows_least": 3})

    assert made(asked).passed is False


# --- Whose words ---------------------------------------------------------------------------------------


def test_only_the_cases_of_who_allows_it_are_used(run, child, staff, corrected, alice):
    corrected("Bob's question?")
    corrected("Alice's question?", user=alice)

    made(ask_for(run, user=staff))

    assert [row["messages"][0]["content"] for row in child.rows["cases"]] == ["Bob's question?"]


def test_who_withdraws_meanwhile_is_not_kept(run, child, staff, corrected, bob):
    corrected()
    child.meanwhile = lambda: type(bob).objects.filter(pk=bob.pk).update(training_consent_at=None)

    evaluation = made(ask_for(run, user=staff))

    assert evaluation.passed is True
    assert not EvaluationAnswer.objects.exists()


def test_who_is_erased_leaves_nothing_in_the_answers(run, child, staff, corrected, bob):
    corrected()
    made(ask_for(run, user=staff))
    assert EvaluationAnswer.objects.exists()

    Example.objects.all().delete()

    assert not EvaluationAnswer.objects.exists()


def test_a_case_that_was_not_answered_is_not_kept(run, child, staff, corrected):
    corrected("Too long?")
    short = corrected("Short?")
    child.left_out = {1}  # The newest comes first.

    made(ask_for(run, user=staff))

    assert [answer.example.prompt[0]["content"] for answer in EvaluationAnswer.objects.all()] == ["Short?"]
    assert short.pk == EvaluationAnswer.objects.get().example_id


# --- Whose work ----------------------------------------------------------------------------------------


def test_one_worker_has_it(run, child, staff):
    ask_for(run, user=staff)

    assert claim_next() is not None
    assert claim_next() is None


def test_who_was_taken_for_dead_changes_nothing_any_more(run, child, staff):
    ask_for(run, user=staff)
    slow = claim_next()
    Evaluation.objects.update(beat_at=timezone.now() - SILENCE - timedelta(seconds=1))
    quick = claim_next()
    assert quick.pk == slow.pk

    make(slow)
    assert again(slow).ended_at is None
    make(quick)
    assert again(quick).passed is True


def test_one_whose_workers_die_again_and_again_is_given_up(run, child, staff):
    asked = ask_for(run, user=staff)
    for _ in range(MOST_TRIES):
        assert claim_next() is not None
        Evaluation.objects.update(beat_at=timezone.now() - SILENCE - timedelta(seconds=1))

    assert claim_next() is None

    assert (again(asked).error_code, state_of(again(asked))) == ("worker_died", "failed")
    assert failure_sentence(again(asked))


def test_a_worker_that_stops_gives_it_back(run, child, staff):
    asked = ask_for(run, user=staff)

    evaluation = made(asked, should_stop=lambda: 0.0)

    assert (evaluation.claim, evaluation.ended_at, evaluation.tries) == (None, None, 0)
    assert made(asked).passed is True


def test_a_long_one_shows_that_its_worker_lives(run, child, staff, monkeypatch):
    monkeypatch.setattr(examination, "BEAT_SECONDS", 0)
    asked = ask_for(run, user=staff)
    claimed = claim_next()
    long_ago = timezone.now() - timedelta(seconds=50)
    Evaluation.objects.update(beat_at=long_ago)

    make(claimed)

    assert again(asked).beat_at > long_ago


def test_what_a_dead_worker_left_is_swept(run, child, staff, settings):
    asked = ask_for(run, user=staff)
    left = settings.TRAINING_ROOT / "evaluation-00000000-0000-0000-0000-000000000001"
    left.mkdir(parents=True)
    (left / "cases.jsonl").write_text("somebody's words")
    claim_next()
    assert not left.exists()
    mine = settings.TRAINING_ROOT / f"evaluation-{asked.pk}.{again(asked).claim}"
    mine.mkdir()

    assert sweep() == 0

    assert mine.exists()


def test_who_wakes_up_too_late_removes_nothing_of_who_took_over(run, child, staff):
    ask_for(run, user=staff)
    one = claim_next()
    folders = []

    def another_one_takes_over():
        Evaluation.objects.update(beat_at=timezone.now() - 2 * SILENCE)
        folders.append(child.folder)
        child.meanwhile = lambda: folders.append(child.folder) or late()
        make(claim_next())

    def late():
        with pytest.raises(examination._Lost):
            examination._Work(one, lambda: None).change(beat_at=timezone.now())
        with examination._job_folder(one):
            pass
        assert folders[1].exists()

    child.meanwhile = another_one_takes_over
    make(one)

    assert len(set(folders)) == 2
    assert not any(folder.exists() for folder in folders)


# --- How it may fail -----------------------------------------------------------------------------------


def changed_byte(run, settings):
    path = settings.ADAPTERS_ROOT / Adapter.objects.get().name / "adapter_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def foreign_file(run, settings):
    folder = settings.ADAPTERS_ROOT / Adapter.objects.get().name
    (folder / "adapter_model.bin").write_bytes(b"\x80\x04.")


def another_base(run, settings):
    config = json.loads((tiny.make_shell(run_folder(settings)) / "config.json").read_text())
    (run_folder(settings) / "config.json").write_text(json.dumps({**config, "vocab_size": 7}))


def run_folder(settings):
    from pathlib import Path

    return Path(settings.LOCAL_MODEL_PATH)


def no_rows(run, settings):
    for path in settings.DATASETS_ROOT.rglob("*.jsonl"):
        path.write_bytes(b"{}\n")


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (changed_byte, "adapter_refused"),
        (foreign_file, "adapter_refused"),
        (another_base, "base_changed"),
        (no_rows, "dataset_damaged"),
        (lambda run, _: withdraw(Adapter.objects.all(), because="Somebody is gone."), "withdrawn"),
    ],
)
def test_what_is_not_as_it_was_is_not_loaded(run, child, staff, settings, spoil, code):
    asked = ask_for(run, user=staff)
    spoil(run, settings)

    evaluation = made(asked)

    assert child.job is None, "the child was started"
    assert (evaluation.error_code, evaluation.passed) == (code, None)
    assert "{" not in failure_sentence(evaluation)
    assert not list(settings.TRAINING_ROOT.glob("*"))


@pytest.mark.parametrize("code", ["out_of_memory", "disk_full", "killed", "crashed", "device_missing"])
def test_a_child_that_fails_is_told(run, child, staff, code):
    child.end = ChildEnd("failed", code, {"device": "cuda"})

    evaluation = made(ask_for(run, user=staff))

    assert (evaluation.error_code, evaluation.passed, evaluation.results) == (code, None, {})
    assert failure_sentence(evaluation)


def test_what_nobody_thought_of_ends_it_too(run, child, staff):
    def fall():
        raise RuntimeError("secret detail")

    child.meanwhile = fall

    evaluation = made(ask_for(run, user=staff))

    assert evaluation.error_code == "crashed"
    assert "secret" not in failure_sentence(evaluation)


def test_a_full_disk_is_told(run, child, staff, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(examination.shutil, "copytree", full)

    assert made(ask_for(run, user=staff)).error_code == "disk_full"


# --- With a judge --------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_the_judge_says_which_answers_are_better(run, child, staff, corrected, models):
    corrected("First?")
    corrected("Second?")
    scripted.play(*(Script(pieces=(reply,)) for reply in "ABBA"))

    evaluation = made(ask_for(run, user=staff, judge="scripted"))

    told = evaluation.results["judge"]
    assert (told["model"], told["wins"], told["losses"], told["rate"]) == ("scripted", 1, 1, 0.5)
    assert sorted(EvaluationAnswer.objects.values_list("preferred", flat=True)) == ["after", "before"]
    assert evaluation.passed is True


@pytest.mark.django_db(transaction=True)
def test_a_judge_that_prefers_the_old_answers_keeps_the_model_back(run, child, staff, corrected, models):
    corrected()
    scripted.play(Script(pieces=("B",)), Script(pieces=("A",)))

    evaluation = made(ask_for(run, user=staff, judge="scripted"))

    assert [reason["code"] for reason in evaluation.reasons] == ["judge_prefers_before"]


@pytest.mark.django_db(transaction=True)
def test_a_judge_that_is_away_ends_it(run, child, staff, corrected, models):
    corrected()

    evaluation = made(ask_for(run, user=staff, judge="unavailable"))

    assert evaluation.error_code == "provider_unavailable"
    assert "cannot be reached" in failure_sentence(evaluation)


@pytest.mark.django_db(transaction=True)
def test_nobody_pays_a_judge_whose_asker_is_gone(run, child, staff, corrected, models):
    corrected()
    asked = ask_for(run, user=staff, judge="scripted")
    Evaluation.objects.update(created_by=None)

    evaluation = made(asked)

    assert evaluation.error_code == "nobody_pays"
    assert failure_sentence(evaluation)
    assert not scripted.calls


@pytest.mark.django_db(transaction=True)
def test_a_judge_that_has_nothing_to_judge_keeps_the_model_back(run, child, staff, corrected, bob, models):
    corrected()
    asked = ask_for(run, user=staff, judge="scripted")
    bob.training_consent_at = None
    bob.save()

    evaluation = made(asked)

    assert evaluation.passed is False
    assert [reason["code"] for reason in evaluation.reasons] == ["not_judged"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("has_ended", [True, False])
def test_what_a_killed_worker_asked_the_judge_is_forgotten(
    run, child, staff, corrected, models, monkeypatch, has_ended
):
    corrected("Somebody's question?")
    other = Conversation.objects.create(owner=staff)

    class Killed(BaseException):
        pass

    def kill(*_):
        raise Killed

    with monkeypatch.context() as patch:
        # Neither what follows the answers nor the end of the conversation is reached.
        patch.setattr(judge, "forget", lambda _: None)
        patch.setattr(judge, "opinion", kill)
        scripted.play(Script(pieces=("A",)), Script(pieces=("B",)))
        with pytest.raises(Killed):
            made(ask_for(run, user=staff, judge="scripted"))
    assert Message.objects.filter(conversation__owner=staff).exists()

    long_ago = timezone.now() - SILENCE - timedelta(seconds=1)
    Evaluation.objects.update(beat_at=long_ago, ended_at=timezone.now() if has_ended else None)
    claim_next()

    assert [row.pk for row in Conversation.objects.filter(owner=staff)] == [other.pk]


@pytest.mark.django_db(transaction=True)
def test_a_case_that_is_deleted_as_its_answer_is_written_spoils_nothing(
    run, child, staff, corrected, monkeypatch
):
    example = corrected()
    write = EvaluationAnswer.objects.bulk_create

    def delete():
        try:
            # Refused where it has looked for answers before there was one, and is done again by who wants it.
            with suppress(IntegrityError):
                Example.objects.filter(pk=example.pk).delete()
        finally:
            connections.close_all()

    deletion = threading.Thread(target=delete)

    def write_later(rows):
        deletion.start()
        # It waits for the end of what is being written.
        deletion.join(1)
        return write(rows)

    monkeypatch.setattr(EvaluationAnswer.objects, "bulk_create", write_later)
    evaluation = made(ask_for(run, user=staff))
    deletion.join()

    assert (evaluation.error_code, evaluation.passed) == ("", True)


# --- From a terminal -----------------------------------------------------------------------------------


def said(*command):
    out, err = StringIO(), StringIO()
    call_command("evaluate_run", *command, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_a_command_makes_it_where_no_trainer_runs(run, child):
    out, err = said(str(run.pk), "--json")

    assert json.loads(out)["passed"] is True
    assert "passes the gate" in err


def test_a_command_makes_no_other(run, child, staff):
    other = ask_for(running_copy(run), user=staff)

    said(str(run.pk))

    assert again(other).ended_at is None


def running_copy(run):
    """Another run that has succeeded, with an adapter of its own."""
    copy = TrainingRun.objects.get(pk=run.pk)
    copy.pk, copy._state.adding = uuid4(), True
    copy.save()
    first = Adapter.objects.get(run=run.pk)
    Adapter.objects.create(
        name="another",
        sha256="0" * 64,
        run=copy.pk,
        base_model=first.base_model,
        base_sha256=first.base_sha256,
    )
    return copy


def test_a_command_says_what_keeps_it_back(run, child):
    child.end = ChildEnd("finished", data={"heldout": {"before": side(), "after": side(loss=9.0)}})

    with pytest.raises(CommandError, match="does not pass"):
        said(str(run.pk))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--judge", "scripted"), "--user"),
        (("--judge", "scripted", "--user", "nobody"), "no user named nobody"),
        (("--judge", "gone", "--user", "staff"), "gone"),
    ],
)
def test_a_command_refuses_what_makes_no_sense(run, child, staff, options, told):
    with pytest.raises(CommandError, match=told):
        said(str(run.pk), *options)
    assert not Evaluation.objects.exists()


def test_a_command_tells_why_it_failed(run, child):
    child.end = ChildEnd("failed", "out_of_memory", {})

    with pytest.raises(CommandError, match="memory"):
        said(str(run.pk))
