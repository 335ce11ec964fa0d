"""Keys: another one for anything that may change an answer or its reader, and for nothing else."""

import random
import string
from dataclasses import fields, replace

import pytest

from inference.cache.key import Keyring, Readers
from inference.providers.base import ChatMessage, ChatRequest, ToolCall

KEYRING = Keyring(b"k" * 32)
SCOPE = Readers(kind="user", name="a" * 32)
TERMS = {"epoch": 3, "provider": "openai", "base_url": "", "revision": "r1", "choice": 0}
REQUEST = ChatRequest(
    model="m",
    messages=(
        ChatMessage("system", "Be brief."),
        ChatMessage("user", "Call it"),
        ChatMessage("assistant", "", tool_calls=(ToolCall("1", "f", "{}"),)),
        ChatMessage("tool", "42", tool_call_id="1"),
        ChatMessage("user", "Und nun?"),
    ),
    max_tokens=10,
    temperature=0.5,
    top_p=0.9,
    stop=("a", "b"),
    seed=1,
    presence_penalty=0.1,
    frequency_penalty=0.2,
    tools=({"type": "function", "function": {"name": "f"}},),
    tool_choice="auto",
    parallel_tool_calls=True,
    response_format={"type": "json_object"},
)


def key(request=REQUEST, scope=SCOPE, terms=TERMS):
    return KEYRING.exact(scope, request, terms)


OTHER = {
    "model": "n",
    "max_tokens": 11,
    "temperature": 0.6,
    "top_p": 0.8,
    "stop": ("ab",),
    "seed": 2,
    "presence_penalty": 0.2,
    "frequency_penalty": 0.1,
    "tools": ({"type": "function", "function": {"name": "g"}},),
    "tool_choice": "none",
    "parallel_tool_calls": False,
    "response_format": {"type": "text"},
    "messages": REQUEST.messages[1:],
}


def test_every_parameter_of_a_request_but_its_id_has_another_value_here():
    # A parameter that is added to requests has to be added here, and so is tried below.
    names = {field.name for field in fields(ChatRequest)} - {"request_id"}
    assert names == set(OTHER)


@pytest.mark.parametrize("name", OTHER)
def test_another_value_or_none_is_another_key(name):
    keys = {key(), key(replace(REQUEST, **{name: OTHER[name]}))}
    assert len(keys) == 2
    default = next(field for field in fields(ChatRequest) if field.name == name).default
    if name not in ("model", "messages", "max_tokens"):
        assert key(replace(REQUEST, **{name: default})) not in keys


@pytest.mark.parametrize("name", TERMS)
def test_another_term_is_another_key(name):
    assert key(terms={**TERMS, name: "other"}) != key()


def test_another_reader_is_another_key():
    keys = {
        key(scope=scope)
        for scope in (SCOPE, Readers(kind="user", name="b" * 32), Readers(kind="site"), Readers(kind="user"))
    }
    assert len(keys) == 4


def test_another_site_is_another_key():
    assert Keyring(b"l" * 32).exact(SCOPE, REQUEST, TERMS) != key()


def test_the_id_of_the_request_and_the_order_of_terms_change_nothing():
    assert key(replace(REQUEST, request_id="one")) == key(replace(REQUEST, request_id="two")) == key()
    assert key(terms=dict(reversed(TERMS.items()))) == key()


def test_a_key_is_a_whole_digest_behind_the_tag_of_its_scope():
    tag, _, digest = key().partition(":")
    assert tag == KEYRING.tag(SCOPE)
    assert len(tag) == 16
    assert len(digest) == 64


def turns(*texts):
    return replace(REQUEST, messages=tuple(ChatMessage("user", text) for text in texts))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("ab", "c"), ("a", "bc")),
        (("a",), ("a", "")),
        (("a ",), ("a",)),
        (("A",), ("a",)),
        (("1",), ("1.0",)),
        (("é",), ("e",)),
    ],
)
def test_texts_that_only_look_alike_are_apart(one, other):
    assert key(turns(*one)) != key(turns(*other))


def test_two_ways_to_write_a_character_are_two():
    # The model gets other text, and may be asked about just that.
    assert key(turns("caf\u00e9")) != key(turns("cafe\u0301"))


def test_a_lone_surrogate_has_a_key():
    assert key(turns("\ud83d")) != key(turns("\ud83e"))


def test_a_thousand_random_requests_have_as_many_keys():
    dice = random.Random(7)

    def text():
        return "".join(dice.choices(string.ascii_letters + '",:[]{}\\ é', k=dice.randrange(1, 12)))

    asked = {(text(), text(), dice.choice("ab")) for _ in range(1000)}
    keys = {key(turns(one, two), scope=Readers(kind="user", name=name)) for one, two, name in asked}
    assert len(keys) == len(asked)


class TestPartition:
    def partition(self, request=REQUEST, scope=SCOPE, terms=TERMS):
        return KEYRING.partition(scope, request, terms)

    def test_only_the_words_of_the_last_question_may_differ(self):
        other = (*REQUEST.messages[:-1], ChatMessage("user", "And now?"))
        assert self.partition(replace(REQUEST, messages=other)) == self.partition()
        assert self.partition() != key()

    @pytest.mark.parametrize("name", OTHER)
    def test_everything_else_keeps_questions_apart(self, name):
        assert self.partition(replace(REQUEST, **{name: OTHER[name]})) != self.partition()

    def test_readers_and_terms_too(self):
        assert self.partition(scope=Readers(kind="site")) != self.partition()
        assert self.partition(terms={**TERMS, "epoch": 4}) != self.partition()
