import asyncio
import subprocess
import sys

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.test import override_settings

from inference.providers import get_provider, provider_name, provider_names
from inference.tests.providers.asking import a_request, collect, collect_until_error, text_of
from inference.tests.standin import Answer, StandIn
from llmsite.core import errors


def test_names() -> None:
    assert provider_names() == ["anthropic", "echo", "local", "openai", "scripted"]


@pytest.mark.parametrize(
    ("alias", "name"), [("claude", "anthropic"), ("huggingface", "local"), ("echo", "echo")]
)
def test_aliases(alias: str, name: str) -> None:
    assert provider_name(alias) == name


def test_an_alias_is_the_same_provider() -> None:
    assert get_provider("huggingface") is get_provider("local")


@pytest.mark.parametrize("name", ["", "gpt", "__class__"])
def test_an_unknown_name_is_the_callers_mistake(name: str) -> None:
    with pytest.raises(errors.InvalidInput) as caught:
        get_provider(name)
    public = errors.describe(caught.value)
    assert (public.status, public.field) == (400, "provider")
    assert "scripted" in public.message


@pytest.mark.parametrize(("name", "setting"), [("claude", "ANTHROPIC_API_KEY"), ("openai", "OPENAI_API_KEY")])
def test_a_missing_key_names_the_setting(name: str, setting: str) -> None:
    with override_settings(**{setting: ""}), pytest.raises(errors.ProviderNotConfigured) as caught:
        get_provider(name)
    public = errors.describe(caught.value)
    assert public.status == 503
    assert setting in public.message


def test_a_setting_that_changes_makes_new_providers() -> None:
    before = get_provider("local")
    with override_settings(LANGUAGE_CODE="es"):
        assert get_provider("local") is before
    with override_settings(MODEL_URL="http://127.0.0.1:9"):
        assert get_provider("local") is not before


async def test_deadlines_come_from_the_settings(standin: StandIn) -> None:
    standin.script(Answer(head_start=30))
    with override_settings(MODEL_URL=standin.url, LOCAL_BASE_URL="", FIRST_TOKEN_TIMEOUT=0.1):
        _, error = await collect_until_error(get_provider("local"))
    assert isinstance(error, errors.ProviderTimeout)


async def test_another_server_takes_the_place_of_the_embedded_one(standin: StandIn, closed_url: str) -> None:
    with override_settings(MODEL_URL=closed_url, LOCAL_BASE_URL=f"{standin.url}/v1"):
        assert text_of(await collect(get_provider("local"))) == "Hello, world!"


@pytest.mark.parametrize("name", ["anthropic", "openai", "local"])
def test_sync_callers_and_threads_share_an_instance(name: str, standin: StandIn) -> None:
    base = {"anthropic": standin.url, "openai": f"{standin.url}/v1", "local": standin.url}[name]
    prefix = name.upper()
    changed = {f"{prefix}_BASE_URL": base, **({} if name == "local" else {f"{prefix}_API_KEY": "sk-test"})}
    with override_settings(**changed):
        provider = get_provider(name)

        async def ask() -> str:
            both = await asyncio.gather(collect(provider), collect(provider, a_request("again")))
            return "".join(text_of(events) for events in both)

        assert async_to_sync(ask)() == "Hello, world!" * 2
        assert asyncio.run(ask()) == "Hello, world!" * 2
        assert async_to_sync(ask)() == "Hello, world!" * 2


def test_naming_the_providers_imports_no_sdk_and_no_http_client() -> None:
    program = (
        "import sys, django; django.setup()\n"
        "from inference.providers import get_provider, provider_names\n"
        "get_provider('local'); get_provider('openai'); get_provider('anthropic'); get_provider('echo')\n"
        "heavy = {'anthropic', 'openai', 'httpx2', 'torch', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    env = {
        "DJANGO_SETTINGS_MODULE": "llmsite.settings",
        "SECRET_KEY": settings.SECRET_KEY,
        "ENV_FILE": "",
        "OPENAI_API_KEY": "sk-test",
        "ANTHROPIC_API_KEY": "sk-test",
    }
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=settings.BASE_DIR, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
