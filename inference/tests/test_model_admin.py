"""The models in the admin: what a row may say, who answers in its place, the default, and the cache."""

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Group
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.models import AuditEvent
from accounts.models.audit import AuditKind
from conftest import sign_in_client
from inference.cache.levels import answer_cache
from inference.circuits import Deployment, circuits
from inference.models import ChatModelConfig, Conversation, Generation, Message, ModelFallback, Version
from inference.reactions import react
from llmsite.core.errors import ProviderRateLimited

pytestmark = pytest.mark.django_db

LIST = "admin:inference_chatmodelconfig_changelist"


@pytest.fixture
def operator(make_user):
    user = make_user("operator")
    user.groups.add(Group.objects.get(name="operator"))
    return user


@pytest.fixture
def admin_client(client, operator):
    sign_in_client(client, operator)
    return client


@pytest.fixture(autouse=True)
def _closed_circuits():
    yield
    circuits.forget()


def page(model, name="change"):
    return reverse(f"admin:inference_chatmodelconfig_{name}", args=[model.pk])


def values(model, *chain, **changed):
    """What the form of `model` sends; `chain` are positions and fallbacks."""
    fields = ("alias", "label", "provider", "provider_model", "context_window", "max_tokens", "cache_scope")
    sent = {name: getattr(model, name) for name in fields}
    sent |= {"is_active": "on", "parameters": "{}", "input_price": "0", "output_price": "0"}
    sent |= {"languages": ", ".join(model.languages)}
    kept = list(ModelFallback.objects.filter(model=model)) if model.pk else []
    sent |= {"chain-TOTAL_FORMS": max(len(chain), len(kept)), "chain-INITIAL_FORMS": len(kept)}
    for number, row in enumerate(kept):
        sent |= {f"chain-{number}-id": row.pk, f"chain-{number}-model": model.pk}
    for number, (position, fallback) in enumerate(chain):
        sent |= {f"chain-{number}-position": position, f"chain-{number}-fallback": fallback.pk}
    return {name: value for name, value in {**sent, **changed}.items() if value is not None}


def save(client, model, *chain, **changed):
    return client.post(page(model), values(model, *chain, **changed))


def errors(answer):
    assert answer.status_code == 200, answer.headers
    forms = [answer.context["adminform"].form, *answer.context["inline_admin_formsets"][0].formset.forms]
    return {name: list(texts) for form in forms for name, texts in form.errors.items()}


def chain_of(model):
    links = ModelFallback.objects.filter(model=model).select_related("fallback")
    return [(link.position, link.fallback.alias) for link in links]


def changes():
    return [event.data for event in AuditEvent.objects.filter(kind=AuditKind.MODEL_CHANGED)]


# --- What a row may say ----------------------------------------------------------------------------


def test_an_operator_changes_a_model_and_the_audit_log_tells_what(admin_client, models, operator):
    answer = save(
        admin_client,
        models["echo"],
        label="Echo",
        parameters='{"temperature": 0.2, "stop": ["END"], "presence_penalty": -1}',
        refused_parameters=["seed", "tools"],
        languages="en, es-MX,",
        input_price="1.5",
        cache_scope="site",
    )

    assert answer.status_code == 302, errors(answer)
    row = ChatModelConfig.objects.get(alias="echo")
    assert row.parameters == {"temperature": 0.2, "stop": ["END"], "presence_penalty": -1}
    assert sorted(row.refused_parameters) == ["seed", "tools"]
    [event] = AuditEvent.objects.filter(kind=AuditKind.MODEL_CHANGED)
    assert event.actor == operator.pseudonym
    assert event.data["model"] == "echo"
    assert event.data["fields"] == [
        "cache_scope",
        "input_price",
        "label",
        "languages",
        "parameters",
        "refused_parameters",
    ]
    assert row.languages == ["en", "es-MX"]
    assert 'value="en, es-MX"' in admin_client.get(page(models["echo"])).content.decode()


def test_a_page_that_was_saved_unchanged_leaves_no_event(admin_client, models):
    assert save(admin_client, models["echo"]).status_code == 302
    assert changes() == []


def test_a_new_model_is_added_with_its_fallbacks(admin_client, models):
    new = ChatModelConfig(alias="new", provider="scripted", provider_model="x")
    sent = values(new, (1, models["echo"]), **{"chain-TOTAL_FORMS": 1})

    answer = admin_client.post(reverse("admin:inference_chatmodelconfig_add"), sent)

    assert answer.status_code == 302, errors(answer)
    assert chain_of(ChatModelConfig.objects.get(alias="new")) == [(1, "echo")]


