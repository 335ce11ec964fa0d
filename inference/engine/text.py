"""From tokens to the pieces of text that may be shown."""

from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]
"""Turns tokens into text; bytes that are no whole character become U+FFFD."""

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Detokenizer:
    """Decodes one token after the other and never gives out half a character.

    A token's text can depend on the token before it (a leading space, the first bytes of a
    character), so each step decodes the last few tokens with and without the new one and gives out
    the difference. While the text ends in U+FFFD the character is incomplete, and waits.
    """

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._tokens: list[int] = []
        self._shown = 0  # How many of the tokens have been given out.

    def push(self, token: int) -> str:
        """The text that `token` completes; empty while a character is incomplete."""
        self._tokens.append(token)
        text = self._pending()
        return "" if text.endswith(REPLACEMENT) else self._give_out(text)

    def flush(self) -> str:
        """What is left at the end; bytes that never became a character show as U+FFFD."""
        return self._give_out(self._pending())

    def _pending(self) -> str:
        before = self._decode(self._tokens[: self._shown])
        return self._decode(self._tokens)[len(before) :]

    def _give_out(self, text: str) -> str:
        # Only what was given out last stays, as the context of what comes next.
        self._tokens = self._tokens[self._shown :]
        self._shown = len(self._tokens)
        return text


class StopStrings:
    """Ends a text at the first stop string, also when it arrives in pieces.

    Text is held back only while it could be the beginning of a stop string.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = tuple(stop)
        self._held = ""

    def push(self, text: str) -> tuple[str, bool]:
        """The text that may be shown now, and whether a stop string was found right after it."""
        self._held += text
        found = [at for at in (self._held.find(stop) for stop in self._stop) if at >= 0]
        if found:
            shown, self._held = self._held[: min(found)], ""
            return shown, True
        keep = max((_overlap(self._held, stop) for stop in self._stop), default=0)
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown, False

    def flush(self) -> str:
        """What was held back and did not become a stop string."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` are the beginning of `stop`, which is not in it."""
    return next(
        (size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0
    )
