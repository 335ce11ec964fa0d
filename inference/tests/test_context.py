"""Which turns fit into a window, and which branch of a conversation is meant."""

from dataclasses import replace
from uuid import UUID

import pytest

from inference.context import REPLY_TOKENS, estimated_prompt_tokens, fit, most_prompt_tokens, surely_fits
from inference.models import Message
from inference.providers.base import ChatMessage, ChatRequest, ToolCall
from inference.thread import branch_to, shown_branch
from llmsite.core.errors import ContextLengthExceeded

TURNS = [
    ChatMessage("system", "S"),
    ChatMessage("user", "1"),
    ChatMessage("assistant", "a"),
    ChatMessage("user", "2"),
    ChatMessage("assistant", "b"),
    ChatMessage("user", "3"),
]


def kept(fitted):
    return "".join(message.content for message in fitted.messages)


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (100, "S1a2b3"),
        (58 + REPLY_TOKENS, "S2b3"),
        (50 + REPLY_TOKENS, "S2b3"),
        (49 + REPLY_TOKENS, "S3"),
        (30 + REPLY_TOKENS, "S3"),
    ],
)
def test_the_oldest_turns_go_first_and_whole(window, expected):
    fitted = fit(TURNS, [10] * 6, window=window, max_tokens=10)

    assert kept(fitted) == expected
    assert fitted.trimmed == (expected != "S1a2b3")
    assert fitted.max_tokens == 10


def test_the_answer_gets_what_the_question_leaves():
    fitted = fit(TURNS, [10] * 6, window=25 + REPLY_TOKENS, max_tokens=10)

    assert (kept(fitted), fitted.max_tokens) == ("S3", 5)


def test_a_long_answer_asked_for_costs_no_turn_that_fits():
    fitted = fit(TURNS, [5] * 6, window=1024, max_tokens=1024)

    assert kept(fitted) == "S1a2b3"
    assert not fitted.trimmed
    assert fitted.max_tokens == 1024 - 30 - REPLY_TOKENS


def test_one_question_over_the_window_is_refused_with_both_numbers():
    with pytest.raises(ContextLengthExceeded) as refusal:
        fit(TURNS, [10] * 5 + [500], window=256, max_tokens=10)

    assert refusal.value.data == {"tokens": 510 + REPLY_TOKENS, "limit": 256}


def test_nothing_is_trimmed_without_a_system_prompt_either():
    assert kept(fit(TURNS[1:], [10] * 5, window=100, max_tokens=10)) == "1a2b3"


def test_short_prompts_need_no_tokenizer():
    assert surely_fits(TURNS, window=512, max_tokens=256)
    assert not surely_fits([ChatMessage("user", "日" * 200)], window=600, max_tokens=1)


def message(number, parent=None, role="user"):
    return Message(id=UUID(int=number), parent_id=parent and UUID(int=parent), role=role)


def numbers(branch):
    return [found.id.int for found in branch]


# 1 ─ 2 ─ 3 ─ 4        two answers (2, 5) to question 1; a later question 6 below answer 5
#   └ 5 ─ 6 ─ 7
TREE = [message(1), message(2, 1), message(3, 2), message(4, 3), message(5, 1), message(6, 5), message(7, 6)]


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (None, [1, 5, 6, 7]),
        (2, [1, 2, 3, 4]),
        (3, [1, 2, 3, 4]),
        (1, [1, 5, 6, 7]),
        (6, [1, 5, 6, 7]),
        (99, [1, 5, 6, 7]),
    ],
)
def test_a_branch_goes_through_the_message_to_its_newest_leaf(at, expected):
    branch = shown_branch(TREE, at and UUID(int=at))

    assert numbers(branch) == expected
    assert [sibling.int for sibling in branch[1].siblings] == [2, 5]


def test_an_empty_conversation_has_an_empty_branch():
    assert shown_branch([]) == []
    assert branch_to(TREE, None) == []


def test_what_was_called_for_the_last_question_stays_with_it():
    turns = [
        *TURNS,
        ChatMessage("assistant", "", tool_calls=(ToolCall("1", "f", "{}"),)),
        ChatMessage("tool", "42", tool_call_id="1"),
    ]
    fitted = fit(turns, [10] * 8, window=60 + REPLY_TOKENS, max_tokens=10)

    assert [turn.role for turn in fitted.messages] == ["system", "user", "assistant", "tool"]
    assert fitted.messages[1].content == "3"


def test_tools_are_part_of_the_prompt():
    tools = ({"type": "function", "function": {"name": "f", "description": "x" * 3000}},)
    bare = ChatRequest(model="m", messages=(ChatMessage("user", "1"),), max_tokens=10)
    assert most_prompt_tokens(replace(bare, tools=tools)) > most_prompt_tokens(bare) + 3000
    assert estimated_prompt_tokens(replace(bare, tools=tools)) > estimated_prompt_tokens(bare) + 1000
