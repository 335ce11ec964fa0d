"""Every table in the admin: which are there, what a list costs, what is hidden, and markup as text."""

import json
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.hashers import get_hasher
from django.contrib.auth.models import Group, Permission
from django.db import DataError, IntegrityError, connection, models, transaction
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.admin import HistoryAdmin, PrivateAdmin, RowAction
from accounts.models import AuditEvent, User
from accounts.models.audit import AuditKind
from conftest import PASSWORD, hashed_password, sign_in_client
from inference.models import Conversation
from llmsite.admin_site import GROUPS
from llmsite.tests.rights import ADMIN_TABLES

pytestmark = pytest.mark.django_db

APPS = ("accounts", "embeddings", "inference", "feedback", "training", "dashboard", "django_tasks_database")
NOT_REGISTERED = {
    "accounts.RefreshToken": "digests of credentials; the sign-in that they belong to is registered",
    "accounts.RoleGrant": "what `migrate` has given to roles; the roles are registered",
    "inference.ModelFallback": "a part of the page of its model",
    "inference.Version": "counters by which processes see that something changed",
    "inference.EvictedAnswer": "keys of answers, for a day",
    "inference.IdempotencyKey": "digests of keys and bodies, for a day",
    "dashboard.AnswerSum": "sums, which the dashboard shows",
    "dashboard.LatencySum": "sums, which the dashboard shows",
    "dashboard.AccountSum": "sums, which the dashboard shows",
    "dashboard.Progress": "a counter by which readers see that sums changed",
}
CHANGEABLE = {"accounts.User", "accounts.Team", "auth.Group", "inference.ChatModelConfig"}
CANARY = "canary-in-a-private-text"
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\u202e\x1b[31m"
REASON = "A complaint was filed about it."

REGISTRY = {model._meta.label: page for model, page in admin.site._registry.items()}
PRIVATE = {label: page for label, page in REGISTRY.items() if isinstance(page, PrivateAdmin)}
# What PrivateAdmin does not know of: a conversation has a page of its own that shows all of it.
HIDDEN = {label: page.private for label, page in PRIVATE.items()} | {
    "inference.Conversation": ("title", "preface")
}
ACTIONS = [
    (label, action.__name__)
    for label, page in REGISTRY.items()
    for action in page.actions or ()
    if isinstance(action, RowAction)
]


@pytest.fixture
def superuser(people):
    people["superuser"].password = hashed_password(get_hasher().algorithm)
    people["superuser"].save()
    return people["superuser"]


@pytest.fixture
def boss(client, superuser):
    sign_in_client(client, superuser)
    return client


def target_of(label: str, objects: Any) -> Any:
    table = "/".join(label.lower().split("."))
    return getattr(objects, ADMIN_TABLES[table])


def address(label: str, page: str, *args: Any) -> str:
    app, name = label.lower().split(".")
    return reverse(f"admin:{app}_{name}_{page}", args=args)


def pages_of(label: str, objects: Any) -> list[str]:
    pk = target_of(label, objects)
    found = [address(label, "changelist"), *(address(label, page, pk) for page in ("change", "history"))]
    if label in CHANGEABLE - {"auth.Group"}:
        found.append(address(label, "delete", pk))
    return found


def text_of(client: Any, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200, url
    return answer.content.decode()


# --- Which tables are there ---------------------------------------------------------------------------


def test_every_table_is_registered_or_has_a_reason():
    ours = {model._meta.label for app in APPS for model in apps.get_app_config(app).get_models()}

    assert ours - REGISTRY.keys() == NOT_REGISTERED.keys()
    assert REGISTRY.keys() - ours == {"auth.Group"}
    assert {label.lower().replace(".", "/") for label in REGISTRY} == ADMIN_TABLES.keys()


def test_every_table_stands_in_one_group_of_the_first_page():
    shown = [label for _name, _title, labels in GROUPS for label in labels]

    assert sorted(shown) == sorted(REGISTRY)


def test_the_tables_of_costs_and_records_have_the_names_of_the_handbook():
    handbook = (settings.BASE_DIR / "docs" / "administration.md").read_text()
    row = next(line for line in handbook.splitlines() if line.startswith("| Costs and records |"))
    labels = next(labels for name, _, labels in GROUPS if name == "records")
    names = [str(apps.get_model(label)._meta.verbose_name_plural) for label in labels]
    assert row.split("|")[2].strip() == ", ".join(names)


def test_what_is_history_is_only_read():
    assert {label for label, page in REGISTRY.items() if not isinstance(page, HistoryAdmin)} == CHANGEABLE


def test_no_list_search_or_filter_uses_a_hidden_text():
    for label, names in HIDDEN.items():
        page = REGISTRY[label]
        filters = {one for one in page.list_filter if isinstance(one, str)}
        # Whether there is a correction at all may be told.
        used = {*page.list_display, *page.search_fields, *filters, page.date_hierarchy}
        assert not used & set(names), label


def test_a_search_compares_whole_values(boss, objects):
    """So that an index answers it, and no hidden text is told letter by letter."""
    found = {}
    for text in ("owner", "owne", str(objects.generation), str(objects.generation)[:8], "\x00"):
        page = boss.get(address("inference.Generation", "changelist"), {"q": text})
        found[text] = page.context["cl"].result_count if page.context else None

    assert found["owner"] == found[str(objects.generation)] == 1
    assert found["owne"] == found[str(objects.generation)[:8]] == 0


# --- What a list costs --------------------------------------------------------------------------------


@pytest.fixture
def several(objects, people):
    """A few more rows of each table than one, with other owners."""
    from llmsite.tests.world import make_objects

    for name in ("mate", "stranger"):
        with pytest.MonkeyPatch.context() as patch:
            _let_names_differ(patch, name)
            make_objects(people[name])


def _let_names_differ(patch: pytest.MonkeyPatch, name: str) -> None:
    from accounts.models import Team
    from llmsite.tests import world
    from training.models import Dataset, DatasetVersion

    Team.objects.get_or_create(name=f"Team of {name}")[0].members.set([User.objects.get(username=name)])
    Team.objects.get(name="Secret team").members.remove(User.objects.get(username=name))

    def make_dataset(owner: User) -> DatasetVersion:
        dataset = Dataset.objects.create(name=f"Lessons of {name}", created_by=owner)
        return DatasetVersion.objects.create(
            dataset=dataset, number=1, layout="sft", sha256="0" * 64, row_count=2
        )

    patch.setattr(world, "make_dataset", make_dataset)


def test_a_list_takes_few_queries_and_no_more_for_more_rows(boss, several):
    text_of(boss, "/admin/")
    counts = {}
    for label in REGISTRY:
        url = address(label, "changelist")
        with CaptureQueriesContext(connection) as queries:
            text_of(boss, url)
        counts[label] = len(queries)

    assert {label: count for label, count in counts.items() if count >= 12} == {}
    # One more for each row would show: there are three of nearly all.
    assert boss.get(address("inference.Generation", "changelist")).context["cl"].result_count == 3


def test_a_list_counts_no_further_than_it_has_pages(boss, objects, monkeypatch):
    monkeypatch.setattr("accounts.admin.lists.COUNTED", 3)
    User.objects.bulk_create(User(username=f"user{number}") for number in range(10))
    with CaptureQueriesContext(connection) as queries:
        page = text_of(boss, address("accounts.User", "changelist"))

    assert "The first 3 users" in page
    counts = [query["sql"] for query in queries if "COUNT(*)" in query["sql"]]
    assert counts
    assert all("LIMIT 3" in sql for sql in counts)


def test_the_first_page_takes_few_queries(boss, objects):
    text_of(boss, "/admin/")
    with CaptureQueriesContext(connection) as queries:
        page = text_of(boss, "/admin/")

    assert len(queries) < 20
    for place in ("/dashboard/", "/feedback/", "/training/", "/documents/"):
        assert f'href="{place}"' in page
    assert page.count("<canvas") == 4


def test_the_first_page_of_a_curator_has_what_curators_may_see(client, make_user):
    curator = make_user("carla")
    curator.groups.add(Group.objects.get(name="curator"))
    sign_in_client(client, curator)
    page = text_of(client, "/admin/")

    assert 'href="/feedback/"' in page
    assert 'href="/dashboard/"' not in page
    assert "<canvas" not in page
    assert address("feedback.Feedback", "changelist") in page
    assert address("accounts.User", "changelist") not in page


# --- What is hidden -----------------------------------------------------------------------------------


def put(label: str, names: tuple[str, ...], value: str) -> int:
    """Write `value` into these columns of all rows; how many take it."""
    model, taken = apps.get_model(label), 0
    for name in names:
        field = model._meta.get_field(name)
        text: Any = [value] if isinstance(field, models.JSONField) else value[: field.max_length]
        try:
            with transaction.atomic():
                model._base_manager.update(**{name: text})
        except (IntegrityError, DataError, TypeError):
            continue
        taken += 1
    return taken


@pytest.fixture
def secrets(objects):
    """A canary in every private text there is."""
    for label, names in HIDDEN.items():
        assert put(label, names, CANARY) == len(names) or label == "feedback.Example", label
    return objects


def test_no_page_shows_or_loads_a_private_text(boss, secrets):
    text_of(boss, "/admin/")
    for label in REGISTRY:
        for url in pages_of(label, secrets):
            with CaptureQueriesContext(connection) as queries:
                page = text_of(boss, url)
            assert CANARY not in page, url
            if label in PRIVATE and not url.endswith("/history/"):
                table = apps.get_model(label)._meta.db_table
                read = [query["sql"].split("WHERE")[0] for query in queries]
                for name in HIDDEN[label]:
                    assert not [sql for sql in read if f'"{table}"."{name}"' in sql], url
    for url in ("/admin/", "/admin/inference/"):
        assert CANARY not in text_of(boss, url)
    for label in HIDDEN:
        answer = boss.get(address(label, "changelist"), {"q": CANARY})
        assert answer.context["cl"].result_count == 0, label


def test_no_filter_of_ones_own_tells_a_private_text(boss, secrets):
    for label, names in HIDDEN.items():
        for name in names:
            answer = boss.get(address(label, "changelist"), {f"{name}__startswith": CANARY[:4]})
            assert answer.status_code == 400, (label, name)


def test_an_address_that_asks_nonsense_is_answered(boss, objects):
    """A year that no calendar has, a pattern, and an order that no index has."""
    sessions = address("accounts.Session", "changelist")
    generations = address("inference.Generation", "changelist")
    assert boss.get(sessions, {"created_at__year": "99999"}).status_code == 302
    assert boss.get(generations, {"status__regex": "("}).status_code == 400
    with CaptureQueriesContext(connection) as asked:
        assert boss.get(generations, {"o": "1.2.3.4.5"}).status_code == 200
    orders = [one["sql"].rpartition("ORDER BY")[2] for one in asked if "ORDER BY" in one["sql"]]
    assert not [order for order in orders if "status" in order]


@pytest.mark.parametrize("label", PRIVATE)
def test_a_private_text_is_opened_with_a_reason_that_stays(label, boss, superuser, secrets):
    pk = target_of(label, secrets)
    url = address(label, "open", pk)
    assert url in text_of(boss, address(label, "change", pk))

    assert CANARY not in text_of(boss, url)
    assert CANARY not in boss.post(url, {"reason": "too short"}).content.decode()
    assert not AuditEvent.objects.filter(kind=AuditKind.PRIVATE_OPENED).exists()
    opened = boss.post(url, {"reason": REASON})

    assert opened.content.decode().count(CANARY) >= len(HIDDEN[label]) - (label == "feedback.Example")
    event = AuditEvent.objects.get(kind=AuditKind.PRIVATE_OPENED)
    assert event.actor == superuser.pseudonym
    assert event.data == {"table": label.lower(), "row": str(pk), "reason": REASON}
    assert CANARY not in text_of(boss, url)


def test_who_may_look_at_a_table_may_not_open_it(client, make_user, secrets):
    """An operator sees how documents are read and runs end, and not what they say."""
    operator = make_user("olga")
    operator.groups.add(Group.objects.get(name="operator"))
    sign_in_client(client, operator)
    for label in ("embeddings.DocumentVersion", "inference.Generation", "training.TrainingRun"):
        url = address(label, "open", target_of(label, secrets))
        assert url not in text_of(client, address(label, "change", target_of(label, secrets)))
        for answer in (client.get(url), client.post(url, {"reason": REASON})):
            assert answer.status_code == 403, label
            assert CANARY not in answer.content.decode()
    assert not AuditEvent.objects.filter(kind=AuditKind.PRIVATE_OPENED).exists()


def test_who_may_open_texts_needs_the_right_to_see_their_table_too(client, make_user, secrets):
    Group.objects.get(name="curator").permissions.clear()
    reader = make_user("reader")
    reader.groups.add(Group.objects.get(name="curator"))
    codenames = {page.may_open.split(".")[1] for page in PRIVATE.values()}
    reader.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    sign_in_client(client, reader)
    for label in PRIVATE:
        url = address(label, "open", target_of(label, secrets))
        assert client.get(url).status_code == 403, label
        assert client.post(url, {"reason": REASON}).status_code == 403, label
    assert not AuditEvent.objects.filter(kind=AuditKind.PRIVATE_OPENED).exists()


def test_history_is_narrowed_down_by_what_its_filters_offer_alone(rf):
    """Any other column would tell, letter by letter, what is searched nowhere."""
    page = REGISTRY["accounts.AuditEvent"]
    assert page.lookup_allowed("kind__exact", "erased", rf.get("/"))
    for lookup in ("data", "request_id", "network__gte", "id__exact"):
        assert not page.lookup_allowed(lookup, "a", rf.get("/")), lookup


def test_an_answer_for_everybody_is_shown(boss, secrets):
    verified = apps.get_model("inference.VerifiedAnswer")
    verified.objects.update(user=None)

    page = text_of(boss, address("inference.VerifiedAnswer", "change", secrets.verified))
    assert CANARY in page


# --- Markup stays text --------------------------------------------------------------------------------


def free_texts(model: Any) -> tuple[str, ...]:
    kinds = (models.CharField, models.TextField, models.JSONField)
    return tuple(
        field.name
        for field in model._meta.fields
        if isinstance(field, kinds) and not field.choices and not field.primary_key
    )


def test_markup_in_any_column_is_text_in_lists_and_pages(boss, objects):
    """Whatever came into a row, however: rows are written past all forms, and past the triggers."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL session_replication_role = replica")
    taken = {label: put(label, free_texts(apps.get_model(label)), HOSTILE) for label in REGISTRY}
    assert sum(taken.values()) > 80
    assert not [label for label in HIDDEN if not taken[label]]
    User.objects.filter(pk=objects.user).update(username=HOSTILE[:150])

    for label in REGISTRY:
        if label == "django_tasks_database.DBTaskResult":
            continue
        for url in pages_of(label, objects):
            page = text_of(boss, url)
            assert "<script>alert(" not in page, url
            assert "<img src=x" not in page, url
    for label in PRIVATE:
        opened = boss.post(address(label, "open", target_of(label, objects)), {"reason": REASON})
        assert "<script>alert(" not in opened.content.decode(), label
        assert "&lt;script&gt;alert(" in opened.content.decode(), label


# --- Who may act --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("label", "name"), ACTIONS)
def test_an_action_asks_once_more_and_takes_a_right(label, name, client, make_user, superuser, objects):
    chosen = {"action": name, "_selected_action": [str(target_of(label, objects))]}
    url = address(label, "changelist")
    viewer = make_user("victor")
    viewer.groups.add(Group.objects.get(name="admin"))
    viewer.groups.get(name="admin").permissions.filter(
        codename__in=("operate", "delete_session", "delete_apikey")
    ).delete()
    sign_in_client(client, viewer)
    for values in (chosen, {**chosen, "confirmed": "yes", "password": PASSWORD}):
        assert client.post(url, values).status_code == 403
    sign_in_client(client, superuser)
    before = AuditEvent.objects.count()

    page = client.post(url, chosen)

    assert page.status_code == 200
    assert f'name="action" value="{name}"' in page.content.decode()
    assert AuditEvent.objects.count() == before


@pytest.mark.parametrize(
    ("label", "name"), [("training.TrainingRun", "promote"), ("training.Promotion", "roll_back")]
)
def test_what_changes_the_model_for_everybody_takes_the_password(label, name, boss, objects):
    url = address(label, "changelist")
    chosen = {"action": name, "_selected_action": [str(target_of(label, objects))], "confirmed": "yes"}

    for password in ("", "wrong"):
        page = boss.post(url, {**chosen, "password": password})
        assert page.status_code == 200
        assert 'name="password"' in page.content.decode()
    assert boss.post(url, {**chosen, "password": PASSWORD}).status_code == 302


def test_staff_who_are_not_any_more_reach_nothing(client, make_user, objects):
    """Demoted between two requests."""
    person = make_user("dina")
    person.groups.add(Group.objects.get(name="operator"))
    sign_in_client(client, person)
    urls = ["/admin/", address("inference.Generation", "changelist")]
    assert [client.get(url).status_code for url in urls] == [200, 200]

    person.groups.clear()

    for url in urls:
        answer = client.get(url)
        assert (answer.status_code, answer["Location"].startswith("/admin/login/")) == (302, True)
        assert not json.dumps(answer.content.decode()).count("Generation")


def test_a_conversation_is_opened_whole(boss, secrets):
    url = reverse("admin:inference_conversation_read", args=[secrets.conversation])
    page = boss.post(url, {"reason": REASON}).content.decode()

    assert page.count(CANARY) >= 3
    assert Conversation.objects.count() == 1
