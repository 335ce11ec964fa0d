"""What the tests of the dashboard share."""

from decimal import Decimal

import pytest
from django.test import Client

from accounts.roles import OPERATOR, set_roles
from conftest import sign_in_client
from inference.models import ChatModelConfig


@pytest.fixture
def operator(alice):
    set_roles(alice, [OPERATOR])
    return alice


@pytest.fixture
def client(operator):
    client = Client()
    sign_in_client(client, operator)
    return client


@pytest.fixture
def priced(models):
    ChatModelConfig.objects.filter(alias="scripted").update(input_price=Decimal(3), output_price=Decimal(15))
    return models
