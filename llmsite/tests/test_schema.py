"""`GET /api/schema`: it has every door of the API, and says of each what is true."""

import json
import re

import pytest
from django.core.management import call_command
from django.http import JsonResponse
from django.test import AsyncClient, Client
from django.urls import path as route
from drf_spectacular.validation import validate_schema

from conftest import bearer, sign_in_client
from llmsite.api_docs import Generator, schema_json
from llmsite.core.dialects import dialect_of
from llmsite.core.errors import TABLE
from llmsite.core.rest import json_door
from llmsite.tests.rights import API, Who

SCHEMA = "/api/schema"


@pytest.fixture(scope="module")
def schema():
    return json.loads(schema_json())


def operations(schema):
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def named(route):
    """`api/conversations/<uuid:pk>` as the schema has it."""
    return "/" + re.sub(r"<(\w+:)?(\w+)>", r"{\2}", route).replace("{pk}", "{id}")


# --- What is in it ----------------------------------------------------------------------------------


METHODS = {"api/cache": ("GET", "DELETE"), "api/metrics": ("GET",)}


def test_every_door_is_in_it_with_every_method(schema):
    expected = {
        (named(row.route), verb)
        for row in API
        if row.route.startswith(("api/", "v1/"))
        for verb in row.verbs
        # Whoever may not look there is refused before the method is looked at.
        if verb in METHODS.get(row.route, row.verbs)
    }

    assert {(path, method) for path, method, _ in operations(schema)} == expected


def test_every_door_is_described(schema):
    """A new door without `documented` fails here."""
    bare = [
        f"{method} {path}" for path, method, operation in operations(schema) if "summary" not in operation
    ]
    assert not bare, f"no @documented beside the view: {', '.join(bare)}"
    for path, method, operation in operations(schema):
        assert operation["tags"], path
        good = [status for status in operation["responses"] if status < "300"]
        assert good, f"{method} {path} says of no good answer"


def test_it_is_a_valid_document_and_its_names_are_unique(schema, capsys):
    validate_schema(schema)
    assert schema["openapi"].startswith("3.1")
    names = [operation["operationId"] for _, _, operation in operations(schema)]
    assert len(names) == len(set(names))
    assert '"nullable"' not in schema_json().decode()

    call_command("spectacular", "--format", "openapi-json", "--fail-on-warn", "--validate")
    assert json.loads(capsys.readouterr().out) == schema