@pytest.mark.parametrize(
    ("changed", "field", "text"),
    [
        ({"parameters": '{"temperature": 3}'}, "parameters", "temperature: "),
        ({"parameters": '{"temperature": NaN}'}, "parameters", "valid JSON"),
        ({"parameters": '{"temperature": 1e999}'}, "parameters", "temperature: "),
        ({"parameters": '{"top_k": 3}'}, "parameters", "“top_k” is not known here"),
        ({"parameters": '{"max_tokens": 3}'}, "parameters", "“max_tokens” is not known here"),
        ({"parameters": '{"seed": "one"}'}, "parameters", "seed: "),
        ({"parameters": '{"frequency_penalty": -3}'}, "parameters", "frequency_penalty: "),
        ({"parameters": "[1]"}, "parameters", "an object of JSON"),
        ({"parameters": "{"}, "parameters", "valid JSON"),
        ({"refused_parameters": ["top_k"]}, "refused_parameters", "top_k is not one of"),
        ({"base_url": "https://example.org/v1"}, "base_url", "PROVIDER_BASE_URLS"),
        ({"base_url": "nonsense"}, "base_url", "full address"),
        ({"languages": "en, Spanish"}, "languages", "“Spanish” is no code of a language"),
        ({"provider": "nobody"}, "provider", "nobody is not one of"),
        ({"max_tokens": "8192"}, "max_tokens", "leave room"),
        ({"input_price": "-1"}, "__all__", "prices"),
        ({"alias": "scripted"}, "alias", "already exists"),
    ],
)
def test_what_a_model_may_not_say(changed, field, text, admin_client, models, settings):
    settings.PROVIDER_BASE_URLS = []

    wrong = errors(save(admin_client, models["echo"], **changed))

    assert text in " ".join(wrong[field])
    assert ChatModelConfig.objects.get(pk=models["echo"].pk).label == ""
    assert changes() == []


@pytest.fixture
def own_model(settings):
    """One that the site's own engine answers for."""
    settings.LOCAL_BASE_URL = ""
    return ChatModelConfig.objects.create(alias="ours", provider="local", provider_model="small")


def test_only_a_promotion_gives_a_model_of_our_own_an_adapter(admin_client, own_model):
    ChatModelConfig.objects.filter(pk=own_model.pk).update(adapter="small-1")

    shown = admin_client.get(page(own_model))
    answer = save(admin_client, own_model, adapter="small-2", label="Ours")

    assert "adapter" not in shown.context["adminform"].form.fields
    assert "small-1" in shown.content.decode()
    assert answer.status_code == 302, errors(answer)
    own_model.refresh_from_db()
    assert (own_model.adapter, own_model.label) == ("small-1", "Ours")


def test_a_page_that_was_opened_before_a_promotion_does_not_undo_it(admin_client, own_model):
    sent = values(own_model, adapter="")
    ChatModelConfig.objects.filter(pk=own_model.pk).update(adapter="small-1")

    assert admin_client.post(page(own_model), sent).status_code == 302

    assert ChatModelConfig.objects.get(pk=own_model.pk).adapter == "small-1"


def test_nor_does_a_new_model_of_our_own_begin_with_one(admin_client, own_model):
    new = ChatModelConfig(alias="another", provider="local", provider_model="small")

    answer = admin_client.post(reverse("admin:inference_chatmodelconfig_add"), values(new, adapter="small-1"))

    assert "adapter" in errors(answer)
    assert not ChatModelConfig.objects.filter(alias="another").exists()


def test_nor_one_that_comes_to_us_from_another_provider(admin_client, own_model):
    other = ChatModelConfig.objects.create(
        alias="theirs", provider="echo", provider_model="echo", adapter="small-1"
    )

    answer = save(admin_client, other, provider="local", adapter="small-1")

    assert "adapter" in errors(answer)
    assert save(admin_client, other, provider="local", adapter="").status_code == 302


@pytest.mark.parametrize("has_server", [True, False])
def test_of_another_server_an_operator_names_the_adapter(admin_client, own_model, settings, has_server):
    settings.LOCAL_BASE_URL = "http://127.0.0.1:9/v1" if has_server else ""
    model = (
        own_model
        if has_server
        else ChatModelConfig.objects.create(alias="theirs", provider="echo", provider_model="echo")
    )

    answer = save(admin_client, model, adapter="support-2")

    assert answer.status_code == 302, errors(answer)
    assert ChatModelConfig.objects.get(pk=model.pk).adapter == "support-2"


# --- Who answers in its place ----------------------------------------------------------------------


