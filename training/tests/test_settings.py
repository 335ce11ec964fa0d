"""What may be chosen about a run."""

import pytest

from llmsite.core.errors import InvalidInput, UnknownParameter
from training.settings import LIMITS, RunSettings


@pytest.mark.parametrize("name", LIMITS)
def test_each_setting_has_limits(name):
    least, most = LIMITS[name]

    for value in (least, most):
        assert getattr(RunSettings.read({name: type(getattr(RunSettings(), name))(value)}), name) == value
    for value in (least - 1, most + 1, "1", None, True):
        with pytest.raises(InvalidInput) as caught:
            RunSettings.read({name: value})
        assert caught.value.field == f"settings.{name}"


@pytest.mark.parametrize("value", [1, 0, "true", None])
def test_a_switch_is_true_or_false(value):
    with pytest.raises(InvalidInput) as caught:
        RunSettings.read({"leave_out": value})
    assert caught.value.field == "settings.leave_out"


def test_whole_numbers_are_whole():
    with pytest.raises(InvalidInput, match="whole number from 1 to 256"):
        RunSettings(rank=1.5)


def test_a_setting_that_nobody_knows_is_named():
    with pytest.raises(UnknownParameter) as caught:
        RunSettings.read({"learning_rte": 1})
    assert caught.value.field == "settings.learning_rte"


def test_steps_are_counted_by_epochs_or_given():
    assert RunSettings(epochs=2, batch_size=4, gradient_accumulation=2).steps(17) == 6
    assert RunSettings(max_steps=5).steps(17) == 5


def test_what_is_stored_is_read_again():
    chosen = RunSettings(rank=4, learning_rate=1e-5)

    assert RunSettings.read(chosen.as_dict()) == chosen
