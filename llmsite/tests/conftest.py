"""The people of the tests of rights."""

import pytest
from django.contrib.auth.models import Group

from accounts import roles
from accounts.models import Team, User
from inference.tests.conftest import _standin, settled, standin  # noqa: F401 - for the tests here
from llmsite.core.rates import Rate
from llmsite.tests.world import make_objects


@pytest.fixture
def unlimited(settings):
    settings.RATE_LIMIT = settings.RATE_LIMIT_ADDRESS = settings.LOGIN_RATE_LIMIT = Rate(10**6, 60)


@pytest.fixture
def one_connection(monkeypatch):
    """All runs in the transaction of the test, which ends with its connection: nobody may close that."""
    monkeypatch.setattr("channels.db.close_old_connections", lambda: None)


@pytest.fixture
def people(models, unlimited, one_connection):
    """The callers by their kind; nobody's password is needed, so none is hashed."""
    made = {kind: User.objects.create(username=kind) for kind in ("owner", "mate", "stranger", "disabled")}
    made["staff"] = User.objects.create(username="staff")
    roles.set_roles(made["staff"], [roles.MEMBER, roles.CURATOR])
    # Staff by a role that has lost its rights: what it may do with them is shown where its pages are tested.
    Group.objects.get(name=roles.CURATOR).permissions.clear()
    made["superuser"] = User.objects.create(username="superuser", is_superuser=True)
    team = Team.objects.create(name="Secret team")
    team.members.set([made["owner"], made["mate"]])
    return made


@pytest.fixture
def objects(people):
    return make_objects(people["owner"])
