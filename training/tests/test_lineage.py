"""From feedback to data sets; and what becomes of these when somebody takes back their consent, or goes."""

import json

import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone

from accounts import erasure, roles
from accounts.export import export_of
from accounts.models import AuditEvent, User
from conftest import bearer
from feedback import export
from feedback.models import Example, ExampleKind, Feedback, ReviewStatus, Scope
from feedback.tests.making import make_answer, make_feedback
from inference.models import Adapter
from llmsite.core.errors import DatabaseAway, DiskFull, ErasureUnfinished
from training import lineage, promotion, storage
from training.importing import from_feedback
from training.models import Dataset, DatasetRow, DatasetVersion, RunStatus, TrainingRun
from training.rows import read_rows
from training.tests.files import json_lines, upload
from training.tests.making import make_adapter, make_run

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def root(settings, tmp_path):
    settings.DATASETS_ROOT = tmp_path / "datasets"
    settings.FILE_UPLOAD_TEMP_DIR = tmp_path / "uploads"
    return settings.DATASETS_ROOT


@pytest.fixture
def people(alice, bob, charlie):
    """All of them allow training."""
    now = timezone.now()
    for user in (alice, bob, charlie):
        user.training_consent_at = now
        user.save()
    return [alice, bob, charlie]


@pytest.fixture
def operator(make_user):
    user = make_user("olga")
    roles.set_roles(user, [roles.MEMBER, roles.OPERATOR])
    return user


@pytest.fixture
def client(operator):
    return Client(headers=bearer(operator))


def teach(user: User, question: str, answer: str = "Canberra.") -> Feedback:
    """Accepted feedback, with what a curator's accepting it stores."""
    feedback = make_feedback(
        user,
        make_answer(user, question, "Sydney."),
        status=ReviewStatus.ACCEPTED,
        scope=Scope.AUTHOR,
        correction=answer,
    )
    for kind in ExampleKind:
        rejected = "Sydney." if kind == ExampleKind.PREFERENCE else ""
        prompt = [{"role": "user", "content": question}]
        Example.objects.create(feedback=feedback, kind=kind, prompt=prompt, chosen=answer, rejected=rejected)
    return feedback


def build(client, wanted="sft", name="Corrections"):
    body = {"source": "feedback", "name": name, "format": wanted}
    return client.post("/api/training/datasets", json.dumps(body), content_type="application/json")


def questions(version: DatasetVersion) -> list[str]:
    rows = read_rows(version)
    return [(row["messages"] if "messages" in row else row["prompt"])[0]["content"] for row in rows]


