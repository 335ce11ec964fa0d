"""The text side of a Hugging Face model: its own tokenizer and its own chat template.

The template is rendered by transformers in a sandbox of Jinja.
"""

import re
import secrets
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from jinja2 import TemplateError

from inference.engine.chat import Message

PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
"""For models that were never trained to chat and so have no template."""


class HuggingFaceChat:
    """See ChatTokenizer. `tokenizer` is a fast one of transformers."""

    def __init__(self, tokenizer: Any, end_tokens: frozenset[int]) -> None:
        self.end_tokens = end_tokens
        self._tokenizer = tokenizer
        self._template = tokenizer.chat_template or PLAIN_TEMPLATE
        special = sorted(
            {str(token) for token in tokenizer.added_tokens_decoder.values()}, key=len, reverse=True
        )
        self._special = re.compile("|".join(map(re.escape, special)) or r"(?!)")

    def prompt(self, messages: Sequence[Message]) -> list[list[int]]:
        """See ChatTokenizer; what stands between two messages counts with the later one."""
        mark = f"\ue000{secrets.token_hex(8)}\ue000"
        hidden: list[str] = []

        def hide(match: re.Match[str]) -> str:
            hidden.append(match[0])
            return mark

        contents = [self._special.sub(hide, message.content) for message in messages]
        text = self._render(messages, contents)
        tokens, ends = self._encode_marked(text, mark, hidden)
        return _cut(tokens, ends, _content_ends(text, contents))

    def encode(self, text: str) -> list[int]:
        return [token for part, special in self._parts(text) for token, _ in self._tokens(part, special)]

    def decode(self, tokens: Sequence[int]) -> str:
        return str(
            self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        )

    def _render(self, messages: Sequence[Message], contents: Sequence[str]) -> str:
        turns = [
            {"role": message.role, "content": content}
            for message, content in zip(messages, contents, strict=True)
        ]
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    turns, chat_template=self._template, tokenize=False, add_generation_prompt=True
                )
            )
        except TemplateError as error:
            raise ValueError(str(error)) from error

    def _encode_marked(self, text: str, mark: str, hidden: Sequence[str]) -> tuple[list[int], list[int]]:
        """The tokens of a text and where in it each of them ends; `hidden` are the marks' texts."""
        tokens, ends, at = [], [], 0
        for number, part in enumerate(text.split(mark)):
            if number:
                at += len(mark)
                for token, _ in self._tokens(hidden[number - 1], special=True):
                    tokens.append(token)
                    ends.append(at)
            for token, end in self._tokens(part, special=False):
                tokens.append(token)
                ends.append(at + end)
            at += len(part)
        return tokens, ends

    def _parts(self, text: str) -> Iterator[tuple[str, bool]]:
        at = 0
        for match in self._special.finditer(text):
            yield text[at : match.start()], False
            yield match[0], True
            at = match.end()
        yield text[at:], False

    def _tokens(self, text: str, special: bool) -> Iterator[tuple[int, int]]:
        """Tokens with their ends. The text of a special token goes character by character, so that
        it can only become ordinary tokens."""
        for at, piece in enumerate(text) if special else ((0, text),) if text else ():
            encoded = self._tokenizer(piece, add_special_tokens=False, return_offsets_mapping=True)
            for token, (_, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
                yield token, at + end


def _content_ends(text: str, contents: Sequence[str]) -> list[int]:
    """Where in the rendered text each message's content ends; templates may strip it."""
    ends, at = [], 0
    for content in contents:
        wanted = content.strip()
        found = text.find(wanted, at)
        at = found + len(wanted) if found >= 0 else at
        ends.append(at)
    return ends


def _cut(tokens: Sequence[int], ends: Sequence[int], borders: Sequence[int]) -> list[list[int]]:
    """Divide tokens among messages; what follows the last message's content is its own too."""
    cuts = [0, *(bisect_right(ends, border) for border in borders[:-1]), len(tokens)]
    return [list(tokens[start:end]) for start, end in pairwise(cuts)]
