"""The queue of feedback, without its script."""

from datetime import timedelta
from itertools import chain, pairwise

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from conftest import sign_in_client
from feedback.models import Feedback
from feedback.models.feedback import CLAIM_LASTS
from feedback.queue import Filters, neighbours_of, page_of
from feedback.tests.making import QUESTION, make_answer, make_feedback

pytestmark = pytest.mark.django_db

HOSTILE = "<script>alert('xss')</script>\"'><img src=x onerror=alert(1)>"


def queue(client, user, **query):
    sign_in_client(client, user)
    return client.get("/feedback/", query)


def shown(answer) -> list:
    return [line.pk for line, _ in answer.context["entries"]]


def text_of(answer) -> str:
    return answer.content.decode()


def test_what_waits_is_listed_newest_first_with_what_a_curator_chooses_by(client, alice, curator):
    now = timezone.now()
    old = make_feedback(alice, comment="No, it is not.", tags=["wrong"], created_at=now - timedelta(hours=1))
    new = make_feedback(alice, rating=1, created_at=now)
    make_feedback(alice, status="rejected")

    answer = queue(client, curator)

    assert shown(answer) == [new.pk, old.pk]
    text = text_of(answer)
    assert QUESTION in text
    assert "No, it is not." in text
    assert "not true" in text
    assert "scripted" in text
    assert f"/feedback/{old.pk}/" in text


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, {"plain", "tagged", "corrected", "other model", "good"}),
        ({"rating": "-1"}, {"plain", "tagged", "corrected", "other model"}),
        ({"rating": "1"}, {"good"}),
        ({"tag": "style"}, {"tagged"}),
        ({"corrected": "1"}, {"corrected"}),
        ({"model": "echo"}, {"other model"}),
        ({"model": "unheard-of"}, set()),
        ({"status": "accepted"}, {"accepted"}),
        ({"status": "rejected"}, {"rejected"}),
        ({"rating": "-1", "corrected": "1", "tag": "style"}, set()),
        # What is no filter filters nothing.
        ({"rating": "7", "tag": "nonsense", "status": "x", "corrected": "no", "before": "x", "after": "-"}, {
            "plain", "tagged", "corrected", "other model", "good",
        }),
        ({"model": "a\0b"}, set()),
    ],
)  # fmt: skip
def test_the_filters_of_the_address_choose(client, alice, curator, query, found):
    made = {
        "plain": make_feedback(alice),
        "tagged": make_feedback(alice, tags=["wrong", "style"]),
        "corrected": make_feedback(alice, correction="Canberra."),
        "other model": make_feedback(alice, make_answer(alice, model_alias="echo")),
        "good": make_feedback(alice, rating=1),
        "accepted": make_feedback(alice, status="accepted", scope="author"),
        "rejected": make_feedback(alice, status="rejected"),
    }

    answer = queue(client, curator, **query)

    assert answer.status_code == 200
    assert set(shown(answer)) == {made[name].pk for name in found}


def test_an_entry_says_who_is_at_work_on_it_until_the_claim_has_run_out(client, alice, curator, make_curator):
    other, now = make_curator("olga"), timezone.now()
    feedback = make_feedback(alice, claimed_by=other, claimed_at=now)

    assert "claimed by olga" in text_of(queue(client, curator))
    assert "claimed by you" in text_of(queue(client, other))
    Feedback.objects.filter(pk=feedback.pk).update(claimed_at=now - CLAIM_LASTS - timedelta(seconds=1))
    assert "claimed by" not in text_of(queue(client, curator))


def test_an_empty_queue_says_what_would_be_in_it(client, curator):
    assert "Nothing waits for review." in text_of(queue(client, curator))
    assert "Nothing matches these filters." in text_of(queue(client, curator, rating="1"))


def test_what_people_write_is_text_and_nothing_else(client, alice, curator):
    message = make_answer(alice, HOSTILE, HOSTILE, model_alias=HOSTILE)
    feedback = make_feedback(alice, message, comment=HOSTILE, correction=HOSTILE, tags=[HOSTILE])
    # Filters come back in the addresses of the page.
    for path in ("/feedback/", f"/feedback/{feedback.pk}/"):
        sign_in_client(client, curator)
        answer = client.get(path, {"model": HOSTILE})

        assert answer.status_code == 200
        assert "<script>alert" not in text_of(answer)
        assert "<img" not in text_of(answer)
        assert "&lt;script&gt;alert" in text_of(answer)


def test_the_page_speaks_spanish(client, alice, curator):
    make_feedback(alice, tags=["wrong"])
    sign_in_client(client, curator)

    text = text_of(client.get("/feedback/", headers={"Accept-Language": "es"}))

    assert "Valoraciones por revisar" in text


# --- Who may ------------------------------------------------------------------------------------------


