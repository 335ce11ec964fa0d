"""What ends a sign-in or a key ends it within five seconds in every process, with and without Redis.

All cases run at the same time on two web processes: what is done on the one is looked for on the other,
which has just seen each credential and therefore believes it for a while.
"""

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest
from django.conf import settings

from accounts import roles
from accounts.keys import create_key
from accounts.models import Session, User
from accounts.tests.two_processes import Door, Socket, Stream, bearer, cookies, send
from accounts.tokens import TokenPair, sign_in
from accounts.websocket import SIGNED_OUT
from conftest import PASSWORD
from llmsite.testing.site import Site

SECONDS = 5.0
# Nothing ends for another reason while a busy machine takes its time.
PATIENT = {"IDLE_TIMEOUT": "300"}
UNLIMITED = {"RATE_LIMIT": "100000/m", "RATE_LIMIT_ADDRESS": "100000/m", "LOGIN_RATE_LIMIT": "1000/m"}


@dataclass
class Person:
    """Signed in on three devices, with one key. `here` acts on the first process."""

    user: User
    here: TokenPair
    there: TokenPair
    other: TokenPair
    key: str
    key_id: int
    doors: dict[str, list[Door]] = field(default_factory=dict)

    def headers(self) -> dict[str, dict[str, str]]:
        """How each of the person's credentials is sent, by name."""
        pairs = {"here": self.here, "there": self.there, "other": self.other}
        return {name: bearer(pair.access) for name, pair in pairs.items()} | {"key": bearer(self.key)}


def make_person(user: User) -> Person:
    key, text = create_key(user, "test")
    return Person(user, sign_in(user), sign_in(user), sign_in(user), text, key.pk)


# --- What somebody does on the first process --------------------------------------------------------


def log_out(site, person, boss):
    return send(site, "POST", "/logout/", cookies(person.there), {})


def end_it_on_the_page(site, person, boss):
    session = Session.objects.get(refresh_tokens__digest=digest_of(person.there))
    return send(site, "POST", f"/account/sessions/{session.pk}/end/", cookies(person.here), {})


def end_others_on_the_page(site, person, boss):
    return send(site, "POST", "/account/sessions/end-others/", cookies(person.here), {})


def change_password(site, person, boss, **more):
    new = "battery horse correct"
    form = {"password": PASSWORD, "new_password1": new, "new_password2": new, **more}
    return send(site, "POST", "/account/password/", cookies(person.here), form)


def change_password_and_keys(site, person, boss):
    return change_password(site, person, boss, revoke_keys="on")


def revoke_key(site, person, boss):
    return send(site, "DELETE", f"/api/auth/keys/{person.key_id}", cookies(person.here))


def replay_token(site, person, boss):
    """A copy of a token comes back after its successor was used."""
    stolen = person.there.refresh
    refreshed(site, refreshed(site, stolen)["refresh"])
    return send(site, "POST", "/api/auth/refresh", {}, {"refresh": stolen})


NO_TEAMS = {"Team_members-TOTAL_FORMS": 0, "Team_members-INITIAL_FORMS": 0}


def disable(site, person, boss):
    form = {"username": person.user.username, **NO_TEAMS}
    return send(site, "POST", admin_page(person), cookies(boss), form)


def delete_account(site, person, boss):
    form = {"username": person.user.username, "password": PASSWORD}
    return send(site, "POST", "/account/delete/", cookies(person.here), form)


def delete_in_admin(site, person, boss):
    page = admin_page(person).replace("/change/", "/delete/")
    return send(site, "POST", page, cookies(boss), {"password": PASSWORD})


def admin_page(person):
    return f"/admin/accounts/user/{person.user.pk}/change/"


def refreshed(site, token):
    answer = send(site, "POST", "/api/auth/refresh", {}, {"refresh": token})
    assert answer.status == 200, answer.text
    return answer.json()


ALL = {"here", "there", "other", "key"}
CASES: dict[Callable, tuple[int, set[str]]] = {
    # what is done: how that is answered, and which of the person's credentials it ends
    log_out: (302, {"there"}),
    end_it_on_the_page: (302, {"there"}),
    end_others_on_the_page: (302, {"there", "other"}),
    change_password: (302, {"here", "there", "other"}),
    change_password_and_keys: (302, ALL),
    revoke_key: (204, {"key"}),
    replay_token: (401, {"there"}),
    disable: (302, ALL),
    delete_account: (200, ALL),
    delete_in_admin: (302, ALL),
}


# --- What the second process sees ---------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _fast_passwords():
    """Not here: the processes check real hashes (this takes the place of the fixture in conftest.py)."""


