"""The pages: who sees them, what they show, and what they ask the database for."""

import csv
import html
import io
import json
import re
from datetime import timedelta
from decimal import Decimal

import pytest
from asgiref.sync import async_to_sync
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.roles import CURATOR, set_roles
from conftest import sign_in_client
from dashboard import answers, charts, colours, figures, roller, state
from dashboard.models import Progress
from dashboard.period import PRESETS, preset, typed
from dashboard.tests.making import make_answer
from inference.circuits import Deployment, circuits
from inference.models import ChatModelConfig
from inference.reactions import Blame, Reaction
from training.models import Metric
from training.tests.making import make_run

pytestmark = pytest.mark.django_db

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\x1b[31m"
PATHS = [
    "/dashboard/",
    "/dashboard/data/",
    "/dashboard/csv/",
    "/dashboard/answers/",
    "/dashboard/answers/00000000-0000-0000-0000-000000000001/",
]


def text_of(answer):
    return answer.content.decode()


def rows_of(answer):
    return list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"))))


def drawn(client, key, query=""):
    told = client.get(f"/dashboard/data/?{query}").json()
    one = next(one for one in told["charts"] if one["key"] == key)
    return {**told["times"], **one}


# --- Who sees them ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
def test_only_operators_are_let_in(operator, bob, client, path):
    set_roles(bob, [CURATOR])
    other = Client()
    sign_in_client(other, bob)
    assert other.get(path).status_code == 403
    assert Client().get(path).status_code == 302
    assert client.get(path).status_code in (200, 404)

    set_roles(operator, [])  # a moment ago
    assert client.get(path).status_code == 403


# --- What they show --------------------------------------------------------------------------------


def test_a_provider_has_one_colour_in_all_charts_and_keeps_it_in_another_period(client, operator):
    ago = {"openai": 60.0, "anthropic": 60.0, "local": 7200.0}
    for number, (name, seconds) in enumerate(ago.items(), start=1):
        make_answer(operator, provider=name, model_alias=name, cost_micro=number * 1_000_000, ago=seconds)
    roller.roll_up()
    shown = {}
    for query in ("range=1h", "range=7d"):
        for key in ("cost", "tokens"):
            for one in drawn(client, key, query)["series"]:
                shown.setdefault(one["name"], set()).add(one["colour"])
        bars = drawn(client, "models", query)
        for label, colour in zip(bars["labels"], bars["series"][0]["colour"], strict=True):
            shown[label.split(" · ")[1]].add(colour)
    assert {name: len(places) for name, places in shown.items()} == dict.fromkeys(ago, 1)
    assert len(set.union(*shown.values())) == 3


def test_kinds_of_errors_have_colours_of_their_own():
    many = [f"kind_{number}" for number in range(6)]
    chosen = colours.of_names(many)
    assert sorted(chosen.values()) == [0, 1, 2, 3, 4, colours.OTHERS]
    assert colours.of_names(many[:1])[many[0]] == chosen[many[0]]


@pytest.mark.parametrize(
    ("look", "title"),
    [
        ("_look_at_providers", "Providers"),
        ("_look_at_work", "Queue and workers"),
        ("_look_at_index", "Documents and indexes"),
    ],
)
def test_a_part_that_cannot_be_read_says_so_and_the_others_are_told(client, monkeypatch, look, title):
    def fail(*_):
        raise OperationalError

    monkeypatch.setattr(state, look, fail)
    page = text_of(client.get("/dashboard/"))
    assert page.count("This part could not be read") == 1
    part = page.partition(f"<h2>{title}</h2>")[2].partition("</div>")[0]
    assert "This part could not be read" in part
    assert ("No provider has been asked in this time." in page) == (look != "_look_at_providers")


def test_a_site_that_nobody_has_asked_says_so_everywhere(client):
    page = text_of(client.get("/dashboard/"))
    told = client.get("/dashboard/data/").json()
    assert {one["key"] for one in told["charts"] if not one["empty"]} == set()
    assert page.count('class="empty chart-empty"') == len(told["charts"])
    assert "Nobody has asked anything in this time." in page


@pytest.mark.parametrize("is_counted", [False, True], ids=["not yet counted", "counted"])
def test_charts_say_what_happened(client, models, alice, bob, is_counted):
    ChatModelConfig.objects.filter(alias="scripted").update(input_price=Decimal(3), output_price=Decimal(15))
    make_answer(alice, cost_micro=2_000_000, input_tokens=1000, output_tokens=500)
    make_answer(bob, status="failed", error_code="provider_timeout", latency_ms=None)
    make_answer(bob, cache="l1", latency_ms=3, time_to_first_token_ms=3)
    make_answer(bob, grounding="nothing", confidence=0.1, ago=120)
    if is_counted:
        roller.roll_up()
    told = {one["key"]: one for one in client.get("/dashboard/data/?range=1h").json()["charts"]}

    def total(key, at=0):
        return sum(value or 0 for value in told[key]["series"][at]["values"])

    assert total("requests") == 4
    assert [one["name"] for one in told["errors"]["series"]] == ["provider_timeout", "Target"]
    assert max(value or 0 for value in told["errors"]["series"][0]["values"]) == pytest.approx(100 / 3)
    assert [one["name"] for one in told["hits"]["series"]] == ["memory (L1)"]
    assert total("saved") == pytest.approx(0.00033)
    assert total("cost") == 2.0
    assert total("unanswered") == 1
    assert told["users"]["labels"] == ["alice", "bob"]
    assert told["models"]["labels"] == ["scripted · scripted"]
    # 800 ms, to within 4 %.
    assert max(value or 0 for value in told["latency"]["series"][2]["values"]) == pytest.approx(800, rel=0.04)


@pytest.mark.parametrize("name", PRESETS)
def test_each_range_has_all_answers_of_it(client, alice, name):
    step, points = PRESETS[name]
    for ago in (1, step * (points - 2), 2 * step * points):
        make_answer(alice, ago=ago)
    roller.roll_up()
    make_answer(alice, ago=1)
    found = figures.read(preset(name, timezone.now()))
    assert (found.now.total.answers, found.before.total.answers) == (3, 0)


def test_the_period_before_is_what_it_is_compared_with(client, alice):
    for ago in (60, 90_000, 90_000):
        make_answer(alice, ago=ago)
    roller.roll_up()
    before = drawn(client, "requests", "range=24h&compare=1")["series"][1]
    assert before["role"] == "before"
    assert round(sum(before["values"]) * 15, 3) == 2
    assert ">2 before<" in text_of(client.get("/dashboard/?range=24h"))


def test_a_time_that_somebody_types_is_shown_and_nonsense_is_the_last_day(client, alice):
    make_answer(alice, ago=40 * 86_400)
    roller.roll_up()
    moment = int((timezone.now() - timedelta(days=40)).timestamp())
    query = f"from={typed(moment - 3600)}&to={typed(moment + 3600)}"
    shown = drawn(client, "requests", query)
    assert round(sum(shown["series"][0]["values"]) * 60, 3) == 1
    for query in (
        "range=no",
        "from=x&to=y",
        f"from={typed(moment)}&to={typed(moment)}",
        "from=%00&to=9999999",
    ):
        assert len(drawn(client, "requests", query)["labels"]) == 96


MISREAD = "takes two times, the earlier one first"


@pytest.mark.parametrize(
    ("query", "is_misread"),
    [
        ("from=2026-02-01T00:00&to=2026-01-01T00:00", True),
        ("from=2026-01-01T00:00", True),
        ("from=x&to=y", True),
        ("from=1960-01-01T00:00&to=1961-01-01T00:00", True),
        ("from=1960-01-01T00:00&to=2026-01-01T00:00", False),
        ("range=7d", False),
    ],
)
def test_times_that_are_none_are_told(client, query, is_misread):
    page = text_of(client.get(f"/dashboard/?{query}"))
    assert (MISREAD in page) == is_misread


def test_learning_is_drawn_run_by_run(client, alice):
    run = make_run(started_at=timezone.now(), step=10)
    Metric.objects.bulk_create(Metric(run=run, step=step, loss=2 / step) for step in range(1, 11))
    shown = drawn(client, "training")
    assert shown["series"][0]["name"] == run.name
    assert len(shown["series"][0]["values"]) == 10


def test_the_first_line_says_what_to_do_and_where(client, alice):
    assert "The site is well." in text_of(client.get("/dashboard/"))

    make_answer(alice, status="failed", error_code="provider_down", ago=600)
    page = text_of(client.get("/dashboard/"))
    assert "100.0\xa0% of the answers failed; the target is 1\xa0%." in page
    link = html.unescape(re.search(r'"(/dashboard/answers/[^"]*only=errors)"', page)[1])
    assert "from=" in link
    assert "provider_down" in text_of(client.get(link))
    assert "nothing has been counted for minutes" in page

    roller.roll_up()
    assert "nothing has been counted for minutes" not in text_of(client.get("/dashboard/"))


def test_a_worker_that_has_much_to_count_is_not_said_to_stand_still(client, alice, monkeypatch):
    monkeypatch.setattr(roller, "BATCH", 1)
    for ago in (600, 900):
        make_answer(alice, ago=ago)
    assert roller.count_in_turns()
    assert "nothing has been counted for minutes" not in text_of(client.get("/dashboard/"))

    Progress.objects.update(counted_at=timezone.now() - timedelta(minutes=4))
    assert "nothing has been counted for minutes" in text_of(client.get("/dashboard/"))


async def _open_circuit():
    await circuits.failed(
        Deployment("scripted", "", "scripted"),
        Reaction(blame=Blame.MODEL, pause=30.0),
        code="provider_overloaded",
    )


def test_an_open_circuit_is_named(client, models):
    async_to_sync(_open_circuit)()
    page = text_of(client.get("/dashboard/"))
    assert "scripted/scripted has failed and is left alone for now (provider_overloaded)." in page
    assert re.search(r'title="It has failed and is asked again at [\d:]+ UTC; [^"]*">paused</span>', page)
    assert '<span class="state-note">provider_overloaded</span>' in page


def test_a_provider_that_is_well_is_in_use(client, alice):
    make_answer(alice)
    roller.roll_up()
    assert '<span title="Questions go to it; its circuit is closed.">in use</span>' in text_of(
        client.get("/dashboard/")
    )


# --- The answers behind a point ----------------------------------------------------------------------


def test_a_point_leads_to_its_answers_and_to_no_text(client, alice):
    inside = make_answer(alice, prompt="secret words", error_code="provider_down", status="failed")
    make_answer(alice, ago=7200, model_alias="elsewhere")
    shown = drawn(client, "errors", "range=1h")
    at = next(at for at, value in enumerate(shown["series"][0]["values"]) if value)
    page = text_of(client.get(shown["links"][at] + shown["only"]))
    assert str(inside.pk) in page
    assert "elsewhere" not in page

    detail = text_of(client.get(f"/dashboard/answers/{inside.pk}/"))
    assert "provider_down" in detail
    assert "secret words" not in page + detail
    assert "Answer." not in detail


def test_the_list_goes_on_where_it_ended(client, alice, monkeypatch):
    monkeypatch.setattr(answers, "SHOWN", 2)
    made = [str(make_answer(alice, ago=ago).pk) for ago in (10, 20, 30)]
    first = text_of(client.get("/dashboard/answers/"))
    assert [pk in first for pk in made] == [True, True, False]
    second = text_of(client.get(f"/dashboard/answers/?before={made[1]}"))
    assert [pk in second for pk in made] == [False, False, True]


@pytest.mark.parametrize(
    "query",
    [
        "before=x",
        "model=%00",
        "from=x",
        "only=x",
        "before=%00&only=errors",
        "from=1960-01-01T00:00",
        "from=0001-01-01T00:00",
        "to=0001-01-01T00:00",
        "from=9999-12-31T23:59",
        "to=9999-12-31T23:59",
    ],
)
def test_nonsense_in_an_address_is_no_error(client, query):
    assert client.get(f"/dashboard/answers/?{query}").status_code == 200
    assert client.get(f"/dashboard/?{query}").status_code == 200


# --- CSV -------------------------------------------------------------------------------------------


def test_csv_has_the_numbers_of_a_chart(client, alice):
    make_answer(alice, cost_micro=1_500_000)
    answer = client.get("/dashboard/csv/?range=1h&chart=users")
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert rows_of(answer)[2] == ["alice", "1", "10", "20", "1.5", "0.0"]
    assert len(rows_of(client.get("/dashboard/csv/?range=1h&chart=requests"))) == 62
    assert len(rows_of(client.get("/dashboard/csv/?range=1h"))) > 400
    assert client.get("/dashboard/csv/?chart=nothing").status_code == 404


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_is_a_formula(client, alice, start):
    make_answer(alice, model_alias=f"{start}HYPERLINK(1)")
    cells = [cell for row in rows_of(client.get("/dashboard/csv/?range=1h&chart=models")) for cell in row]
    assert f"'{start}HYPERLINK(1)" in cells


# --- What is foreign, and what is secret -------------------------------------------------------------


def test_hostile_names_are_text(client, alice, make_user):
    mallory = make_user(f"m{HOSTILE}"[:150])
    run = make_run(name=HOSTILE, started_at=timezone.now(), step=1)
    Metric.objects.create(run=run, step=1, loss=1.0)
    values = {
        "model_alias": HOSTILE,
        "provider": HOSTILE[:50],
        "error_code": HOSTILE[:50],
        "cache": "<b>x</b>",
    }
    row = make_answer(
        mallory,
        status="failed",
        request_id=HOSTILE,
        attempts=[{"model": HOSTILE, "provider": "x", "code": HOSTILE}],
        adapter=HOSTILE,
        door="<b>",
        **values,
    )
    pages = [
        "/dashboard/",
        "/dashboard/answers/",
        f"/dashboard/answers/{row.pk}/",
        f"/dashboard/answers/?error={HOSTILE}",
    ]
    for path in pages:
        page = text_of(client.get(path))
        assert "<script>alert" not in page, path
        assert "<img src=x" not in page, path
        assert "&lt;script&gt;" in page, path
    told = client.get("/dashboard/data/").json()
    for name, part in told["parts"].items():
        assert "<script" not in part, name
        assert "<img" not in part, name
    assert "\x1b" not in json.dumps(told["charts"], ensure_ascii=False)


def test_no_key_of_a_provider_is_on_any_page(client, alice, settings):
    settings.ANTHROPIC_API_KEY = settings.OPENAI_API_KEY = "sk-canary-93b1"
    row = make_answer(alice, provider="openai", status="failed", error_code="provider_key_refused")
    for path in [*PATHS[:-1], f"/dashboard/answers/{row.pk}/"]:
        assert "canary-93b1" not in text_of(client.get(path)), path


# --- What it costs -----------------------------------------------------------------------------------


def test_the_page_asks_as_much_for_many_answers_as_for_few(client, alice, bob, models):
    def queries(path):
        with CaptureQueriesContext(
            connection,
        ) as asked:
            assert client.get(path).status_code == 200
        return len(asked)

    make_answer(alice)
    few = [queries(path) for path in PATHS[:4]]
    for at in range(12):
        make_answer(bob, model_alias=f"model {at % 4}", status=["failed", "finished"][at % 2], ago=60 * at)
    roller.roll_up()
    assert [queries(path) for path in PATHS[:4]] == few
    assert few[0] <= 30
    assert few[3] <= 5


def test_a_reading_that_somebody_disturbs_is_read_again(alice, monkeypatch):
    make_answer(alice)
    rest, times = figures._rest, []

    def meanwhile(period):
        tally = rest(period)
        times.append(roller.roll_up())
        return tally

    monkeypatch.setattr(figures, "_rest", meanwhile)
    found = figures.read(preset("1h", timezone.now()))
    assert times == [1, 0]
    assert found.now.total.answers == 1
    assert Progress.objects.get().number == 1


def test_of_very_many_that_are_not_counted_the_newest_are_shown(client, alice, monkeypatch):
    monkeypatch.setattr(figures, "MOST_UNCOUNTED", 2)
    for _ in range(5):
        make_answer(alice)
    found = figures.read(preset("1h", timezone.now()))
    assert (found.now.total.answers, found.missing) == (2, 3)
    assert charts.main_charts()[0]["missing"].endswith("about 3 older ones are missing.")
    monkeypatch.setattr(figures, "MOST_MISSING", 2)
    told = "still being counted; more than 2 older ones are missing."
    assert told in text_of(client.get("/dashboard/"))
    assert told in client.get("/dashboard/data/").json()["parts"]["tiles"]

    roller.roll_up()
    found = figures.read(preset("1h", timezone.now()))
    assert (found.now.total.answers, found.missing) == (5, 0)
    assert "still being counted" not in text_of(client.get("/dashboard/"))


def test_the_admin_gets_the_four_main_charts(alice, django_assert_max_num_queries):
    make_answer(alice)
    with django_assert_max_num_queries(9):
        made = charts.main_charts()
    assert [one["key"] for one in made] == ["requests", "latency", "errors", "cost"]
    assert not made[0]["is_empty"]


def test_operators_find_it_in_their_menu(client, charlie):
    other = Client()
    sign_in_client(other, charlie)
    assert 'href="/dashboard/"' in text_of(client.get("/documents/"))
    assert 'href="/dashboard/"' not in text_of(other.get("/documents/"))
