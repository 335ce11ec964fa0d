"""What the tests of the dashboard share."""

import pytest
from django.test import Client

from accounts.roles import OPERATOR, set_roles
from conftest import sign_in_client


@pytest.fixture
def operator(alice):
    set_roles(alice, [OPERATOR])
    return alice


@pytest.fixture
def client(operator):
    client = Client()
    sign_in_client(client, operator)
    return client
