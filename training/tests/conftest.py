"""What the tests of data sets share: a place for them, an operator, and people who allow training."""

import pytest
from django.test import Client
from django.utils import timezone

from accounts import roles
from conftest import bearer


@pytest.fixture
def root(settings, tmp_path):
    settings.DATASETS_ROOT = tmp_path / "datasets"
    settings.FILE_UPLOAD_TEMP_DIR = tmp_path / "uploads"
    return settings.DATASETS_ROOT


@pytest.fixture
def people(alice, bob, charlie):
    """All of them allow training."""
    now = timezone.now()
    for user in (alice, bob, charlie):
        user.training_consent_at = now
        user.save()
    return [alice, bob, charlie]


@pytest.fixture
def operator(make_user):
    user = make_user("olga")
    roles.set_roles(user, [roles.MEMBER, roles.OPERATOR])
    return user


@pytest.fixture
def program(operator):
    return Client(headers=bearer(operator))
