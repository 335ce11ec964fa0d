"""Promotions: what may go live, when it does, what a roll-back puts back, and what stays where it fails."""

from datetime import timedelta

import pytest
from django.utils import timezone, translation
from django.utils.translation import gettext

from accounts.models import AuditEvent
from inference.adapters import wanted as wanted_by_the_engine
from inference.engine import base_model
from inference.engine.runner import EngineError
from inference.models import ChatModelConfig, LoadState, Version
from llmsite.core.errors import PromotionRefused
from training import promotion
from training.models import Promotion, PromotionStatus, RunStatus
from training.promotion import converge, promote, rollback, standing, withdraw
from training.tests.making import (
    BASE_SHA,
    Engine,
    make_adapter,
    make_evaluation,
    make_good_run,
    make_local_model,
    make_run,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _base(monkeypatch):
    """The engine's weights are those of the runs; the real ones take a second to hash."""
    from inference.engine import base_model

    served = base_model.BaseModel("base", None, BASE_SHA)
    monkeypatch.setattr(base_model, "base_model", lambda *_: served)


@pytest.fixture
def model(db):
    ChatModelConfig.objects.filter(provider="local").delete()
    return make_local_model()


@pytest.fixture
def engine(db):
    return Engine()


@pytest.fixture
def put_live(staff, engine):
    """Promotes a run of its own, all the way; gives its adapter."""

    def put(model):
        run, adapter = make_good_run(staff)
        promote(run, user=staff, model=model)
        engine.says(adapter)
        converge()
        return adapter

    return put


def behind(model):
    return ChatModelConfig.objects.get(pk=model.pk).adapter


def states(model):
    rows = Promotion.objects.filter(model=model).order_by("created_at", "id")
    return [row.status for row in rows]


# --- Going live ----------------------------------------------------------------------------------------


def test_the_model_moves_once_every_engine_process_has_the_adapter(model, staff, engine):
    run, adapter = make_good_run(staff)
    second = Engine()
    before = Version.objects.numbers()[Version.MODELS]

    made = promote(run, user=staff)

    assert (made.model, made.adapter, made.previous, made.status) == (model, adapter, None, "loading")
    assert [row.name for row in wanted_by_the_engine()] == [adapter.name]
    converge()
    engine.says(adapter)
    second.says(adapter, LoadState.LOADING)
    converge()
    assert behind(model) == ""
    assert Version.objects.numbers()[Version.MODELS] == before

    second.says(adapter)
    converge()

    assert behind(model) == adapter.name
    made.refresh_from_db()
    assert (made.status, made.live_at is not None) == ("live", True)
    assert Version.objects.numbers()[Version.MODELS] > before, "other processes would not notice"
    assert [row.name for row in wanted_by_the_engine()] == [adapter.name]
    converge()
    assert states(model) == ["live"]


def test_a_process_that_has_died_is_not_waited_for(model, staff, engine):
    run, adapter = make_good_run(staff)
    promote(run, user=staff)
    Engine().dies()
    engine.says(adapter)

    converge()

    assert behind(model) == adapter.name


def test_without_any_engine_process_nothing_moves(model, staff):
    promote(make_good_run(staff)[0], user=staff)

    converge()

    assert (behind(model), states(model)) == ("", ["loading"])


def test_where_one_process_cannot_load_it_the_model_stays_what_it_is(model, staff, engine, put_live):
    first = put_live(model)
    run, adapter = make_good_run(staff)
    made = promote(run, user=staff)
    engine.says(adapter, LoadState.FAILED, "Its file adapter_model.safetensors is not as it was sealed.")
    Engine().says(adapter)

    converge()

    made.refresh_from_db()
    assert (made.status, made.error) == (
        "failed",
        "Its file adapter_model.safetensors is not as it was sealed.",
    )
    assert behind(model) == first.name
    assert states(model) == ["live", "failed"]
    assert adapter.name not in [row.name for row in wanted_by_the_engine()]


def test_why_it_failed_is_told_in_the_readers_language(model, staff, engine):
    with translation.override("es"):
        made = promote(make_good_run(staff)[0], user=staff)
        rollback(user=staff, model=model)
    made.refresh_from_db()

    assert (made.error, made.reason) == ("Called off.", "Called off.")
    with translation.override("es"):
        assert made.reason == gettext("Called off.") != "Called off."


def test_one_that_nobody_loads_in_time_has_failed(model, staff, engine):
    made = promote(make_good_run(staff)[0], user=staff)
    Promotion.objects.update(created_at=timezone.now() - promotion.LOADING_LASTS - timedelta(seconds=1))

    converge()

    made.refresh_from_db()
    assert made.status == PromotionStatus.FAILED
    assert "in time" in made.error
    assert behind(model) == ""


def test_of_two_that_converge_at_once_one_moves_the_model(model, staff, engine):
    run, adapter = make_good_run(staff)
    made = promote(run, user=staff)
    engine.says(adapter)
    stale = Promotion.objects.select_related("model", "adapter").get(pk=made.pk)
    converge()
    live_at = Promotion.objects.get(pk=made.pk).live_at

    assert promotion._go_live(stale) is False

    again = Promotion.objects.get(pk=made.pk)
    assert (again.status, again.live_at) == ("live", live_at)


def test_the_one_before_is_replaced(model, put_live):
    put_live(model)
    second = put_live(model)

    assert states(model) == ["replaced", "live"]
    assert behind(model) == second.name


def test_another_alias_of_the_same_model_moves_alone(model, staff, put_live):
    other = make_local_model("helpdesk")

    adapter = put_live(other)

    assert (behind(other), behind(model)) == (adapter.name, "")


def test_a_row_that_was_read_before_does_not_undo_it_when_it_is_saved(model, put_live):
    stale = ChatModelConfig.objects.get(pk=model.pk)
    adapter = put_live(model)
    stale.save()

    converge()

    assert (behind(model), states(model)) == (adapter.name, ["live"])


def test_nor_does_it_undo_a_roll_back(model, staff, put_live):
    put_live(model)
    stale = ChatModelConfig.objects.get(pk=model.pk)
    rollback(user=staff)
    stale.save()

    converge()

    assert (behind(model), states(model)) == ("", ["replaced", "live"])


def test_what_another_server_answers_with_is_not_converged(model, put_live):
    """The model was given to another provider since: what it is asked for there is the operator's."""
    put_live(model)
    ChatModelConfig.objects.filter(pk=model.pk).update(provider="openai", adapter="theirs")

    converge()

    assert behind(model) == "theirs"


# --- Rolling back --------------------------------------------------------------------------------------


def test_a_roll_back_to_the_base_model_waits_for_nobody(model, staff, put_live):
    adapter = put_live(model)

    made = rollback(user=staff)

    assert (made.status, made.adapter, made.previous, made.is_rollback) == ("live", None, adapter, True)
    assert behind(model) == ""
    assert states(model) == ["replaced", "live"]


def test_a_roll_back_goes_to_the_adapter_before_and_then_further_back(model, staff, engine, put_live):
    first, second = put_live(model), put_live(model)

    made = rollback(user=staff, model=model)
    assert (made.status, made.adapter) == ("loading", first)
    assert behind(model) == second.name, "it answers as before until the other one is loaded"
    engine.says(first)
    converge()
    assert behind(model) == first.name

    rollback(user=staff, model=model)
    assert behind(model) == ""
    with pytest.raises(PromotionRefused):
        rollback(user=staff, model=model)


def test_what_is_promoted_again_after_a_roll_back_can_be_rolled_back_again(model, staff, engine, put_live):
    first, second = put_live(model), put_live(model)
    rollback(user=staff)
    converge()
    assert behind(model) == first.name

    run = make_run(staff)
    adapter = make_adapter(run)
    make_evaluation(run)
    promote(run, user=staff)
    engine.says(adapter)
    converge()
    rollback(user=staff)
    converge()

    assert behind(model) == first.name != second.name


def test_a_roll_back_calls_off_what_is_under_way(model, staff, engine):
    run, adapter = make_good_run(staff)
    made = promote(run, user=staff)

    called_off = rollback(user=staff)
    engine.says(adapter)
    converge()

    assert called_off.pk == made.pk
    assert (called_off.status, behind(model), states(model)) == ("failed", "", ["failed"])


def test_a_roll_back_passes_over_what_was_withdrawn(model, staff, put_live):
    first, second = put_live(model), put_live(model)
    withdraw([first], because="Somebody is gone.")
    assert behind(model) == second.name

    rollback(user=staff)

    assert behind(model) == ""


@pytest.mark.parametrize("has_model", [True, False])
def test_there_may_be_nothing_to_go_back_to(model, staff, has_model):
    with pytest.raises(PromotionRefused):
        rollback(user=staff, model=model if has_model else None)
    assert not Promotion.objects.exists()


# --- Withdrawing ---------------------------------------------------------------------------------------


def test_a_withdrawn_adapter_is_gone_at_once_and_for_good(model, staff, engine, put_live):
    adapter = put_live(model)

    assert withdraw([adapter], because="Somebody in its data set is gone.") == 1

    assert behind(model) == ""
    adapter.refresh_from_db()
    assert adapter.withdrawn_because == "Somebody in its data set is gone."
    with pytest.raises(PromotionRefused):
        promote(promotion.TrainingRun.objects.get(pk=adapter.run), user=staff)
    assert withdraw([adapter], because="Again.") == 0


def test_the_files_of_a_withdrawn_adapter_are_removed(
    model, staff, settings, tmp_path, django_capture_on_commit_callbacks
):
    settings.ADAPTERS_ROOT = tmp_path
    _, going = make_good_run(staff)
    _, staying = make_good_run(staff)
    for adapter in (going, staying):
        (tmp_path / adapter.name).mkdir()
        (tmp_path / adapter.name / "adapter_model.safetensors").write_bytes(b"what somebody wrote")

    with django_capture_on_commit_callbacks(execute=True):
        withdraw([going], because="Somebody is gone.")

    assert [path.name for path in tmp_path.iterdir()] == [staying.name]


def test_one_that_is_loading_has_failed_at_once_where_its_adapter_is_withdrawn(model, staff, engine):
    run, adapter = make_good_run(staff)
    promote(run, user=staff)

    withdraw([adapter], because="Somebody is gone.")

    assert states(model) == ["failed"]


def test_the_history_says_at_once_that_a_model_lost_its_adapter(model, staff, engine, put_live):
    adapter = put_live(model)

    withdraw([adapter], because="Somebody is gone.")

    assert states(model) == ["replaced", "live"]
    assert (standing(model).adapter, standing(model).error) == (None, "Somebody is gone.")


def test_no_model_names_a_withdrawn_adapter_any_more(model, staff):
    """Also one whose row was written by hand, without a promotion."""
    _, adapter = make_good_run(staff)
    ChatModelConfig.objects.filter(pk=model.pk).update(adapter=adapter.name)
    before = Version.objects.numbers()[Version.MODELS]

    withdraw([adapter], because="Somebody is gone.")

    assert behind(model) == ""
    assert Version.objects.numbers()[Version.MODELS] > before, "other processes would not notice"


def test_a_withdrawn_adapter_is_loaded_for_nobody(model, staff):
    _, adapter = make_good_run(staff)
    withdraw([adapter], because="Somebody is gone.")
    ChatModelConfig.objects.filter(pk=model.pk).update(adapter=adapter.name)

    assert wanted_by_the_engine() == []


def test_one_that_is_withdrawn_while_it_loads_never_goes_live(model, staff, engine):
    run, adapter = make_good_run(staff)
    promote(run, user=staff)
    withdraw([adapter], because="Somebody is gone.")
    engine.says(adapter)

    converge()

    assert (behind(model), states(model)) == ("", ["failed"])
    assert promotion.wanted() == []


@pytest.mark.parametrize("loading", [True, False])
def test_one_that_was_withdrawn_by_its_row_alone_goes_too(model, staff, engine, put_live, loading):
    """As an operator at the database's prompt would do it."""
    if loading:
        run, adapter = make_good_run(staff)
        promote(run, user=staff)
    else:
        adapter = put_live(model)
    type(adapter).objects.update(withdrawn_at=timezone.now())
    engine.says(adapter)

    converge()

    assert behind(model) == ""
    assert PromotionStatus.LOADING not in states(model)


def test_a_model_whose_adapter_nobody_can_load_any_more_answers_without_it(model, staff, engine, put_live):
    """Its files were damaged, or the base model was replaced, and the process `model` was started anew."""
    adapter = put_live(model)
    engine.says(adapter, LoadState.FAILED, "It was trained on other weights.")

    converge()

    assert behind(model) == ""
    last = standing(model)
    assert (last.is_rollback, last.created_by, last.error) == (True, None, "It was trained on other weights.")
    assert states(model) == ["replaced", "live"]


@pytest.mark.parametrize("other", [LoadState.READY, LoadState.LOADING])
def test_it_stays_as_long_as_one_process_may_have_it(model, staff, engine, put_live, other):
    adapter = put_live(model)
    engine.says(adapter, LoadState.FAILED, "Out of memory.")
    Engine().says(adapter, other)

    converge()

    assert behind(model) == adapter.name


def test_it_stays_where_no_process_lives(model, staff, engine, put_live):
    adapter = put_live(model)
    engine.dies()

    converge()

    assert behind(model) == adapter.name


# --- Of two at the same moment ---------------------------------------------------------------------------


def test_one_that_was_called_off_meanwhile_does_not_go_live(model, staff, engine, put_live):
    first = put_live(model)
    made = promote(make_good_run(staff)[0], user=staff)
    rollback(user=staff, model=model)

    assert not promotion._go_live(made), "as it was read before"

    assert (behind(model), states(model)) == (first.name, ["live", "failed"])


def test_one_that_went_live_meanwhile_has_not_failed(model, staff, engine):
    made = promote(make_good_run(staff)[0], user=staff)
    Promotion.objects.update(status=PromotionStatus.LIVE)

    promotion._fail(made, "Too late.")

    assert states(model) == ["live"]


def test_what_is_live_no_more_is_not_put_back(model, staff, engine, put_live):
    put_live(model)
    read = standing(model)
    read.model.adapter = "theirs"
    ChatModelConfig.objects.filter(pk=model.pk).update(adapter="theirs")
    Promotion.objects.update(status=PromotionStatus.REPLACED)

    promotion._put_back(read)

    assert behind(model) == "theirs"


def test_nor_is_a_row_that_was_changed_again(model, staff, engine, put_live):
    put_live(model)
    read = standing(model)
    read.model.adapter = "theirs"
    ChatModelConfig.objects.filter(pk=model.pk).update(adapter="another")

    promotion._put_back(read)

    assert behind(model) == "another"


def test_what_is_under_way_is_called_off_where_a_model_loses_its_adapter(model, staff, engine, put_live):
    adapter = put_live(model)
    promote(make_good_run(staff)[0], user=staff)

    withdraw([adapter], because="Somebody is gone.")

    assert sorted(states(model)) == ["failed", "live", "replaced"]
    assert standing(model).adapter is None


# --- Refusals ------------------------------------------------------------------------------------------


def no_adapter(run, adapter):
    adapter.delete()


def another_base(run, adapter):
    type(adapter).objects.update(base_sha256="c" * 64)


def not_served(run, adapter):
    ChatModelConfig.objects.filter(provider="local").update(is_active=False)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda run, _: type(run).objects.update(status=RunStatus.FAILED, error_code="x"), "not succeeded"),
        (lambda run, _: type(run).objects.update(status=RunStatus.CANCELLED), "not succeeded"),
        (no_adapter, "not succeeded"),
        (lambda run, _: run.evaluations.all().delete(), "no evaluation"),
        (lambda run, _: run.evaluations.update(passed=False), "gate"),
        (lambda run, _: run.evaluations.update(passed=None, error_code="crashed"), "no evaluation"),
        (lambda run, _: make_evaluation(run, passed=None), "still being made"),
        (lambda run, _: make_evaluation(run, passed=False), "gate"),
        (lambda _, adapter: withdraw([adapter], because="Somebody is gone."), "Somebody is gone."),
        (lambda run, _: type(run.version).objects.update(withdrawn_at=timezone.now()), "withdrawn"),
        (another_base, "base model has changed"),
        (not_served, "not served here"),
    ],
)
def test_what_may_not_be_promoted_says_why_and_leaves_nothing(model, staff, engine, spoil, reason):
    run, adapter = make_good_run(staff)
    spoil(run, adapter)
    run.refresh_from_db()

    with pytest.raises(PromotionRefused) as refused:
        promote(run, user=staff)

    assert reason in str(refused.value.data["reason"])
    assert not Promotion.objects.exists()
    assert behind(model) == ""


