"""The shapes that data sets of language models come in: told by their columns, and made rows of ours.

A new shape is a function and a line in SHAPES.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.formats.problems import BadRow
from training.formats.turns import in_order, required_text, text_of, turns_of
from training.rows import PREFERENCE, RATED, SFT, TEXT, Row, Turn

Record = Mapping[str, Any]
Convert = Callable[[Record], Iterator[Row]]

PROMPTS = ("prompt", "question", "query", "input")
COMPLETIONS = ("completion", "response", "answer", "output")
LABELS = ("label", "kto_tag")
CONVERSATIONS = ("conversations", "conversation")
YES, NO = {"true", "1", "yes"}, {"false", "0", "no", "-1"}


@dataclass(frozen=True, slots=True)
class Shape:
    """`needs` has, for each column that must be there, the names it goes by; `knows` those that may be."""

    name: str
    layout: str
    needs: tuple[tuple[str, ...], ...]
    convert: Convert
    roles: Mapping[str, str]
    """What becomes of each column: system, question, answer, turns, chosen, rejected, label or text."""

    def fits(self, names: set[str], record: Record) -> bool:
        is_there = all(any(name in names for name in known) for known in self.needs)
        if not is_there or self.layout != RATED:
            return is_there
        # A column "label" may hold anything; that of a rating says yes or no.
        return _label(next(record.get(name) for name in LABELS if name in names)) is not None


def detect(sample: Sequence[Record]) -> Shape | None:
    """The first shape that the columns of the first records fit."""
    names = {name for record in sample for name, value in record.items() if value is not None}
    first = next(iter(sample), {})
    return next((shape for shape in SHAPES if shape.fits(names, first)), None)


def known_columns(columns: Mapping[str, str]) -> set[str]:
    """The names, in lower case, that any shape knows, and those that `columns` names otherwise."""
    needed = {name for shape in SHAPES for names in shape.needs for name in names}
    told = {name for shape in SHAPES for name in shape.roles}
    return needed | told | {theirs.strip().lower() for theirs in columns.values()}


def mapping_of(shape: Shape, names: Sequence[str]) -> dict[str, str]:
    """What becomes of each column; "left_out" of those that the shape does not know."""
    return {name: shape.roles.get(name, "left_out") for name in names}


def renamed(record: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """A record by our names: in lower case, and what `columns` names otherwise (ours → the file's)."""
    plain = {str(name).strip().lower(): value for name, value in record.items()}
    given = {ours: plain.pop(theirs.strip().lower(), None) for ours, theirs in columns.items()}
    return {**plain, **given}


# --- What shapes have in common --------------------------------------------------------------------


def _first(record: Record, names: Sequence[str]) -> tuple[str, Any]:
    """The first of these columns that has a value, with its name."""
    return next(((name, record[name]) for name in names if record.get(name) is not None), (names[0], None))


def _system(record: Record) -> list[Turn]:
    text = text_of(record.get("system"), "system")
    return [{"role": "system", "content": text}] if text.strip() else []


def _user(text: str) -> Turn:
    return {"role": "user", "content": text}


def _assistant(text: str) -> Turn:
    return {"role": "assistant", "content": text}


def _asked(record: Record, names: Sequence[str]) -> list[Turn]:
    """The prompt of a record, as text or as turns, behind its system column."""
    name, value = _first(record, names)
    turns = turns_of(value, name) if isinstance(value, list) else [_user(required_text(value, name))]
    return in_order([*_system(record), *turns], name, ends_with="user")


def _said(value: object, name: str) -> str:
    """An answer: a text, a message, or a list that ends with one."""
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        return required_text(value, name)
    turns = turns_of(value, name)
    if turns[-1]["role"] != "assistant":
        raise BadRow("last_turn", name=name, role="assistant")
    return turns[-1]["content"]


def _instruction(record: Record) -> list[Turn]:
    """Alpaca: what was said before, then the instruction with its input."""
    turns = _system(record)
    history = record.get("history") or []
    if not isinstance(history, list | tuple):
        raise BadRow("history", name="history")
    for at, pair in enumerate(history):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise BadRow("history", name=f"history[{at}]")
        asked, said = (required_text(text, f"history[{at}]") for text in pair)
        turns += [_user(asked), _assistant(said)]
    asked = required_text(record.get("instruction"), "instruction")
    more = text_of(record.get("input"), "input")
    return [*turns, _user(f"{asked}\n\n{more}" if more.strip() else asked)]


def _conversation(record: Record, names: Sequence[str], *, ends_with: str) -> list[Turn]:
    name, value = _first(record, names)
    turns = turns_of(value, name)
    if turns[0]["role"] != "system":
        turns = [*_system(record), *turns]
    return in_order(turns, name, ends_with=ends_with)


def _pair(prompt: list[Turn], chosen: str, rejected: str) -> Iterator[Row]:
    if chosen.strip() == rejected.strip():
        raise BadRow("same_answers")
    yield {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def _label(value: object) -> bool | None:
    """Yes or no, however it is written; None for anything else."""
    word = str(value).strip().lower()
    if word in YES:
        return True
    return False if word in NO else None


def _rated(record: Record, prompt: list[Turn], completion: str) -> Iterator[Row]:
    name, value = _first(record, LABELS)
    label = _label(value)
    if label is None:
        raise BadRow("label", name=name)
    yield {"prompt": prompt, "completion": completion, "label": label}


# --- The shapes ------------------------------------------------------------------------------------


def _messages(record: Record) -> Iterator[Row]:
    yield {"messages": _conversation(record, ("messages",), ends_with="assistant")}


def _sharegpt(record: Record) -> Iterator[Row]:
    yield {"messages": _conversation(record, CONVERSATIONS, ends_with="assistant")}


def _alpaca(record: Record) -> Iterator[Row]:
    answer = required_text(record.get("output"), "output")
    yield {"messages": [*_instruction(record), _assistant(answer)]}


def _alpaca_instances(record: Record) -> Iterator[Row]:
    instances = record.get("instances")
    if not isinstance(instances, list) or not instances:
        raise BadRow("no_turns", name="instances")
    for at, instance in enumerate(instances):
        if not isinstance(instance, dict):
            raise BadRow("no_message", name=f"instances[{at}]")
        yield from _alpaca({**record, "input": instance.get("input"), "output": instance.get("output")})


def _completion(record: Record) -> Iterator[Row]:
    name, value = _first(record, COMPLETIONS)
    yield {"messages": [*_asked(record, PROMPTS), _assistant(_said(value, name))]}


def _preference(record: Record) -> Iterator[Row]:
    chosen, rejected = _said(record.get("chosen"), "chosen"), _said(record.get("rejected"), "rejected")
    yield from _pair(_asked(record, ("prompt", "question", "query")), chosen, rejected)


def _alpaca_preference(record: Record) -> Iterator[Row]:
    chosen, rejected = _said(record.get("chosen"), "chosen"), _said(record.get("rejected"), "rejected")
    yield from _pair(_instruction(record), chosen, rejected)


def _sharegpt_preference(record: Record) -> Iterator[Row]:
    prompt = _conversation(record, CONVERSATIONS, ends_with="user")
    chosen, rejected = _said(record.get("chosen"), "chosen"), _said(record.get("rejected"), "rejected")
    yield from _pair(prompt, chosen, rejected)


def _two_conversations(chosen_name: str, rejected_name: str) -> Convert:
    """Two whole conversations, alike up to the last answer."""

    def convert(record: Record) -> Iterator[Row]:
        names = chosen_name, rejected_name
        one, other = (
            in_order(turns_of(record.get(name), name), name, ends_with="assistant") for name in names
        )
        if one[:-1] != other[:-1]:
            raise BadRow("other_prompt", name=rejected_name)
        yield from _pair(one[:-1], one[-1]["content"], other[-1]["content"])

    return convert


def _openai_preference(record: Record) -> Iterator[Row]:
    given = record.get("input")
    messages = given.get("messages") if isinstance(given, dict) else None
    prompt = in_order(turns_of(messages, "input.messages"), "input.messages", ends_with="user")
    chosen = _said(record.get("preferred_output"), "preferred_output")
    yield from _pair(prompt, chosen, _said(record.get("non_preferred_output"), "non_preferred_output"))


def _rated_conversation(*names: str) -> Convert:
    def convert(record: Record) -> Iterator[Row]:
        turns = _conversation(record, names, ends_with="assistant")
        yield from _rated(record, turns[:-1], turns[-1]["content"])

    return convert


def _rated_completion(record: Record) -> Iterator[Row]:
    name, value = _first(record, COMPLETIONS)
    yield from _rated(record, _asked(record, PROMPTS), _said(value, name))


def _rated_alpaca(record: Record) -> Iterator[Row]:
    yield from _rated(record, _instruction(record), required_text(record.get("output"), "output"))


def _plain(record: Record) -> Iterator[Row]:
    yield {"text": required_text(record.get("text"), "text")}


_ALPACA = {
    "instruction": "question",
    "input": "question",
    "output": "answer",
    "system": "system",
    "history": "turns",
}
_PROMPT = {**dict.fromkeys(PROMPTS, "question"), **dict.fromkeys(COMPLETIONS, "answer"), "system": "system"}
_TURNS = {"messages": "turns", **dict.fromkeys(CONVERSATIONS, "turns"), "system": "system"}
_PAIR = {"chosen": "chosen", "rejected": "rejected"}
_RATING = dict.fromkeys(LABELS, "label")

# The first that fits is taken, so what needs more comes first.
SHAPES = (
    Shape(
        "openai_preference",
        PREFERENCE,
        (("input",), ("preferred_output",), ("non_preferred_output",)),
        _openai_preference,
        {"input": "turns", "preferred_output": "chosen", "non_preferred_output": "rejected"},
    ),
    Shape(
        "preference_messages",
        PREFERENCE,
        (("chosen_messages",), ("rejected_messages",)),
        _two_conversations("chosen_messages", "rejected_messages"),
        {"chosen_messages": "chosen", "rejected_messages": "rejected"},
    ),
    Shape(
        "sharegpt_preference",
        PREFERENCE,
        (CONVERSATIONS, ("chosen",), ("rejected",)),
        _sharegpt_preference,
        _TURNS | _PAIR,
    ),
    Shape(
        "alpaca_preference",
        PREFERENCE,
        (("instruction",), ("chosen",), ("rejected",)),
        _alpaca_preference,
        _ALPACA | _PAIR,
    ),
    Shape(
        "preference",
        PREFERENCE,
        (("prompt", "question", "query"), ("chosen",), ("rejected",)),
        _preference,
        {**dict.fromkeys(("prompt", "question", "query"), "question"), "system": "system", **_PAIR},
    ),
    Shape(
        "preference_conversations",
        PREFERENCE,
        (("chosen",), ("rejected",)),
        _two_conversations("chosen", "rejected"),
        _PAIR,
    ),
    Shape(
        "rated_messages", RATED, (("messages",), LABELS), _rated_conversation("messages"), _TURNS | _RATING
    ),
    Shape(
        "rated_sharegpt",
        RATED,
        (CONVERSATIONS, LABELS),
        _rated_conversation(*CONVERSATIONS),
        _TURNS | _RATING,
    ),
    Shape("rated_alpaca", RATED, (("instruction",), ("output",), LABELS), _rated_alpaca, _ALPACA | _RATING),
    Shape("rated", RATED, (PROMPTS, COMPLETIONS, LABELS), _rated_completion, _PROMPT | _RATING),
    Shape("sharegpt", SFT, (CONVERSATIONS,), _sharegpt, _TURNS),
    Shape("messages", SFT, (("messages",),), _messages, _TURNS),
    Shape(
        "alpaca_instances",
        SFT,
        (("instruction",), ("instances",)),
        _alpaca_instances,
        {"instruction": "question", "instances": "turns", "system": "system"},
    ),
    Shape("alpaca", SFT, (("instruction",), ("output",)), _alpaca, _ALPACA),
    Shape("completion", SFT, (PROMPTS, COMPLETIONS), _completion, _PROMPT),
    Shape("text", TEXT, (("text",),), _plain, {"text": "text"}),
)