class TestFromFeedback:
    @pytest.mark.parametrize(("wanted", "layout"), [("sft", "sft"), ("dpo", "dpo"), ("kto", "kto")])
    def test_each_shape_with_whose_rows_they_are(self, client, people, wanted, layout):
        taught = [teach(user, f"Question of {user.username}?") for user in people]
        answer = build(client, wanted)

        assert answer.status_code == 201
        version = DatasetVersion.objects.get()
        assert (version.layout, version.row_count, version.origin["source"]) == (layout, 3, "feedback")
        assert questions(version) == [f"Question of {user.username}?" for user in people]
        rows = DatasetRow.objects.order_by("number").values_list("number", "feedback", "user")
        assert list(rows) == [(at, one.pk, one.user_id) for at, one in enumerate(taught)]

    def test_only_what_is_allowed_then_and_now(self, client, people, make_user):
        alice, bob, charlie = people
        teach(make_user("dora"), "Never allowed?")
        for user in people:
            teach(user, f"Question of {user.username}?")
        User.objects.filter(pk=bob.pk).update(training_consent_at=None)
        User.objects.filter(pk=charlie.pk).update(is_active=False)
        teach(alice, "Another one?")
        build(client)

        assert questions(DatasetVersion.objects.get()) == ["Question of alice?", "Another one?"]

    def test_consent_that_is_taken_back_is_seen_and_holds_for_the_next_version(self, client, people):
        for user in people:
            teach(user, f"Question of {user.username}?")
        build(client)
        User.objects.filter(pk=people[0].pk).update(training_consent_at=None)
        Feedback.objects.filter(user=people[1]).update(status=ReviewStatus.OPEN)
        first = DatasetVersion.objects.get()
        seen = lineage.people_in(first)
        assert (seen.people, seen.rows, seen.unwilling, seen.revoked) == (3, 3, 1, 1)
        Feedback.objects.filter(user=people[1]).update(status=ReviewStatus.ACCEPTED)

        assert build(client).status_code == 201
        assert questions(DatasetVersion.objects.get(number=2)) == ["Question of bob?", "Question of charlie?"]
        assert questions(first)[0] == "Question of alice?", "a version never changes"

    def test_the_same_feedback_is_the_same_version(self, client, people):
        for user in people:
            teach(user, f"Question of {user.username}?")
        assert [build(client).status_code for _ in range(2)] == [201, 200]
        assert (DatasetVersion.objects.count(), DatasetRow.objects.count()) == (1, 3)

    @pytest.mark.parametrize("wanted", ["sft", "dpo", "kto"])
    def test_without_feedback_there_is_none(self, client, people, wanted):
        answer = build(client, wanted)
        assert answer.status_code == 422
        assert answer.json()["error"]["message"].startswith("There is no accepted feedback")
        teach(people[0], "One?")
        assert "this one has 1" in build(client, wanted).json()["error"]["message"]
        assert not Dataset.objects.exists()

    @pytest.mark.parametrize("wanted", ["csv", "text", "", 7, None])
    def test_other_shapes_are_refused(self, client, wanted):
        assert (build(client, wanted).status_code, Dataset.objects.exists()) == (400, False)

    def test_a_row_that_teaches_nothing_is_left_out_and_named(self, client, people):
        for user in people:
            teach(user, f"Question of {user.username}?")
        Example.objects.filter(kind="preference", feedback__user=people[0]).update(rejected=" Canberra. ")
        build(client, "dpo")

        version = DatasetVersion.objects.get()
        assert (version.row_count, version.origin["left_out"]["first"][0]["code"]) == (2, "same_answers")
        assert list(DatasetRow.objects.order_by("number").values_list("user", flat=True)) == [
            people[1].pk,
            people[2].pk,
        ]

    def test_what_models_are_examined_with_is_told(self, client, people):
        for user in people:
            teach(user, f"Question of {user.username}?")
        Example.objects.filter(kind="evaluation", feedback__user=people[0]).delete()
        build(client)
        assert DatasetVersion.objects.get().report["leaks"]["cases"] == {"rows": 2, "lines": [2, 3]}

    def test_who_changes_their_mind_while_it_is_built_is_not_in_it(self, client, people, monkeypatch):
        """Between the reading and the end; the version is built anew without them."""
        for user in people:
            teach(user, f"Question of {user.username}?")
        reading = iter([lambda: User.objects.filter(pk=people[0].pk).update(training_consent_at=None)])
        rows = export.rows

        def read_and_change(wanted):
            yield from rows(wanted)
            next(reading, lambda: None)()

        monkeypatch.setattr(export, "rows", read_and_change)
        assert build(client).status_code == 201
        assert questions(DatasetVersion.objects.get()) == ["Question of bob?", "Question of charlie?"]

    def test_where_minds_change_without_end_it_says_to_come_again(self, operator, people, monkeypatch):
        for user in people:
            teach(user, f"Question of {user.username}?")
        monkeypatch.setattr("training.versions.willing", lambda users: set())
        with pytest.raises(DatabaseAway):
            from_feedback("sft", dataset="Corrections", user=operator)
        assert not Dataset.objects.exists()

    def test_an_export_that_comes_back_as_a_file_names_the_people_in_it(self, client, people):
        for user in people:
            teach(user, f"Question of {user.username}?")
        exported = [row.data for row in export.rows("sft")]
        foreign = {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}
        upload(client, json_lines([foreign, *exported]))

        rows = DatasetRow.objects.order_by("number").values_list("number", "user")
        assert list(rows) == [(1, people[0].pk), (2, people[1].pk), (3, people[2].pk)]