def test_each_error_has_the_form_of_its_address(schema):
    forms = {"Error": "/api/", "OpenAIError": "/v1/", "AnthropicError": "/v1/messages"}
    for path, _, operation in operations(schema):
        for status, response in operation["responses"].items():
            if status < "400":
                continue
            form = response["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
            assert path.startswith(forms[form]), (path, status)
            assert (form == "OpenAIError") == (
                path.startswith("/v1/") and not path.startswith("/v1/messages")
            )


def test_the_forms_are_those_of_the_doors(schema):
    """What an address really answers fits the form that the schema gives it."""
    from jsonschema import Draft202012Validator

    for path in ("/api/predict", "/v1/chat/completions", "/v1/messages"):
        answer = Client().post(path, {}, content_type="application/json")
        described = schema["paths"][path]["post"]["responses"][str(answer.status_code)]
        reference = described["content"]["application/json"]["schema"]["$ref"]
        form = schema["components"]["schemas"][reference.rpartition("/")[2]]
        assert answer.status_code == 401
        Draft202012Validator(form).validate(answer.json())
        for name, header in described["headers"].items():
            assert header["$ref"] == f"#/components/headers/{name}"
            assert name in answer.headers, name
        error = answer.json()["error"]
        assert f"`{error.get('code') or error['type']}`" in described["description"]


def test_every_error_of_the_table_is_told_by_some_door(schema):
    told = "".join(
        response["description"]
        for path, _, operation in operations(schema)
        if dialect_of(path) is dialect_of("/api/")
        for response in operation["responses"].values()
    )
    # Of methods that an operation does not have, and of what only pages do.
    elsewhere = {"method_not_allowed", "last_administrator", "erasure_unfinished"}
    assert {row.code for row in TABLE.values() if f"`{row.code}`" not in told} == elsewhere


def test_a_door_without_a_description_would_be_seen():
    """So the check above can fail."""

    @json_door("POST")
    async def bare(request):
        return JsonResponse({})

    bare_schema = Generator(patterns=[route("api/bare", bare)]).get_schema(public=True)
    [(address, method, operation)] = operations(bare_schema)
    assert (address, method) == ("/api/bare", "POST")
    assert "summary" not in operation


# --- Who may come in ----------------------------------------------------------------------------------


def test_it_says_who_may_come_in(schema):
    doors = {named(row.route): row.who for row in API}
    for path, method, operation in operations(schema):
        ways = {name for way in operation["security"] for name in way}
        if doors[path] is Who.EVERYBODY:
            assert ways == set(), path
        elif doors[path] is Who.KEY_HOLDER:
            assert ways <= {"bearer", "apiKey"}, path
            assert "bearer" in ways
        else:
            assert ways == {"bearer", "cookie"} | (set() if method == "GET" else {"csrf"}), path
    assert set(schema["components"]["securitySchemes"]) == {"bearer", "apiKey", "cookie", "csrf"}


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("models")
async def test_the_scope_that_it_names_is_the_one_that_opens(schema, staff, settings):
    """A key of those scopes alone is let in, and one of all other scopes is not."""
    from asgiref.sync import sync_to_async

    from accounts.models import Scope
    from llmsite.core.rates import Rate

    settings.RATE_LIMIT = settings.RATE_LIMIT_ADDRESS = Rate(10**6, 60)
    missing = "00000000-0000-0000-0000-000000000001"
    checked = 0
    keys = {}  # A person has only so many of them.
    for path, method, operation in operations(schema):
        needed = next((way["bearer"] for way in operation["security"] if "bearer" in way), [])
        for scope in needed:
            others = [other for other in Scope.values if other != scope]
            for scopes, is_open in ((needed, True), (others, False)):
                if (headers := keys.get(tuple(scopes))) is None:
                    headers = keys[tuple(scopes)] = await sync_to_async(bearer)(staff, scopes=scopes)
                address = path.replace("{id}", missing)
                given = {} if method == "GET" else {"data": {}, "content_type": "application/json"}
                answer = await getattr(AsyncClient(), method.lower())(address, headers=headers, **given)
                # Whoever may switch the model needs a key of no scopes; such a key has this one too.
                expected = is_open and (path, method) != ("/api/model", "POST")
                assert (answer.status_code != 403) == expected, (method, path, scopes, answer.status_code)
                checked += 1
    assert checked > 30


@pytest.mark.django_db
def test_whoever_is_signed_in_or_has_a_key_reads_it(alice):
    assert Client().get(SCHEMA).status_code == 401
    browser = Client(enforce_csrf_checks=True)
    sign_in_client(browser, alice)
    narrow = bearer(alice, scopes=["embed"])
    for answer in (browser.get(SCHEMA), Client().get(SCHEMA, headers=narrow)):
        assert answer.status_code == 200
        assert answer["Content-Type"] == "application/json"
        assert answer.json()["info"]["title"] == "llmsite"


@pytest.mark.django_db
def test_it_is_the_same_in_every_language(alice):
    headers = bearer(alice)
    schema_json.cache_clear()
    spanish = Client().get(SCHEMA, headers={**headers, "Accept-Language": "es"}).content
    schema_json.cache_clear()
    assert Client().get(SCHEMA, headers=headers).content == spanish
    assert "Inicie" not in spanish.decode()


def test_making_it_warns_of_nothing(capsys):
    Generator().get_schema(public=True)
    assert capsys.readouterr().err == ""


# --- The page -----------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_page_is_for_whoever_is_signed_in(alice):
    assert Client().get("/docs/")["Location"] == "/login/?next=/docs/"
    browser = Client()
    sign_in_client(browser, alice)
    page = browser.get("/docs/").content.decode()
    assert 'data-schema="/api/schema"' in page
    assert "http://testserver/v1" in page
    for address in ("/chat/", "/account/"):
        assert 'href="/docs/"' in browser.get(address).content.decode()