def test_fallbacks_are_put_in_order_and_change_places(admin_client, models):
    echo, slow, cut, model = (models[name] for name in ("echo", "slow", "cut", "scripted"))

    assert save(admin_client, model, (20, echo), (10, slow)).status_code == 302
    assert chain_of(model) == [(1, "slow"), (2, "echo")]

    # Two rows whose positions are exchanged, and then their models.
    assert save(admin_client, model, (2, slow), (1, echo)).status_code == 302
    assert chain_of(model) == [(1, "echo"), (2, "slow")]
    assert save(admin_client, model, (1, slow), (2, echo), (3, cut)).status_code == 302
    assert chain_of(model) == [(1, "slow"), (2, "echo"), (3, "cut")]
    # A place without a number is the last one.
    assert save(admin_client, model, (2, slow), (1, echo), ("", cut)).status_code == 302
    assert chain_of(model) == [(1, "echo"), (2, "slow"), (3, "cut")]
    assert changes()[0]["fields"] == ["fallbacks"]


def test_a_fallback_is_taken_out_and_the_processes_learn_of_it(admin_client, models):
    model = models["scripted"]
    save(admin_client, model, (1, models["echo"]), (2, models["slow"]))
    before = Version.objects.numbers()[Version.MODELS]

    answer = save(admin_client, model, (1, models["echo"]), (2, models["slow"]), **{"chain-0-DELETE": "on"})

    assert answer.status_code == 302
    assert chain_of(model) == [(1, "slow")]
    assert Version.objects.numbers()[Version.MODELS] > before


@pytest.mark.parametrize(("aliases", "text"), [(["scripted"], "own place"), (["echo", "echo"], "already")])
def test_a_model_does_not_fall_back_on_itself_or_twice_on_another(aliases, text, admin_client, models):
    chain = [(number, models[alias]) for number, alias in enumerate(aliases, start=1)]

    answer = save(admin_client, models["scripted"], *chain)

    assert text in " ".join(errors(answer)["fallback"])
    assert chain_of(models["scripted"]) == []


# --- The default -----------------------------------------------------------------------------------


def test_the_default_is_switched_on_a_page_that_asks_once_more(admin_client, models, operator):
    chosen = {"action": "make_default", "_selected_action": [models["echo"].pk]}
    answer = admin_client.post(reverse(LIST), chosen)
    assert answer["Location"] == page(models["echo"], "default")
    asked = admin_client.get(answer["Location"])
    assert "As yet this is “scripted”" in asked.content.decode()
    assert ChatModelConfig.objects.get(is_default=True).alias == "scripted"

    assert admin_client.post(answer["Location"]).status_code == 302

    assert ChatModelConfig.objects.get(is_default=True).alias == "echo"
    [event] = AuditEvent.objects.filter(kind=AuditKind.MODEL_SWITCHED)
    assert (event.actor, event.data) == (operator.pseudonym, {"model": "echo", "before": "scripted"})


@pytest.mark.parametrize("names", [["echo", "slow"], ["echo", "slow", "cut"]])
def test_two_models_cannot_be_chosen(names, admin_client, models):
    chosen = {"action": "make_default", "_selected_action": [models[name].pk for name in names]}

    page = admin_client.post(reverse(LIST), chosen, follow=True).content.decode()

    assert "Select one model alone." in page
    assert ChatModelConfig.objects.get(is_default=True).alias == "scripted"


def test_a_model_without_a_key_or_switched_off_does_not_become_the_default(admin_client, models, settings):
    settings.OPENAI_API_KEY = ""
    gpt = ChatModelConfig.objects.create(alias="gpt", provider="openai", provider_model="gpt")
    off = ChatModelConfig.objects.create(alias="off", provider="echo", provider_model="x", is_active=False)

    assert "OPENAI_API_KEY" in admin_client.post(page(gpt, "default")).content.decode()
    assert "There is no model named “off”" in admin_client.post(page(off, "default")).content.decode()
    assert ChatModelConfig.objects.get(is_default=True).alias == "scripted"


def test_the_default_cannot_be_switched_off_or_taken_away(client, staff, models):
    sign_in_client(client, staff)
    default = models["scripted"]

    assert "Make another model the default" in errors(save(client, default, is_active=None))["is_active"][0]
    # The field is shown, not sent.
    assert save(client, models["echo"], is_default="on").status_code == 302
    client.post(page(default, "delete"), {"post": "yes"})
    several = [models["echo"].pk, default.pk]
    client.post(reverse(LIST), {"action": "delete_selected", "_selected_action": several, "post": "yes"})

    assert ChatModelConfig.objects.get(is_default=True, is_active=True).alias == "scripted"
    assert ChatModelConfig.objects.filter(alias="echo").exists()


