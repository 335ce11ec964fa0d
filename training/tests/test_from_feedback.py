"""From feedback to data sets, and exports that come back as files."""

import pytest

from accounts.models import User
from feedback import export, review
from feedback.models import Example, Feedback, ReviewStatus
from llmsite.core.errors import DatabaseAway, RunRefused, describe
from training import lineage
from training.importing import from_feedback
from training.models import Dataset, DatasetRow, DatasetVersion
from training.starting import start_run
from training.tests.feedback_sets import build, questions, teach
from training.tests.files import json_lines, upload

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("root")]


class TestFromFeedback:
    @pytest.mark.parametrize(("wanted", "layout"), [("sft", "sft"), ("dpo", "dpo"), ("kto", "kto")])
    def test_each_shape_with_whose_rows_they_are(self, program, people, wanted, layout):
        taught = [teach(user, f"Question of {user.username}?") for user in people]
        answer = build(program, wanted)

        assert answer.status_code == 201
        version = DatasetVersion.objects.get()
        assert (version.layout, version.row_count, version.origin["source"]) == (layout, 3, "feedback")
        assert questions(version) == [f"Question of {user.username}?" for user in people]
        rows = DatasetRow.objects.order_by("number").values_list("number", "feedback", "user")
        assert list(rows) == [(at, one.pk, one.user_id) for at, one in enumerate(taught)]

    def test_only_what_is_allowed_then_and_now(self, program, people, make_user):
        alice, bob, charlie = people
        teach(make_user("dora"), "Never allowed?")
        for user in people:
            teach(user, f"Question of {user.username}?")
        User.objects.filter(pk=bob.pk).update(training_consent_at=None)
        User.objects.filter(pk=charlie.pk).update(is_active=False)
        teach(alice, "Another one?")
        build(program)

        assert questions(DatasetVersion.objects.get()) == ["Question of alice?", "Another one?"]

    def test_consent_that_is_taken_back_is_seen_and_holds_for_the_next_version(self, program, people):
        for user in people:
            teach(user, f"Question of {user.username}?")
        build(program)
        User.objects.filter(pk=people[0].pk).update(training_consent_at=None)
        Feedback.objects.filter(user=people[1]).update(status=ReviewStatus.OPEN)
        first = DatasetVersion.objects.get()
        seen = lineage.people_in(first)
        assert (seen.people, seen.rows, seen.unwilling, seen.revoked) == (3, 3, 1, 1)
        Feedback.objects.filter(user=people[1]).update(status=ReviewStatus.ACCEPTED)

        assert build(program).status_code == 201
        assert questions(DatasetVersion.objects.get(number=2)) == ["Question of bob?", "Question of charlie?"]
        assert questions(first)[0] == "Question of alice?", "a version never changes"

    @pytest.mark.parametrize("wanted", ["sft", "dpo"])
    def test_what_a_curator_revokes_is_trained_on_no_more(self, program, people, wanted):
        taught = [teach(user, f"Question of {user.username}?") for user in people]
        build(program, wanted)
        review.revoke(taught[0], people[2])
        first = DatasetVersion.objects.get()
        with pytest.raises(RunRefused) as refused:
            start_run(first, user=None)
        assert describe(refused.value).message.startswith("Feedback in this version is accepted no more")

        assert build(program, wanted).status_code == 201
        newest = DatasetVersion.objects.get(number=2)
        assert questions(newest) == ["Question of bob?", "Question of charlie?"]
        assert (lineage.obstacle(first), lineage.obstacle(newest)) == ("revoked", "")

    def test_what_its_author_deletes_is_trained_on_no_more(self, program, people):
        taught = [teach(user, f"Question of {user.username}?") for user in people]
        build(program)
        taught[0].message.conversation.delete()
        assert lineage.obstacle(DatasetVersion.objects.get()) == "revoked"

    def test_a_thumb_has_to_be_rejected_for_that(self, program, people):
        taught = [teach(user, f"Question of {user.username}?") for user in people]
        build(program, "kto")
        review.revoke(taught[0], people[2])
        assert lineage.obstacle(DatasetVersion.objects.get()) == ""
        review.reject(taught[0], people[2])
        assert lineage.obstacle(DatasetVersion.objects.get()) == "revoked"

    def test_the_same_feedback_is_the_same_version(self, program, people):
        for user in people:
            teach(user, f"Question of {user.username}?")
        assert [build(program).status_code for _ in range(2)] == [201, 200]
        assert (DatasetVersion.objects.count(), DatasetRow.objects.count()) == (1, 3)

    @pytest.mark.parametrize("wanted", ["sft", "dpo", "kto"])
    def test_without_feedback_there_is_none(self, program, people, wanted):
        answer = build(program, wanted)
        assert answer.status_code == 422
        assert answer.json()["error"]["message"].startswith("There is no accepted feedback")
        teach(people[0], "One?")
        assert "this one has 1" in build(program, wanted).json()["error"]["message"]
        assert not Dataset.objects.exists()

    @pytest.mark.parametrize("wanted", ["csv", "text", "", 7, None])
    def test_other_shapes_are_refused(self, program, wanted):
        assert (build(program, wanted).status_code, Dataset.objects.exists()) == (400, False)

    def test_a_row_that_teaches_nothing_is_left_out_and_named(self, program, people):
        for user in people:
            teach(user, f"Question of {user.username}?")
        Example.objects.filter(kind="preference", feedback__user=people[0]).update(rejected=" Canberra. ")
        build(program, "dpo")

        version = DatasetVersion.objects.get()
        assert (version.row_count, version.origin["left_out"]["first"][0]["code"]) == (2, "same_answers")
        assert list(DatasetRow.objects.order_by("number").values_list("user", flat=True)) == [
            people[1].pk,
            people[2].pk,
        ]

    def test_what_models_are_examined_with_is_told(self, program, people):
        for user in people:
            teach(user, f"Question of {user.username}?")
        Example.objects.filter(kind="evaluation", feedback__user=people[0]).delete()
        build(program)
        assert DatasetVersion.objects.get().report["leaks"]["cases"] == {"rows": 2, "lines": [2, 3]}

    def test_who_changes_their_mind_while_it_is_built_is_not_in_it(self, program, people, monkeypatch):
        """Between the reading and the end; the version is built anew without them."""
        for user in people:
            teach(user, f"Question of {user.username}?")
        reading = iter([lambda: User.objects.filter(pk=people[0].pk).update(training_consent_at=None)])
        rows = export.rows

        def read_and_change(wanted):
            yield from rows(wanted)
            next(reading, lambda: None)()

        monkeypatch.setattr(export, "rows", read_and_change)
        assert build(program).status_code == 201
        assert questions(DatasetVersion.objects.get()) == ["Question of bob?", "Question of charlie?"]

    def test_where_minds_change_without_end_it_says_to_come_again(self, operator, people, monkeypatch):
        for user in people:
            teach(user, f"Question of {user.username}?")
        monkeypatch.setattr("training.versions.willing", lambda users, **_options: set())
        with pytest.raises(DatabaseAway):
            from_feedback("sft", dataset="Corrections", user=operator)
        assert not Dataset.objects.exists()

    def test_an_export_that_comes_back_as_a_file_names_the_people_in_it(self, program, people):
        for user in people:
            teach(user, f"Question of {user.username}?")
        exported = [row.data for row in export.rows("sft")]
        foreign = {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}
        upload(program, json_lines([foreign, *exported]))

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
    def test_each_kind_names_its_people(self, program, people, exported, wanted):
        assert upload(program, json_lines(exported[wanted])).status_code == 201
        rows = DatasetRow.objects.order_by("number").values_list("number", "user")
        assert list(rows) == [(at, user.pk) for at, user in enumerate(people)]

    @pytest.mark.parametrize("wanted", ["sft", "dpo", "kto"])
    @pytest.mark.parametrize(
        "change", [{"training_consent_at": None}, {"is_active": False}], ids=["withdrawn", "closed"]
    )
    def test_who_allows_it_no_more_is_named_and_can_be_left_out(
        self, program, people, exported, wanted, change
    ):
        User.objects.filter(pk=people[1].pk).update(**change)
        answer = upload(program, json_lines(exported[wanted]))
        assert answer.status_code == 422
        assert answer.json()["error"]["message"].startswith("Line 2: Whoever it comes from")
        assert not Dataset.objects.exists()

        assert upload(program, json_lines(exported[wanted]), leave_out_bad="true").status_code == 201
        version = DatasetVersion.objects.get()
        assert questions(version) == ["Question of alice?", "Question of charlie?"]
        assert version.origin["left_out"]["rows"] == 1
        assert version.origin["left_out"]["first"][0]["code"] == "unwilling"
        rows = DatasetRow.objects.order_by("number").values_list("number", "user")
        assert list(rows) == [(0, people[0].pk), (1, people[2].pk)]

    def test_who_did_not_allow_it_then_does_not_by_allowing_it_now(self, program, people, exported):
        Feedback.objects.filter(user=people[0]).update(consented_at=None)
        assert upload(program, json_lines(exported["sft"])).status_code == 422

    def test_who_says_the_same_has_a_row_each(self, program, people):
        for user in people:
            teach(user, "The same question?")
        exported = [row.data for row in export.rows("sft")]
        upload(program, json_lines(exported))
        rows = DatasetRow.objects.order_by("number").values_list("user", flat=True)
        assert list(rows) == [user.pk for user in people]
        User.objects.filter(pk=people[0].pk).update(training_consent_at=None)
        upload(program, json_lines(exported[1:]), name="Later")
        rows = DatasetRow.objects.filter(version__dataset__name="Later").order_by("number")
        assert list(rows.values_list("user", flat=True)) == [people[1].pk, people[2].pk]