def test_where_the_weights_are_on_another_machine_the_engine_looks_itself(model, staff, engine, monkeypatch):
    def absent(*_args):
        raise EngineError("there is no model here")

    monkeypatch.setattr(base_model, "base_model", absent)

    assert promote(make_good_run(staff)[0], user=staff).status == "loading"


@pytest.mark.parametrize(
    "values",
    [{"provider": "openai"}, {"base_url": "http://10.1.1.1:8000/v1"}, {"provider_model": "another"}],
    ids=lambda values: next(iter(values)),
)
def test_only_what_serves_the_very_base_model_here_can(model, staff, engine, values):
    run, adapter = make_good_run(staff)
    other = make_local_model("other", **values)

    assert list(promotion.models_for(adapter)) == [model]
    with pytest.raises(PromotionRefused, match="not served here"):
        promote(run, user=staff, model=other)


def test_the_engine_need_not_load_what_was_withdrawn_by_its_row_alone(model, staff, engine):
    run, adapter = make_good_run(staff)
    promote(run, user=staff)
    type(adapter).objects.update(withdrawn_at=timezone.now())

    assert promotion.wanted() == []


def test_a_model_of_another_provider_cannot_stand_on_it(model, staff, models):
    with pytest.raises(PromotionRefused):
        promote(make_good_run(staff)[0], user=staff, model=models["echo"])


