"""Addresses and forms of the admin that ask for what is not: each is answered, and nothing fails."""

import pytest
from django.contrib.auth.hashers import get_hasher

from conftest import hashed_password, sign_in_client
from llmsite.tests.test_admin import ACTIONS, REGISTRY, address

pytestmark = pytest.mark.django_db


@pytest.fixture
def boss(client, people):
    people["superuser"].password = hashed_password(get_hasher().algorithm)
    people["superuser"].save()
    sign_in_client(client, people["superuser"])
    return client


@pytest.mark.parametrize("query", ["created_at__gte=nonsense", "created_at__year=99999"])
def test_an_export_of_a_filter_that_is_none_leads_to_the_list(boss, query):
    answer = boss.get(f"/admin/accounts/auditevent/export/?{query}")
    assert (answer.status_code, answer["Location"]) == (302, "/admin/accounts/auditevent/?e=1")


@pytest.mark.parametrize("pk", ["nonsense", "\0", "9" * 30])
def test_an_id_that_is_none_selects_no_row(boss, objects, pk):
    for label, name in ACTIONS:
        answer = boss.post(address(label, "changelist"), {"action": name, "_selected_action": [pk]})
        # Nothing is selected, or nothing of what is selected is there.
        assert answer.status_code == 302 or list(answer.context["rows"]) == [], label


@pytest.mark.parametrize("field", [("accounts", "team", "members"), ("feedback", "feedback", "user")])
def test_a_search_for_no_text_finds_nothing(boss, objects, field):
    names = dict(zip(("app_label", "model_name", "field_name"), field, strict=True))
    found = boss.get("/admin/autocomplete/", {"term": "\0", **names})
    assert found.json()["results"] == []


@pytest.mark.django_db(transaction=True)
def test_a_filter_that_no_database_takes_shows_the_list_without_it(boss, objects):
    """Neither PostgreSQL nor a calendar has these; the transactions are the site's own."""
    late = "created_at__gte=9999-12-31T23:59:59-23:00"
    queries = {
        "feedback.Feedback": "status__exact=%00",
        "accounts.Session": late,
        "accounts.AuditEvent": late,
    }
    for label, query in queries.items():
        answer = boss.get(f"{address(label, 'changelist')}?{query}")
        assert answer.status_code in (200, 302), label


@pytest.mark.parametrize("pk", ["%00", "9" * 30, "_5F", "x" * 300, "a/b", "%ED%A0%80"])
def test_a_page_of_no_row_is_not_there(boss, objects, pk):
    for label in REGISTRY:
        for page in ("change", "history", "delete", "open"):
            answer = boss.get(f"{address(label, 'changelist')}{pk}/{page}/")
            assert answer.status_code in (302, 403, 404), (label, page)
