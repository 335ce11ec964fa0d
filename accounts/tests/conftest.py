"""Fast passwords (what they cost in production is Django's business), and somebody with the role `admin`."""

import pytest
from django.contrib.auth.models import Group


@pytest.fixture(autouse=True)
def _fast_passwords(settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def admin(make_user):
    """Somebody with the role, who is no superuser."""
    user = make_user("adam")
    user.groups.add(Group.objects.get(name="admin"))
    return user
