"""Every route and every socket, with every verb, for every kind of caller, against the table in `rights.py`.

The owner has one object of each kind. Whatever the others do at its address is answered exactly as at the
address of an object that does not exist, and changes no row.
"""

import json
import re
from contextlib import nullcontext
from datetime import timedelta
from urllib.parse import quote

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.http import FileResponse
from django.test import Client
from django.urls import URLResolver, get_resolver
from django.utils import timezone

from accounts.models import User
from conftest import bearer, sign_in_client
from inference.models import Conversation
from inference.providers import scripted
from inference.tests.doors import connect
from inference.urls import sockets
from llmsite.asgi import application
from llmsite.tests.rights import REFUSED_TO_ALL, ROWS, SOCKETS, Row, Who
from llmsite.tests.world import (
    MISSING,
    address_of,
    difference,
    rolled_back,
    rows_of_all_tables,
    watched_writes,
)

VERBS = ("GET", "POST", "PUT", "PATCH", "DELETE")

# --- The routes -----------------------------------------------------------------------------------


def routes(resolver=None, prefix=""):
    for pattern in (resolver or get_resolver()).url_patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from routes(pattern, route)
        else:
            # The admin has two routes as regular expressions, one of which lists all apps.
            yield re.sub(r"\^?\(\?P<(\w+)>[^)]*\)\$?", r"<\1>", route).replace("/$", "/")


def test_every_route_has_a_row_and_every_row_a_route():
    found, listed = set(routes()), [row.route for row in ROWS]

    assert found - set(listed) == set(), "routes without a row in llmsite/tests/rights.py"
    assert set(listed) - found == set(), "rows of llmsite/tests/rights.py without a route"
    assert len(listed) == len(set(listed))


def test_every_socket_has_a_row():
    assert {str(socket.pattern) for socket in sockets} == set(SOCKETS)


# --- The callers ------------------------------------------------------------------------------------

CALLERS = ("owner", "mate", "stranger", "staff", "anonymous", "disabled")
SIGNED_IN = {"owner", "mate", "stranger", "staff"}


@pytest.fixture
def call(people, request):
    """Sends a request as the caller of this case, with a browser that has done nothing yet."""
    caller, cookies = request.param, {}
    if caller != "anonymous":
        client = Client()
        sign_in_client(client, people[caller])
        cookies = dict(client.cookies)
    if caller == "disabled":
        people["disabled"].is_active = False
        people["disabled"].save()

    handler = Client(raise_request_exception=False).handler  # It builds the middleware once.

    def send(verb, address, body):
        client = Client(raise_request_exception=False)
        client.handler = handler
        client.cookies.update(cookies)
        given = {"data": json.dumps(body), "content_type": "application/json"}
        if not address.startswith(("/api/", "/v1/")):
            given = {"data": body} if verb == "POST" else {}
        answer = getattr(client, verb.lower())(address, **({} if verb == "GET" else given))
        if isinstance(answer, FileResponse):
            answer.getvalue()  # Its file is closed with its end.
        return answer

    send.caller = caller
    return send


# --- The walk ---------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("call", CALLERS, indirect=True)
def test_each_verb_answers_each_caller_as_the_table_says(call, objects):
    before, wrong = rows_of_all_tables(), []
    with watched_writes() as written:
        for row in ROWS:
            written.clear()
            wrong += [
                f"{verb} /{row.route}: {text}"
                for verb in verbs_for(row, call.caller)
                if (text := problem_of(row, verb, call, objects))
            ]
            if written and row.who is Who.OWNER:
                changed = difference(before, rows_of_all_tables())
                wrong += [f"/{row.route} has changed {name}" for name in changed]
    wrong += [f"something has changed {name}" for name in difference(before, rows_of_all_tables())]

    assert not wrong, "\n".join([f"as {call.caller}:", *wrong])


@pytest.mark.django_db
@pytest.mark.parametrize("call", ["superuser"], indirect=True)
def test_whoever_has_the_right_reaches_each_page_of_the_admin(call, objects):
    """So that no row above is right for the wrong reason."""
    pages = [row for row in ROWS if row.who in (Who.STAFF, Who.PERMITTED) and row.route != "admin/<url>"]
    answers = {row.route: call("GET", address_of(row, objects), {}) for row in pages}

    assert {route for route, answer in answers.items() if answer.status_code == 403} == REFUSED_TO_ALL
    for route in answers.keys() - REFUSED_TO_ALL:
        assert answers[route].status_code in (200, 302), route
        assert "login" not in answers[route].headers.get("Location", ""), route