class TestExportsThatComeBack:
    """They are known by their words, whatever their people allow by then."""

    @pytest.fixture
    def exported(self, people):
        """Of each kind the rows, as they are in its file."""
        for user in people:
            teach(user, f"Question of {user.username}?")
        return {wanted: [row.data for row in export.rows(wanted)] for wanted in ("sft", "dpo", "kto")}

    @pytest.mark.parametrize("wanted", ["sft", "dpo", "kto"])
    def test_each_kind_names_its_people(self, client, people, exported, wanted):
        assert upload(client, json_lines(exported[wanted])).status_code == 201
        rows = DatasetRow.objects.order_by("number").values_list("number", "user")
        assert list(rows) == [(at, user.pk) for at, user in enumerate(people)]

    @pytest.mark.parametrize("wanted", ["sft", "dpo", "kto"])
    @pytest.mark.parametrize(
        "change", [{"training_consent_at": None}, {"is_active": False}], ids=["withdrawn", "closed"]
    )
    def test_who_allows_it_no_more_is_named_and_can_be_left_out(
        self, client, people, exported, wanted, change
    ):
        User.objects.filter(pk=people[1].pk).update(**change)
        answer = upload(client, json_lines(exported[wanted]))
        assert answer.status_code == 422
        assert answer.json()["error"]["message"].startswith("Line 2: Whoever it comes from")
        assert not Dataset.objects.exists()

        assert upload(client, json_lines(exported[wanted]), leave_out_bad="true").status_code == 201
        version = DatasetVersion.objects.get()
        assert questions(version) == ["Question of alice?", "Question of charlie?"]
        assert version.origin["left_out"]["rows"] == 1
        assert version.origin["left_out"]["first"][0]["code"] == "unwilling"
        rows = DatasetRow.objects.order_by("number").values_list("number", "user")
        assert list(rows) == [(0, people[0].pk), (1, people[2].pk)]

    def test_who_did_not_allow_it_then_does_not_by_allowing_it_now(self, client, people, exported):
        Feedback.objects.filter(user=people[0]).update(consented_at=None)
        assert upload(client, json_lines(exported["sft"])).status_code == 422

    def test_who_says_the_same_has_a_row_each(self, client, people):
        for user in people:
            teach(user, "The same question?")
        exported = [row.data for row in export.rows("sft")]
        upload(client, json_lines(exported))
        rows = DatasetRow.objects.order_by("number").values_list("user", flat=True)
        assert list(rows) == [user.pk for user in people]
        User.objects.filter(pk=people[0].pk).update(training_consent_at=None)
        upload(client, json_lines(exported[1:]), name="Later")
        rows = DatasetRow.objects.filter(version__dataset__name="Later").order_by("number")
        assert list(rows.values_list("user", flat=True)) == [people[1].pk, people[2].pk]


def files_of(root) -> list[str]:
    return sorted(path.parent.name for path in root.rglob("*.jsonl"))


