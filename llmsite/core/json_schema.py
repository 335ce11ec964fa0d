"""JSON schemas of bodies that are not read by serializers, in few words.

`null` stands for "not given" in a body, as `llmsite.core.json_fields` has it.
"""

from typing import Any

Json = dict[str, Any]

TEXT: Json = {"type": "string"}
TEXT_OR_NULL: Json = {"type": ["string", "null"]}
FLAG: Json = {"type": ["boolean", "null"]}
COUNT: Json = {"type": "integer", "minimum": 0}
IGNORED: Json = {"description": "Taken and ignored."}
FREE_OBJECT: Json = {"type": "object"}


def body(*required: str, **properties: Json) -> Json:
    """An object of these fields and no others."""
    return {**part(*required, **properties), "additionalProperties": False}


def part(*required: str, **properties: Json) -> Json:
    """An object that may have other fields too."""
    return {"type": "object", "properties": properties, "required": list(required)}


def answer(**properties: Json) -> Json:
    """An object that has all of these fields."""
    return part(*properties, **properties)


def text(least: int = 1, most: int | None = None) -> Json:
    return {"type": "string", "minLength": least, **({} if most is None else {"maxLength": most})}


def number(least: float, most: float, kind: str = "number") -> Json:
    return {"type": [kind, "null"], "minimum": least, "maximum": most}


def whole(least: int, most: int) -> Json:
    return number(least, most, "integer")


def constant(*values: Any) -> Json:
    return {"enum": [*values]}


def list_of(items: Json, *, least: int = 0, most: int | None = None, may_be_null: bool = False) -> Json:
    kind: Any = ["array", "null"] if may_be_null else "array"
    limits = {"minItems": least} | ({} if most is None else {"maxItems": most})
    return {"type": kind, "items": items, **limits}


def one_of(*schemas: Json) -> Json:
    return {"oneOf": [*schemas]}


NULL: Json = {"type": "null"}