@pytest.mark.django_db
def test_a_key_opens_what_is_for_programs(people, objects):
    client, wrong = Client(headers=bearer(people["owner"])), []
    for row in (row for row in ROWS if row.who is Who.KEY_HOLDER):
        for verb, expected in row.verbs.items():
            address = address_of(row, objects)
            given = {} if verb == "GET" else {"data": "{}", "content_type": "application/json"}
            answer = getattr(client, verb.lower())(address, **given)
            if answer.status_code not in expected:
                wrong.append(f"{verb} {address}: {answer.status_code}")

    assert not wrong, "\n".join(wrong)


def verbs_for(row: Row, caller: str) -> tuple[str, ...]:
    """What this caller tries: wherever the answer could be another one than that to somebody who tries all.

    The owner, a stranger and a visitor try every verb. A mate is a stranger but for the objects of an owner.
    Staff and the disabled are told by who they are, never by a verb that the route does not take at all.
    The admin takes any other verb for a GET; to it an owner or a mate is one more who is not staff, and asks
    a visitor and the disabled to sign in before it looks at what they send.
    """
    if row.who in (Who.STAFF, Who.PERMITTED):
        if caller == "disabled":
            return ("GET",) if row.who is Who.STAFF else ()
        return {"stranger": ("GET", "POST"), "staff": ("GET", "POST"), "anonymous": ("GET",)}.get(caller, ())
    if caller == "mate" and row.who is not Who.OWNER:
        return ()
    return VERBS if caller in ("owner", "stranger", "anonymous") else tuple(row.verbs)


def problem_of(row: Row, verb: str, call, objects) -> str:
    """What is wrong with the answer; empty where it is what the table says."""
    own, missing, body = address_of(row, objects), address_of(row, None), body_of(row, call.caller)
    refused = is_refused(row, call.caller)
    with nullcontext() if refused else rolled_back():
        answer = call(verb, own, body)
    if problem := wrong_status(row, verb, call.caller, answer):
        return problem
    if refused and answer.status_code == 302 and verb not in row.blind:
        # What the sign-in is told is the address alone, so this is the same for a missing object.
        return (
            "" if is_way_to_sign_in(answer, own) else f"sent to {answer['Location']} instead of the sign-in"
        )
    if not row.target or (row.who is Who.OWNER and not refused):
        return ""
    if row.who in (Who.STAFF, Who.PERMITTED) and verb not in ("GET", "POST"):
        return ""  # The admin knows these two and takes any other for a GET.
    shown, expected = comparable(answer, own), comparable(call(verb, missing, body), missing)
    return "" if shown == expected else f"not like a missing one: {first_difference(shown, expected)}"


def is_way_to_sign_in(answer, address: str) -> bool:
    ways = (f"/login/?next={quote(address)}", f"/admin/login/?next={quote(address)}")
    return answer["Location"] in ways and not answer.content


def body_of(row: Row, caller: str) -> dict[str, str]:
    # The owner's question would start an answer, which is what an empty one never does.
    if row.body is None or (caller == "owner" and "prompt" in row.body):
        return {} if row.route.startswith("api/") else {"nothing": "known"}
    return row.body


def is_refused(row: Row, caller: str) -> bool:
    """Whether this caller must not change anything at this address, whatever the verb."""
    let_in = {
        Who.EVERYBODY: set(CALLERS),
        Who.SIGNED_IN: SIGNED_IN,
        Who.KEY_HOLDER: set(),
        Who.OWNER: {"owner"},
        Who.STAFF: {"staff"},
        Who.PERMITTED: set(),
    }
    return caller not in let_in[row.who]


def wrong_status(row: Row, verb: str, caller: str, answer) -> str:
    allowed = expected_statuses(row, verb, caller)
    if answer.status_code not in allowed:
        return f"{answer.status_code}, but the table says {sorted(allowed)}"
    sent_away = answer.headers.get("Location", "").startswith(("/login/?next=", "/admin/login/?next="))
    if sent_away and row.who is not Who.EVERYBODY and not is_refused(row, caller):
        return "sent to the sign-in"
    return ""


def expected_statuses(row: Row, verb: str, caller: str) -> set[int]:
    is_api, taken = row.route.startswith(("api/", "v1/", "health/")), verb in row.verbs
    if row.who in (Who.STAFF, Who.PERMITTED):
        if caller != "staff":
            return {302}
        return ({403} if row.who is Who.PERMITTED else {200, 302, 404}) | (set() if verb == "GET" else {405})
    if row.who is Who.KEY_HOLDER:
        return {401} if taken else {405}
    if row.who is not Who.EVERYBODY and caller not in SIGNED_IN:
        return ({401} if is_api else {302}) | (set() if taken else {405})
    if not taken:
        return {405}
    if is_refused(row, caller) and verb not in row.blind:
        return {404}
    return set(row.verbs[verb])


# --- What is compared -------------------------------------------------------------------------------


UNIMPORTANT = (
    "X-Request-ID",
    "Date",
    "Expires",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
)
CSRF_TOKEN = re.compile(r"\b[A-Za-z0-9]{64}\b")


