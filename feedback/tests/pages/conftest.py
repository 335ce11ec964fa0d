import pytest
from django.contrib.auth.models import Group

from accounts.models import User


@pytest.fixture
def make_curator(make_user):
    def make(name: str) -> User:
        user = make_user(name)
        user.groups.add(Group.objects.get(name="curator"))
        return user

    return make


@pytest.fixture
def curator(make_curator) -> User:
    return make_curator("carla")
