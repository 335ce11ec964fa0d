"""JSON by orjson, with the standard library for what it refuses."""

import json

import pytest

from llmsite.core import quick_json


@pytest.mark.parametrize(
    "value",
    [
        {"text": "¿Sí? 日本 🦊", "n": [1, 2.5, None, True]},
        {"seed": 2**70},
        [-(2**80)],
        "\u2028",
        {"a": {"b": []}},
    ],
)
def test_what_is_encoded_is_decoded(value):
    assert quick_json.decode(quick_json.encode(value)) == json.loads(quick_json.encode(value)) == value


def test_half_a_surrogate_pair_is_read_as_it_is_by_the_standard_library():
    assert quick_json.decode('{"text": "\\ud83e"}') == {"text": "\ud83e"}


@pytest.mark.parametrize("text", ["", "{", "[1,]", "nonsense", b"\xff"])
def test_what_is_no_json_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011 - JSONDecodeError or UnicodeDecodeError, as json's
        quick_json.decode(text)
