"""Typed values out of a JSON object; what is wrong is refused with the path of its field.

For doors whose bodies are nested and have a form of somebody else's. `null` stands for "not given", as
vendors have it.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NoReturn

from django.utils.translation import gettext as _

from llmsite.core.errors import InvalidInput, TooLarge, UnknownParameter, UnsupportedParameter

MOST_LEVELS = 64
"""Of objects and lists within each other; what is deeper is no schema that anybody wrote."""
_NO_CHARACTER = "\x00"


class Fields:
    """One JSON object, read field by field; `path` says where it stands, such as `messages[0]`.

    What is asked for counts as known: `refuse_others` refuses all that was not.
    """

    def __init__(self, data: Any, path: str = "") -> None:
        self.path = path
        if not isinstance(data, dict):
            refuse(path or None, _("This must be a JSON object."))
        self._data: dict[str, Any] = data
        self._known: set[str] = set()

    def __contains__(self, name: str) -> bool:
        """Whether the field is given a value."""
        return self._get(name) is not None

    def at(self, name: str) -> str:
        """The path of a field."""
        return f"{self.path}.{name}" if self.path else name

    def text(self, name: str, *, most: int, required: bool = False) -> str | None:
        """Raises TooLarge over `most` characters, InvalidInput for what is no text."""
        value = self._get(name)
        if value is None:
            if required:
                refuse(self.at(name), _("This field is required."))
            return None
        return clean_text(value, self.at(name), most=most)

    def required_text(self, name: str, *, most: int) -> str:
        """A text that is there and is not empty."""
        value = self.text(name, most=most, required=True)
        if not value:
            refuse(self.at(name), _("This field may not be empty."))
        return value

    def flag(self, name: str) -> bool | None:
        value = self._get(name)
        if value is not None and not isinstance(value, bool):
            refuse(self.at(name), _("This must be true or false."))
        return value

    def whole(self, name: str, *, least: int, most: int) -> int | None:
        value = self._get(name)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            reason = _("This must be a whole number from %(least)s to %(most)s.")
            refuse(self.at(name), reason % {"least": least, "most": most})
        return value

    def number(self, name: str, *, least: float, most: float) -> float | None:
        value = self._get(name)
        if value is None:
            return None
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        # The comparison comes first: a whole number of a thousand digits is no float.
        if not is_number or not least <= value <= most or not math.isfinite(value):
            reason = _("This must be a number from %(least)s to %(most)s.")
            refuse(self.at(name), reason % {"least": least, "most": most})
        return float(value)

    def choice(self, name: str, choices: Sequence[str], *, required: bool = False) -> str | None:
        value = self._get(name)
        if value is None and not required:
            return None
        if not isinstance(value, str) or value not in choices:
            refuse(self.at(name), _("Choose one of: %(choices)s.") % {"choices": ", ".join(choices)})
        return value

    def object(self, name: str) -> "Fields | None":
        value = self._get(name)
        return None if value is None else Fields(value, self.at(name))

    def objects(self, name: str) -> Iterator["Fields"]:
        """The objects of a list; of none where the field is not given."""
        for at, item in enumerate(self._list(name)):
            yield Fields(item, f"{self.at(name)}[{at}]")

    def texts(self, name: str, *, most: int, most_characters: int) -> tuple[str, ...]:
        """One text or a list of at most `most`, none of them empty."""
        value = self._get(name)
        items = [value] if isinstance(value, str) else self._list(name)
        if len(items) > most:
            refuse(self.at(name), _("At most %(most)s are taken.") % {"most": most})
        texts = tuple(clean_text(item, self.at(name), most=most_characters) for item in items)
        if "" in texts:
            refuse(self.at(name), _("This field may not be empty."))
        return texts

    def raw(self, name: str) -> Any:
        """The value as it came, of any type, but of characters only and not too deep."""
        value = self._get(name)
        _check(value, self.at(name), MOST_LEVELS)
        return value

    def ignore(self, *names: str) -> None:
        """Take these fields, whatever is in them."""
        self._known.update(names)

    def not_supported(self, *names: str, unless: Collection[Any] = ()) -> None:
        """Refuse these fields where they ask for anything: `null`, and the values in `unless`, do not.

        Raises UnsupportedParameter.
        """
        for name in names:
            value = self._get(name)
            if value is not None and not any(value is each or value == each for each in unless):
                raise UnsupportedParameter(field=self.at(name))

    def refuse_others(self) -> None:
        """Refuse every field that was not asked for. Raises UnknownParameter for the first."""
        for name in self._data:
            if name not in self._known:
                raise UnknownParameter(field=_shown(self.at(name)))

    def _get(self, name: str) -> Any:
        self._known.add(name)
        return self._data.get(name)

    def _list(self, name: str) -> list[Any]:
        value = self._get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            refuse(self.at(name), _("This must be a list."))
        return value


def refuse(field: str | None, reason: str) -> NoReturn:
    """Raises InvalidInput."""
    raise InvalidInput(field=field, reason=reason)


def clean_text(value: Any, field: str, *, most: int) -> str:
    """`value` if it is a text of characters. Raises InvalidInput, or TooLarge over `most` characters."""
    if not isinstance(value, str):
        refuse(field, _("This must be a text."))
    if len(value) > most:
        raise TooLarge(field=field, limit=most, unit=_("characters"))
    _check_characters(value, field)
    return value


def _check(value: Any, field: str, levels: int) -> None:
    """Refuse what is nested too deep, and texts that no database and no tokenizer takes."""
    if levels == 0:
        refuse(field, _("This is nested too deep."))
    if isinstance(value, str):
        _check_characters(value, field)
    elif isinstance(value, dict):
        for name, inner in value.items():
            _check_characters(name, field)
            _check(inner, field, levels - 1)
    elif isinstance(value, list):
        for inner in value:
            _check(inner, field, levels - 1)


def _check_characters(text: str, field: str) -> None:
    # JSON can carry half a surrogate pair, which is no character.
    if _NO_CHARACTER in text or not _is_encodable(text):
        refuse(field, _("The text has something in it that is no character."))


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(path: str) -> str:
    """A name that somebody else chose, fit to be repeated in a message and a header."""
    return "".join(one if one.isascii() and one.isprintable() else "?" for one in path[:100])
