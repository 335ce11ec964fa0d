"""What becomes of data sets, and of what was trained on them, when somebody in them goes."""

import pytest
from django.db import connection, transaction
from django.test import Client

from accounts import erasure
from accounts.export import export_of
from accounts.models import AuditEvent, User
from conftest import bearer
from feedback import export, review
from inference.models import Adapter
from llmsite.core.errors import DiskFull, ErasureUnfinished
from training import lineage, promotion, storage, versions
from training.models import DatasetRow, DatasetVersion, RunStatus, TrainingRun
from training.rows import read_rows
from training.tests.feedback_sets import build, questions, teach
from training.tests.files import json_lines, upload
from training.tests.making import make_adapter, make_run

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("root")]


def files_of(root) -> list[str]:
    return sorted(path.parent.name for path in root.rglob("*.jsonl"))


def meanwhile(monkeypatch, change) -> None:
    """Let something happen between the first copying and its end."""
    once, report_on = iter([change]), versions.report_on

    def changed(facts):
        next(once, lambda: None)()
        return report_on(facts)

    monkeypatch.setattr(versions, "report_on", changed)


def ever_fewer():
    """Whoever was willing when they were asked is not when it counts."""
    return lambda users, locked=False: set() if locked else set(users)


class TestErasure:
    @pytest.fixture
    def version(self, program, people):
        for user in people:
            teach(user, f"Question of {user.username}?")
        build(program)
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
        program = Client(headers=bearer(User.objects.get(username="olga")))
        build(program)
        User.objects.filter(pk=people[1].pk).update(training_consent_at=None)
        erasure.erase(people[0], actor=None)

        newest = DatasetVersion.objects.usable().get()
        assert questions(newest) == ["Question of charlie?", "Another one?"]

    def test_nor_is_what_a_curator_has_revoked(self, version, program, people):
        teach(people[2], "Another one?")
        build(program)
        review.revoke(people[1].feedback.get(), people[2])
        erasure.erase(people[0], actor=None)
        assert questions(DatasetVersion.objects.usable().get()) == ["Question of charlie?", "Another one?"]

    def test_older_versions_go_without_a_successor(self, version, program, people, root):
        User.objects.filter(pk=people[0].pk).update(training_consent_at=None)
        teach(people[1], "Another one?")
        build(program)
        erasure.erase(people[0], actor=None)

        assert list(DatasetVersion.objects.usable().values_list("number", flat=True)) == [2]
        assert DatasetVersion.objects.count() == 2

    @pytest.mark.django_db(transaction=True)
    def test_nobody_waits_for_the_database_while_the_rows_are_copied(self, version, people, monkeypatch):
        held = []

        def watched(version):
            for row in read_rows(version):
                held.append(connection.in_atomic_block)
                yield row

        monkeypatch.setattr(lineage, "read_rows", watched)
        erasure.erase(people[0], actor=None)
        assert held == [False] * 3

    def test_who_changes_their_mind_while_they_are_copied_is_not_in_it(
        self, version, program, people, monkeypatch
    ):
        teach(people[2], "Another one?")
        build(program)
        meanwhile(monkeypatch, lambda: User.objects.filter(pk=people[1].pk).update(training_consent_at=None))
        erasure.erase(people[0], actor=None)
        assert questions(DatasetVersion.objects.usable().get()) == ["Question of charlie?", "Another one?"]

    def test_a_version_that_is_made_while_they_are_copied_stays_the_newest(
        self, version, program, people, monkeypatch, root
    ):
        teach(people[1], "Another one?")
        meanwhile(monkeypatch, lambda: build(program))
        erasure.erase(User.objects.get(pk=people[0].pk), actor=None)
        newest = DatasetVersion.objects.usable().get()
        assert (newest.number, newest.origin["source"]) == (2, "feedback")
        assert files_of(root) == [str(newest.pk)]

    def test_where_it_changes_all_the_time_it_is_unfinished(self, version, people, monkeypatch, root):
        monkeypatch.setattr("training.versions.willing", ever_fewer())
        with pytest.raises(ErasureUnfinished):
            erasure.erase(people[0], actor=None)
        assert DatasetVersion.objects.usable().get() == version
        assert files_of(root) == [str(version.pk)]

    def test_those_rows_cannot_be_brought_back(self, version, program, people):
        [alices, *_] = exported = [row.data for row in export.rows("sft")]
        erasure.erase(people[0], actor=None)
        answer = upload(program, json_lines(exported), name="Corrections")

        assert alices["messages"][0]["content"] == "Question of alice?"
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "dataset_withdrawn")
        assert build(program).status_code == 200, "what is left is there already"

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

    def test_a_set_that_has_nothing_of_them_stays_as_it_is(self, version, program, people, root):
        foreign = [{"prompt": f"{at}?", "completion": "x"} for at in range(2)]
        upload(program, json_lines(foreign), name="Other")
        erasure.erase(people[0], actor=None)
        assert DatasetVersion.objects.get(dataset__name="Other").withdrawn_at is None

    def test_who_is_being_erased_is_in_no_version_that_is_built_meanwhile(self, people, program):
        """Their account is locked out first, so a build that ends later sees it and begins anew."""
        for user in people:
            teach(user, f"Question of {user.username}?")
        with transaction.atomic():
            people[0].is_active = False
            people[0].save()
        build(program)
        assert questions(DatasetVersion.objects.get()) == ["Question of bob?", "Question of charlie?"]

    def test_a_person_can_download_where_their_words_are(self, version, people):
        adapter = make_adapter(make_run(version=version))
        [entry] = export_of(people[0])["training"]
        assert (entry["dataset"], entry["version"], entry["rows"]) == ("Corrections", 1, 1)
        assert (entry["withdrawn_at"], entry["adapters"]) == (None, [adapter.name])
