"""`manage.py promote` and `manage.py rollback`: they wait for the end, and say how it was."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from inference.engine import base_model
from inference.models import ChatModelConfig, LoadState
from training import promotion
from training.models import Promotion
from training.tests.making import BASE_SHA, Engine, make_good_run, make_local_model, make_run

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _base(monkeypatch):
    served = base_model.BaseModel("base", None, BASE_SHA)
    monkeypatch.setattr(base_model, "base_model", lambda *_: served)
    monkeypatch.setattr(promotion, "LOOK_SECONDS", 0.01)


@pytest.fixture
def model(db):
    ChatModelConfig.objects.filter(provider="local").delete()
    return make_local_model()


def said(*command):
    out = StringIO()
    call_command(*command, stdout=out, stderr=StringIO())
    return out.getvalue()


def test_a_run_is_promoted_and_rolled_back(model, staff):
    run, adapter = make_good_run(staff)
    Engine().says(adapter)

    assert said("promote", str(run.pk)) == f"{model.alias} stands on {adapter.name} now.\n"
    assert ChatModelConfig.objects.get(pk=model.pk).adapter == adapter.name

    assert "its base model alone" in said("rollback", "--model", model.alias)
    assert ChatModelConfig.objects.get(pk=model.pk).adapter == ""


def test_a_promotion_that_fails_is_an_error(model, staff):
    run, adapter = make_good_run(staff)
    Engine().says(adapter, LoadState.FAILED, "It is broken.")

    with pytest.raises(CommandError, match="It is broken"):
        said("promote", str(run.pk))


def test_one_that_waits_is_called_off(model, staff):
    promotion.promote(make_good_run(staff)[0], user=staff)

    assert "called off" in said("rollback")
    assert not Promotion.objects.filter(status="loading").exists()


def test_refusals_are_one_line(model, staff):
    for command in (
        ("promote", str(make_run(staff).pk)),
        ("promote", "00000000-0000-0000-0000-000000000001"),
        ("promote", str(make_good_run(staff)[0].pk), "--model", "gone"),
        ("rollback",),
        ("rollback", "--model", "gone"),
    ):
        with pytest.raises(CommandError) as refused:
            said(*command)
        assert "\n" not in str(refused.value)