def test_others_are_refused_alike_whether_the_entry_is_there_or_not(client, alice, bob):
    feedback = make_feedback(alice)
    sign_in_client(client, bob)
    bodies = set()
    for pk in (feedback.pk, "00000000-0000-0000-0000-000000000001"):
        for name in ("claim", "release", "accept", "reject", "revoke"):
            assert client.post(f"/feedback/{pk}/{name}/").status_code == 403
        answer = client.get(f"/feedback/{pk}/")
        assert answer.status_code == 403
        bodies.add(text_of(answer).replace(str(pk), "").replace(answer["X-Request-ID"], ""))
    assert len(bodies) == 1
    assert client.get("/feedback/").status_code == 403
    # Nor do authors see there what is said of their own answers.
    sign_in_client(client, alice)
    assert client.get(f"/feedback/{feedback.pk}/").status_code == 403


def test_only_curators_are_shown_the_way_there(client, alice, curator):
    sign_in_client(client, curator)
    assert 'href="/feedback/"' in text_of(client.get("/account/"))
    sign_in_client(client, alice)
    assert 'href="/feedback/"' not in text_of(client.get("/account/"))


# --- Paging -------------------------------------------------------------------------------------------


def test_pages_lead_on_and_back_and_miss_and_repeat_nothing(client, alice, curator, monkeypatch):
    monkeypatch.setattr("feedback.queue.SHOWN", 2)
    moment = timezone.now()
    # Three of one moment: the id decides then.
    moments = [moment, moment, moment, moment - timedelta(1), moment - timedelta(2)]
    made = [make_feedback(alice, created_at=at) for at in moments]
    expected = [row.pk for row in sorted(made, key=lambda row: (-row.created_at.timestamp(), row.pk))]
    make_feedback(alice, rating=1)

    def follow(answer, way) -> list:
        seen = [shown(answer)]
        while answer.context[way]:
            answer = client.get(answer.context[way])
            seen.append(shown(answer))
        return [seen, answer]

    on, last = follow(queue(client, curator, rating="-1"), "older")
    back, first = follow(last, "newer")

    assert list(chain(*on)) == expected
    assert back[-1] == on[0]
    assert sorted(chain(*back)) == sorted(expected)
    assert first.context["newer"] == ""


def test_a_place_that_is_not_there_any_more_is_the_beginning(client, alice, curator):
    feedback = make_feedback(alice)
    for name in ("before", "after"):
        answer = queue(client, curator, **{name: "00000000-0000-0000-0000-000000000001"})
        assert shown(answer) == [feedback.pk]


def test_neighbours_are_those_of_the_list(alice, curator):
    for _ in range(4):
        make_feedback(alice)
        make_feedback(alice, rating=1)
    filters = Filters(rating=-1)
    listed = [line.pk for line in page_of(curator, filters).lines]
    entries = Feedback.objects.in_bulk(listed)

    for before, after in pairwise(listed):
        assert neighbours_of(curator, entries[before], filters)[1] == after
        assert neighbours_of(curator, entries[after], filters)[0] == before
    assert neighbours_of(curator, entries[listed[0]], filters)[0] is None
    assert neighbours_of(curator, entries[listed[-1]], filters)[1] is None


# --- What it costs ------------------------------------------------------------------------------------


def test_more_feedback_asks_no_more_of_the_database(client, alice, curator):
    def queries(**query) -> int:
        with CaptureQueriesContext(connection) as found:
            assert queue(client, curator, **query).status_code == 200
        return len(found)

    make_feedback(alice, tags=["wrong"], comment="x", correction="y")
    queries()  # what is asked once a process
    one = queries(rating="-1", corrected="1", tag="wrong")
    for number in range(12):
        make_feedback(alice, tags=["wrong"], correction=f"It is {number}.", claimed_by=curator,
                      claimed_at=timezone.now())  # fmt: skip

    assert queries(rating="-1", corrected="1", tag="wrong") == one


def test_no_long_text_is_read_for_the_list(alice, curator):
    answer = make_answer(alice, "q" * 5_000, "a" * 5_000)
    make_feedback(alice, answer, comment="c" * 4_000, correction="b" * 5_000)

    (line,) = page_of(curator, Filters()).lines

    assert (len(line.question), len(line.said), line.has_correction) == (200, 200, True)


@pytest.mark.parametrize("filters", [Filters(), Filters(rating=-1), Filters(corrected=True)])
def test_the_order_of_a_page_comes_from_an_index(alice, curator, filters):
    """So that the first page costs the same, however much there is."""
    first = make_feedback(alice)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # With so few rows it would rather read them all.
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute("SET LOCAL enable_sort = off")
    with CaptureQueriesContext(connection) as found:
        page_of(curator, filters)
        page_of(curator, filters, before=first.pk)
    lists = [query["sql"] for query in found if "LIMIT 51" in query["sql"]]
    assert len(lists) == 2
    explain = "EXPLAIN " if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN "
    with connection.cursor() as cursor:
        for sql in lists:
            cursor.execute(explain + sql)
            plan = "\n".join(str(row) for row in cursor.fetchall())
            # Which one a planner takes of so few rows is its own affair.
            assert "INDEX" in plan.upper(), plan
            assert "Sort" not in plan, plan
            assert "TEMP B-TREE" not in plan, plan