def test_where_another_server_has_the_models_nothing_is_promoted(model, staff, settings):
    settings.LOCAL_BASE_URL = "http://127.0.0.1:1"

    with pytest.raises(PromotionRefused) as refused:
        promote(make_good_run(staff)[0], user=staff)
    assert "LOCAL_BASE_URL" in str(refused.value.data["reason"])


def test_what_is_live_already_is_not_promoted_again(model, staff, engine, put_live):
    adapter = put_live(model)

    with pytest.raises(PromotionRefused) as refused:
        promote(promotion.TrainingRun.objects.get(pk=adapter.run), user=staff)
    assert "already" in str(refused.value.data["reason"])


def test_two_at_once_are_one(model, staff, engine):
    promote(make_good_run(staff)[0], user=staff)

    with pytest.raises(PromotionRefused) as refused:
        promote(make_good_run(staff)[0], user=staff)

    assert "under way" in str(refused.value.data["reason"])
    assert states(model) == ["loading"]


# --- What is written down ------------------------------------------------------------------------------


def test_who_moved_the_model_is_in_the_audit_log(model, staff, put_live):
    adapter = put_live(model)
    rollback(user=staff)

    events = AuditEvent.objects.filter(kind__startswith="adapter_").order_by("created_at")
    assert [(event.kind, event.actor, event.data) for event in events] == [
        (
            "adapter_promoted",
            staff.pseudonym,
            {"model": model.alias, "adapter": adapter.name, "before": None},
        ),
        (
            "adapter_rolled_back",
            staff.pseudonym,
            {"model": model.alias, "adapter": None, "before": adapter.name},
        ),
    ]


def test_converging_costs_one_query_and_two_for_each_adapter_in_use(
    model, put_live, django_assert_num_queries
):
    with django_assert_num_queries(1):
        converge()
    assert standing(model) is None
    put_live(model)
    with django_assert_num_queries(3):
        converge()