@pytest.fixture(params=["with Redis", "without Redis"])
def sites(request, transactional_db, models) -> Iterator[tuple[Site, Site]]:
    environment = {
        **UNLIMITED,
        **PATIENT,
        "REDIS_URL": settings.REDIS_URL if request.param == "with Redis" else "",
    }
    with ExitStack() as stack:
        yield tuple(stack.enter_context(Site(**environment)) for _ in range(2))


def test_what_ends_a_sign_in_or_a_key_ends_it_everywhere(sites, make_user):
    first, second = sites
    boss = sign_in(make_user("boss", is_superuser=True))
    check_demotion(first, second, boss, make_user("demoted"))
    people = {act: make_person(make_user(act.__name__)) for act in CASES}
    with ExitStack() as stack:
        for person in people.values():
            open_doors(second, person, stack)
        wrong = []
        acted = {act: do(act, first, person, boss, wrong) for act, person in people.items()}
        for act, person in people.items():
            wrong += refreshes_of(second, act, person)
        for act, person in people.items():
            wrong += late(second, act, person, acted[act] + SECONDS)
        for act, person in people.items():
            wrong += gone_too_much(second, act, person)
    assert not wrong, "\n".join(wrong)


def check_demotion(first: Site, second: Site, boss: TokenPair, user: User) -> None:
    """It closes the admin with the very next request, and ends no sign-in."""
    roles.set_roles(user, [roles.MEMBER, roles.ADMIN])
    person, page = make_person(user), "/admin/accounts/user/"
    assert send(second, "GET", page, cookies(person.there)).status == 200

    member = user.groups.get(name=roles.MEMBER).pk
    form = {"username": user.username, "is_active": "on", "groups": [member], **NO_TEAMS}
    assert send(first, "POST", admin_page(person), cookies(boss), form).status == 302

    assert send(second, "GET", page, cookies(person.there)).status in (302, 403)
    assert send(second, "GET", "/api/auth/me", cookies(person.there)).status == 200


def open_doors(site: Site, person: Person, stack: ExitStack) -> None:
    """Show the process each credential, and leave a stream and a socket open with each kind."""
    for headers in person.headers().values():
        assert send(site, "GET", "/api/auth/me", headers).status == 200
    for name, headers in (("there", cookies(person.there)), ("key", bearer(person.key))):
        person.doors[name] = [Stream(site, headers), Socket(site, headers)]
        for door in person.doors[name]:
            stack.callback(door.close)


def do(act: Callable, site: Site, person: Person, boss: TokenPair, wrong: list[str]) -> float:
    answer = act(site, person, boss)
    if answer.status != CASES[act][0]:
        told = re.findall(r'error"?[^>]*>(?:<\w+>)*([^<]+)', answer.text)
        wrong.append(f"{act.__name__} was answered with {answer.status}: {told}")
    return time.monotonic()


def refreshes_of(site: Site, act: Callable, person: Person) -> Iterator[str]:
    """A refresh token is looked up each time, so one that has ended is refused at once."""
    for name in ("here", "there", "other"):
        if act is replay_token and name == "there":
            continue  # This is the one that was used up.
        token = getattr(person, name).refresh
        status = send(site, "POST", "/api/auth/refresh", {}, {"refresh": token}).status
        if status != (401 if name in CASES[act][1] else 200):
            yield f"{act.__name__}: the refresh token of {name} was answered with {status}"


def late(site: Site, act: Callable, person: Person, deadline: float) -> Iterator[str]:
    """Which of the credentials that have ended are believed, or hold a door open, after the deadline."""
    for name in sorted(CASES[act][1]):
        headers = person.headers()[name]
        while (status := send(site, "GET", "/api/auth/me", headers).status) == 200:
            if time.monotonic() > deadline:
                yield f"{act.__name__}: {name} is still let in"
                break
            time.sleep(0.05)
        else:
            if status != 401:
                yield f"{act.__name__}: {name} is answered with {status}"
        for door in person.doors.get(name, ()):
            while door.closed_at is None and time.monotonic() < deadline:
                time.sleep(0.05)
            if door.closed_at is None or door.closed_at > deadline:
                yield f"{act.__name__}: the {type(door).__name__} of {name} is still open"
            elif isinstance(door, Socket) and door.how != SIGNED_OUT:
                yield f"{act.__name__}: the socket of {name} was closed with {door.how}"


def gone_too_much(site: Site, act: Callable, person: Person) -> Iterator[str]:
    """Which credentials and doors have ended although nobody meant them."""
    for name in sorted(ALL - CASES[act][1]):
        if send(site, "GET", "/api/auth/me", person.headers()[name]).status != 200:
            yield f"{act.__name__}: {name} was ended too"
        for door in person.doors.get(name, ()):
            if door.closed_at is not None:
                yield f"{act.__name__}: the {type(door).__name__} of {name} was closed too ({door.how})"


def digest_of(pair: TokenPair) -> str:
    return hashlib.sha256(pair.refresh.encode()).hexdigest()
