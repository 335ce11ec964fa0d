"""Input that is checked strictly: a field nobody knows is an error, not silence."""

from functools import cache
from typing import Any

from django.utils.translation import gettext as _
from rest_framework import serializers
from rest_framework.fields import empty


class RefusesUnknownFields:
    """Names a field that the serializer does not take, so that a typing error is seen.

    And one whose value is of another JSON type: Django REST framework takes "1" for 1, and 1 for "1".

    Put it before a serializer class of Django REST framework.
    """

    fields: Any

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            self.refuse_others(data)
        return super().to_internal_value(data)  # type: ignore[misc]

    def refuse_others(self, data: dict[Any, Any]) -> None:
        fields = self.fields
        unknown = next((name for name in data if name not in fields or fields[name].read_only), None)
        if unknown is not None:
            raise serializers.ValidationError({str(unknown): _("This field is not known here.")})
        for name, value in data.items():
            _require_type(name, value, fields[name])


_TYPES: tuple[tuple[type[serializers.Field[Any, Any, Any, Any]], tuple[type, ...]], ...] = (
    (serializers.CharField, (str,)),
    (serializers.BooleanField, (bool,)),
    (serializers.IntegerField, (int, float)),
    (serializers.FloatField, (int, float)),
)


def _require_type(name: str, value: Any, field: Any) -> None:
    """Raises ValidationError."""
    if value is None:
        return
    for kind, types in _TYPES:
        if isinstance(field, kind):
            if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
                raise serializers.ValidationError({name: field.error_messages["invalid"]})
            return
    if isinstance(field, serializers.ListField) and isinstance(value, list):
        for item in value:
            _require_type(name, item, field.child)


class StrictSerializer(RefusesUnknownFields, serializers.Serializer[Any]):
    """A serializer of plain values that refuses unknown fields.

    Its fields are named like their values.
    """

    def to_internal_value(self, data: Any) -> Any:
        """As Django REST framework's, without asking each field that was not sent."""
        if not isinstance(data, dict):
            return super().to_internal_value(data)
        self.refuse_others(data)
        wanted = [
            field
            for name, field in self.fields.items()
            if name in data or field.required or field.default is not empty
        ]
        values, errors = {}, {}
        for field in wanted:
            check = getattr(self, f"validate_{field.field_name}", None)
            try:
                value = field.run_validation(data.get(field.field_name, empty))
                values[field.field_name] = check(value) if check else value
            except serializers.ValidationError as error:
                errors[field.field_name] = error.detail
        if errors:
            raise serializers.ValidationError(errors)
        return values

    @classmethod
    def read(cls, data: Any) -> dict[str, Any]:
        """The typed values in `data`. Raises REST framework's ValidationError.

        One instance reads for everybody: it keeps nothing of what it reads, and making one, with a copy of
        every field, takes longer than reading.
        """
        reader = _reader(cls)
        if not isinstance(data, dict):
            return reader.run_validation(data)
        # What else run_validation does is for serializers with validators or read-only defaults.
        return reader.validate(reader.to_internal_value(data))


@cache
def _reader(kind: type[StrictSerializer]) -> StrictSerializer:
    return kind()