def comparable(answer, address: str) -> dict[str, object]:
    """An answer without what differs between any two: the time, the request's id, its number, the address."""
    own_id = next(part for part in reversed(address.split("/")) if part.isdigit() or part.count("-") == 4)

    def without_ids(text: str) -> str:
        text = text.replace(answer["X-Request-ID"], "(request)")
        return CSRF_TOKEN.sub("(csrf)", re.sub(f'(?<=/){own_id}(?=[/"]|$)', "(id)", text))

    headers = answer.headers.items()
    return {
        "status": answer.status_code,
        "headers": {name: without_ids(value) for name, value in headers if name not in UNIMPORTANT},
        "cookies": {name: (without_ids(one.value), one["max-age"]) for name, one in answer.cookies.items()},
        "body": "" if answer.streaming else without_ids(answer.content.decode()),
    }


def first_difference(shown: dict, expected: dict) -> str:
    name = next(name for name in shown if shown[name] != expected[name])
    return f"{name} {str(shown[name])[:300]!r} instead of {str(expected[name])[:300]!r}"


# --- Ids in bodies, addresses and on sockets ----------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("call", ["mate", "stranger", "staff"], indirect=True)
def test_a_foreign_id_in_a_body_is_like_a_missing_one_and_asks_nobody(call, objects, people):
    """No row is written, no provider is called, and nothing is reserved or booked."""
    own = Conversation.objects.create(owner=people[call.caller]).pk
    before = rows_of_all_tables()
    asked = {
        "/api/predict": {"conversation": objects.conversation},
        "/api/predict/stream": {"conversation": objects.conversation},
        f"/api/conversations/{own}/messages": {"parent": objects.question},
    }
    bodies = [(address, {"prompt": "Hello?", **ids}) for address, ids in asked.items()]
    bodies.append((f"/api/conversations/{own}/messages", {"regenerate": objects.answer}))

    for address, body in bodies:
        foreign = call("POST", address, {name: str(value) for name, value in body.items()})
        ids = {name: value if name == "prompt" else str(MISSING) for name, value in body.items()}
        missing = call("POST", address, ids)

        assert (foreign.status_code, error_of(foreign)) == (404, error_of(missing)), address
        assert missing.status_code == 404
    assert difference(before, rows_of_all_tables()) == []
    assert not scripted.calls


@pytest.mark.django_db
@pytest.mark.parametrize("call", ["mate", "stranger", "staff"], indirect=True)
def test_a_foreign_id_in_an_address_shows_no_more_than_a_missing_one(call, objects, people):
    Conversation.objects.create(owner=people[call.caller], title="My own")
    Conversation.objects.filter(pk=objects.conversation).update(updated_at=timezone.now() + timedelta(days=1))

    for query, pk in (("before", objects.conversation), ("at", objects.question)):
        pages = [call("GET", f"/chat/?{query}={one}", {}) for one in (pk, MISSING)]
        foreign, missing = [CSRF_TOKEN.sub("", page.content.decode()) for page in pages]

        assert foreign.replace(str(pk), "") == missing.replace(str(MISSING), ""), query


def error_of(answer) -> dict[str, str]:
    return {**answer.json()["error"], "request_id": ""}


@pytest.mark.django_db(transaction=True)
async def test_a_socket_tells_nobody_of_a_foreign_answer(people, objects):
    before = await sync_to_async(rows_of_all_tables)()
    messages = [
        ({"type": "stop", "id": "(generation)"}, objects.generation),
        ({"type": "resume", "id": "(generation)"}, objects.generation),
        ({"type": "resume", "id": "(generation)", "after": 0}, objects.generation),
        ({"type": "ask", "prompt": "Hello?", "conversation": "(conversation)"}, objects.conversation),
    ]
    for caller in ("mate", "stranger", "staff"):
        socket = await connect(people[caller])
        for message, pk in messages:
            answers = []
            for one in (pk, MISSING):
                await socket.send_to(text_data=re.sub(r"\(\w+\)", str(one), json.dumps(message)))
                answers.append({**await socket.receive_json_from(), "request_id": ""})
            assert answers[0] == answers[1], (caller, message)
            assert (answers[0]["type"], answers[0]["code"]) == ("error", "not_found")
        await socket.disconnect()

    after = await sync_to_async(rows_of_all_tables)()
    # The callers have made a key each, to connect with.
    assert set(difference(before, after)) <= {"accounts.ApiKey", "accounts.AuditEvent"}
    assert not scripted.calls


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("caller", ["anonymous", "disabled"])
async def test_no_socket_opens_for_who_is_not_signed_in(caller, people):
    headers = await sync_to_async(bearer)(people["disabled"]) if caller == "disabled" else {}
    await User.objects.filter(username="disabled").aupdate(is_active=False)

    for route in SOCKETS:
        encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        assert not (await WebsocketCommunicator(application, f"/{route}", headers=encoded).connect())[0]