def test_another_model_is_deleted_and_the_audit_log_tells(client, staff, models):
    sign_in_client(client, staff)

    several = [models["echo"].pk, models["slow"].pk]
    client.post(reverse(LIST), {"action": "delete_selected", "_selected_action": several, "post": "yes"})

    assert not ChatModelConfig.objects.filter(pk__in=several).exists()
    assert sorted(data["model"] for data in changes()) == ["echo", "slow"]


def test_staff_without_the_permissions_are_kept_out(client, make_user, models):
    curator = make_user("curator")
    curator.groups.add(Group.objects.get(name="curator"))
    sign_in_client(client, curator)

    for url in (page(models["echo"], "default"), reverse("admin:inference_chatmodelconfig_clear_cache")):
        assert client.get(url).status_code == 403
        assert client.post(url).status_code == 403
    assert ChatModelConfig.objects.get(is_default=True).alias == "scripted"
    assert not AuditEvent.objects.filter(kind=AuditKind.CACHE_CLEARED).exists()


# --- The list and the cache ------------------------------------------------------------------------


def test_the_list_says_how_each_model_stands(admin_client, models, settings):
    settings.OPENAI_API_KEY, settings.ANTHROPIC_API_KEY = "key", ""
    rows = ChatModelConfig.objects
    rows.create(alias="gpt", provider="openai", provider_model="gpt")
    rows.create(alias="sonnet", provider="anthropic", provider_model="s", input_price=3, output_price="15.5")
    error = ProviderRateLimited(provider="scripted", retry_after=60)
    async_to_sync(circuits.failed)(
        Deployment("scripted", "", "slow"), react(error), code="rate_limited_there"
    )

    answer = admin_client.get(reverse(LIST))

    shown = {row.alias: row for row in answer.context["cl"].result_list}
    admin = answer.context["cl"].model_admin
    assert [admin.price(shown[name]) for name in ("gpt", "echo", "sonnet")] == [
        "no price set",
        "free",
        "3 / 15.5 USD",
    ]
    assert [admin.key(shown[name]) for name in ("gpt", "echo", "sonnet")] == [
        "set",
        "needs none",
        "missing: ANTHROPIC_API_KEY",
    ]
    assert admin.circuit(shown["slow"]).startswith("paused until ")
    assert admin.circuit(shown["slow"]).endswith(": rate_limited_there")
    assert admin.circuit(shown["echo"]) == "in order"
    assert "rate_limited_there" in answer.content.decode()


@pytest.mark.parametrize("name", ["chatmodelconfig", "conversation", "generation"])
def test_a_longer_list_costs_no_more_queries(name, client, staff, make_user, models):
    sign_in_client(client, staff)
    url = reverse(f"admin:inference_{name}_changelist")

    def add(number):
        row = ChatModelConfig.objects.create(alias=f"m{number}", provider="echo", provider_model="echo")
        ModelFallback.objects.create(model=row, fallback=models["echo"])
        user = make_user(f"user{number}")
        conversation = Conversation.objects.create(owner=user)
        message = Message.objects.create(conversation=conversation, role="assistant")
        Generation.objects.create(
            user=user, message=message, model_alias="echo", provider="echo", door="rest"
        )

    def count():
        with CaptureQueriesContext(connection) as queries:
            assert client.get(url).status_code == 200
        return len(queries)

    add(0)
    client.get(url)
    few = count()
    for number in range(1, 5):
        add(number)

    assert count() == few


def test_the_page_of_a_model_costs_no_more_queries_for_a_longer_chain(admin_client, models):
    model = models["scripted"]

    def count():
        with CaptureQueriesContext(connection) as queries:
            assert admin_client.get(page(model)).status_code == 200
        return len(queries)

    ModelFallback.objects.create(model=model, fallback=models["echo"], position=1)
    count()
    few = count()
    for position, alias in enumerate(("slow", "cut", "hangs"), start=2):
        ModelFallback.objects.create(model=model, fallback=models[alias], position=position)

    assert count() == few


@pytest.mark.django_db(transaction=True)
def test_the_cache_is_cleared_on_a_page_that_asks_once_more(admin_client, models, operator):
    url = reverse("admin:inference_chatmodelconfig_clear_cache")
    assert url in admin_client.get(reverse(LIST)).content.decode()
    assert "Every answer that was kept is forgotten" in admin_client.get(url).content.decode()
    before = Version.objects.numbers().get(Version.CACHE, 0)

    answer = admin_client.post(url, follow=True)

    assert "The cache is empty." in answer.content.decode()
    assert Version.objects.numbers()[Version.CACHE] == before + 1
    assert len(answer_cache.memory) == 0
    assert [event.actor for event in AuditEvent.objects.filter(kind=AuditKind.CACHE_CLEARED)] == [
        operator.pseudonym
    ]
