"""Open doors end with their credential, and one query asks for all of them."""

from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.credentials import Credential
from accounts.keys import create_key
from accounts.models import ApiKey, Session, User
from accounts.watch import CredentialWatch, _alive

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def credentials(alice):
    """One by a sign-in, one by a key."""
    key, _ = create_key(alice, "test")
    session = Session.objects.create(user=alice)
    return [Credential(alice, session=session), Credential(alice, api_key=key)]


async def ended(credentials, change=None):
    """Which of the doors that `credentials` opened are ended by a check after `change`."""
    watch = CredentialWatch()
    heard = []
    told = watch.watching(credentials[0], on_end=lambda: heard.append(0))
    with told as first, watch.watching(credentials[1]) as second:
        if change is not None:
            await sync_to_async(change)()
        await watch.check()
        await watch.check()
        assert heard == [0] * first.ended
        return [first.ended, second.ended]


@pytest.mark.parametrize(
    ("change", "result"),
    [
        (None, [False, False]),
        (lambda: Session.objects.update(revoked_at=timezone.now()), [True, False]),
        (lambda: ApiKey.objects.update(revoked_at=timezone.now()), [False, True]),
        (lambda: ApiKey.objects.update(expires_at=timezone.now()), [False, True]),
        (lambda: User.objects.update(is_active=False), [True, True]),
        (lambda: User.objects.all().delete(), [True, True]),
    ],
    ids=["nothing", "log-out", "key revoked", "key expired", "disabled", "deleted"],
)
async def test_a_door_ends_with_its_credential(change, result, credentials):
    assert await ended(credentials, change) == result


async def test_a_door_ends_when_its_token_does(credentials):
    session, _ = credentials
    over = timezone.now() - timedelta(seconds=1)
    expired = Credential(session.user, session=session.session, expires_at=over)
    lasting = Credential(session.user, session=session.session, expires_at=over + timedelta(minutes=1))

    assert await ended([expired, lasting]) == [True, False]


async def test_a_closed_door_is_not_ended(credentials):
    watch = CredentialWatch()
    with watch.watching(credentials[0]) as watched:
        pass
    await sync_to_async(Session.objects.all().revoke)()

    await watch.check()

    assert not watched.ended


def test_any_number_of_doors_costs_two_queries(alice, credentials):
    many = credentials * 50 + [Credential(alice, session=Session.objects.create(user=alice))]

    with CaptureQueriesContext(connection) as queries:
        alive = _alive(many)

    assert len(queries) == 2
    assert len(alive) == 3
