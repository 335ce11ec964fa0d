"""A value of another JSON type than its field has is refused by name, and not turned into what was meant."""

import pytest
from django.test import AsyncClient, Client
from rest_framework import serializers

from llmsite.core.serializers import StrictSerializer


class Everything(StrictSerializer):
    text = serializers.CharField(required=False, allow_null=True)
    flag = serializers.BooleanField(required=False)
    whole = serializers.IntegerField(required=False)
    number = serializers.FloatField(required=False)
    texts = serializers.ListField(child=serializers.CharField(), required=False)


@pytest.mark.parametrize(
    "data",
    [
        {"text": 5},
        {"text": True},
        {"flag": "true"},
        {"flag": 1},
        {"whole": "5"},
        {"whole": True},
        {"whole": 1.5},
        {"number": "0.5"},
        {"number": False},
        {"texts": ["a", 5]},
        {"texts": "a"},
    ],
)
def test_another_type_is_refused_with_the_field(data):
    with pytest.raises(serializers.ValidationError) as error:
        Everything.read(data)
    assert set(error.value.detail) == set(data)


def test_the_right_types_are_taken():
    data = {"text": "5", "flag": True, "whole": 5, "number": 1, "texts": ["a"]}
    assert Everything.read(data) == data
    assert Everything.read({"text": None, "whole": 5.0}) == {"text": None, "whole": 5}


@pytest.mark.django_db
def test_so_does_a_door_of_the_rest_framework(alice_headers):
    body = {"title": 5}
    answer = Client().post("/api/conversations", body, content_type="application/json", headers=alice_headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["field"] == "title"


@pytest.mark.django_db(transaction=True)
async def test_and_an_async_one(alice_headers):
    body = {"prompt": "Hello?", "max_tokens": "5"}
    answer = await AsyncClient().post(
        "/api/predict", body, content_type="application/json", headers=alice_headers
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["field"] == "max_tokens"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("query", "field"), [("limit=x", "limit"), ("limit=0", "limit"), ("cursor=a", "cursor")]
)
def test_a_page_that_is_none_is_refused(query, field, alice_headers):
    answer = Client().get(f"/api/conversations?{query}", headers=alice_headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["field"] == field