class TestErasure:
    @pytest.fixture
    def version(self, client, people):
        for user in people:
            teach(user, f"Question of {user.username}?")
        build(client)
        return DatasetVersion.objects.get()

    def test_their_rows_leave_all_data_sets_and_the_others_stay(self, version, people, root):
        receipt = erasure.erase(people[0], actor=None)

        assert receipt.counts["dataset_versions"] == receipt.counts["dataset_rows"] == 1
        version.refresh_from_db()
        assert version.withdrawn_at is not None
        newest = DatasetVersion.objects.get(number=2)
        assert questions(newest) == ["Question of bob?", "Question of charlie?"]
        assert newest.origin == {"source": "erasure", "of": 1}
        assert newest.report["tokens"]["longest"] > 0
        assert list(newest.rows.order_by("number").values_list("number", "user")) == [
            (0, people[1].pk),
            (1, people[2].pk),
        ]
        assert files_of(root) == [str(newest.pk)]
        assert b"alice" not in b"".join(path.read_bytes() for path in root.rglob("*.jsonl"))
        assert AuditEvent.objects.get(kind="dataset_withdrawn").data["version"] == 1

    def test_what_was_trained_on_them_is_marked_and_what_trains_is_cancelled(self, version):
        done, running = make_run(version=version), make_run(version=version, status=RunStatus.RUNNING)
        adapter, other = make_adapter(done), make_adapter(make_run())
        receipt = erasure.erase(User.objects.get(username="alice"), actor=None)

        assert receipt.counts["adapters_withdrawn"] == 1
        assert Adapter.objects.get(pk=adapter.pk).withdrawn_at is not None
        assert Adapter.objects.get(pk=other.pk).withdrawn_at is None
        assert TrainingRun.objects.get(pk=running.pk).cancel_requested_at is not None
        assert TrainingRun.objects.get(pk=done.pk).cancel_requested_at is None

    @pytest.mark.django_db(transaction=True)
    def test_one_that_died_before_the_files_of_adapters_were_gone_is_done_again(
        self, version, people, monkeypatch, settings, tmp_path
    ):
        settings.ADAPTERS_ROOT = tmp_path / "adapters"
        folder = settings.ADAPTERS_ROOT / make_adapter(make_run(version=version)).name
        folder.mkdir(parents=True)
        (folder / "adapter_model.safetensors").write_text("what alice wrote")

        class Died(BaseException):
            pass

        def die(*_args, **_options):
            raise Died

        with monkeypatch.context() as patch:
            patch.setattr(promotion.shutil, "rmtree", die)
            with pytest.raises(Died):
                erasure.erase(people[0], actor=None)
        assert folder.exists()

        erasure.erase(User.objects.get(pk=people[0].pk), actor=None)
        assert not folder.exists()

    @pytest.mark.django_db(transaction=True)
    def test_files_of_adapters_that_cannot_be_removed_leave_it_unfinished(
        self, version, people, monkeypatch, settings, tmp_path
    ):
        settings.ADAPTERS_ROOT = tmp_path / "adapters"
        folder = settings.ADAPTERS_ROOT / make_adapter(make_run(version=version)).name
        folder.mkdir(parents=True)

        def refuse(*_args, ignore_errors=False):
            if not ignore_errors:
                raise PermissionError("not ours")

        with monkeypatch.context() as patch:
            patch.setattr(promotion.shutil, "rmtree", refuse)
            with pytest.raises(ErasureUnfinished):
                erasure.erase(people[0], actor=None)
        assert DatasetRow.objects.filter(user=people[0]).exists()

        erasure.erase(people[0], actor=None)
        assert not folder.exists()

    def test_one_row_that_is_left_is_no_version(self, version, people, root):
        for user in people[:2]:
            erasure.erase(user, actor=None)

        assert list(DatasetVersion.objects.usable()) == []
        assert DatasetVersion.objects.count() == 2
        assert files_of(root) == []

    def test_who_allows_it_no_more_is_not_in_the_version_that_takes_its_place(self, version, people, root):
        teach(people[2], "Another one?")
        client = Client(headers=bearer(User.objects.get(username="olga")))
        build(client)
        User.objects.filter(pk=people[1].pk).update(training_consent_at=None)
        erasure.erase(people[0], actor=None)

        newest = DatasetVersion.objects.usable().get()
        assert questions(newest) == ["Question of charlie?", "Another one?"]

    def test_older_versions_go_without_a_successor(self, version, client, people, root):
        User.objects.filter(pk=people[0].pk).update(training_consent_at=None)
        teach(people[1], "Another one?")
        build(client)
        erasure.erase(people[0], actor=None)

        assert list(DatasetVersion.objects.usable().values_list("number", flat=True)) == [2]
        assert DatasetVersion.objects.count() == 2

    def test_those_rows_cannot_be_brought_back(self, version, client, people):
        [alices, *_] = exported = [row.data for row in export.rows("sft")]
        erasure.erase(people[0], actor=None)
        answer = upload(client, json_lines(exported), name="Corrections")

        assert alices["messages"][0]["content"] == "Question of alice?"
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "dataset_withdrawn")
        assert build(client).status_code == 200, "what is left is there already"

    def test_a_store_that_fails_leaves_it_unfinished_and_it_is_done_again(
        self, version, people, monkeypatch, root
    ):
        remove = storage.remove
        monkeypatch.setattr(storage, "remove", lambda pk: (_ for _ in ()).throw(OSError("away")))
        with pytest.raises(ErasureUnfinished):
            erasure.erase(people[0], actor=None)
        assert DatasetRow.objects.filter(user=people[0]).exists()

        monkeypatch.setattr(storage, "remove", remove)
        erasure.erase(people[0], actor=None)
        assert files_of(root) == [str(DatasetVersion.objects.get(number=2).pk)]
        assert DatasetVersion.objects.count() == 2

    def test_a_full_disk_leaves_it_unfinished_too(self, version, people, monkeypatch):
        def full(*args):
            raise DiskFull

        monkeypatch.setattr(storage.Draft, "keep", full)
        with pytest.raises(ErasureUnfinished):
            erasure.erase(people[0], actor=None)
        assert DatasetVersion.objects.usable().count() == 1, "all of it or nothing"

    def test_a_file_that_is_lost_already_keeps_nobody(self, version, people):
        storage.remove(version.pk)
        erasure.erase(people[0], actor=None)
        assert not DatasetVersion.objects.usable().exists()

    def test_a_set_that_has_nothing_of_them_stays_as_it_is(self, version, client, people, root):
        foreign = [{"prompt": f"{at}?", "completion": "x"} for at in range(2)]
        upload(client, json_lines(foreign), name="Other")
        erasure.erase(people[0], actor=None)
        assert DatasetVersion.objects.get(dataset__name="Other").withdrawn_at is None

    def test_who_is_being_erased_is_in_no_version_that_is_built_meanwhile(self, people, client):
        """Their account is locked out first, so a build that ends later sees it and begins anew."""
        for user in people:
            teach(user, f"Question of {user.username}?")
        with transaction.atomic():
            people[0].is_active = False
            people[0].save()
        build(client)
        assert questions(DatasetVersion.objects.get()) == ["Question of bob?", "Question of charlie?"]

    def test_a_person_can_download_where_their_words_are(self, version, people):
        adapter = make_adapter(make_run(version=version))
        [entry] = export_of(people[0])["training"]
        assert (entry["dataset"], entry["version"], entry["rows"]) == ("Corrections", 1, 1)
        assert (entry["withdrawn_at"], entry["adapters"]) == (None, [adapter.name])
