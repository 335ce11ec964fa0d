"""Input that is checked strictly: a field nobody knows is an error, not silence."""

from typing import Any

from django.utils.translation import gettext as _
from rest_framework import serializers


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses unknown fields by name, so that a typing error or a forbidden option is seen."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            unknown = next((name for name in data if name not in self.fields), None)
            if unknown is not None:
                raise serializers.ValidationError({str(unknown): _("This field is not known here.")})
        return super().to_internal_value(data)
