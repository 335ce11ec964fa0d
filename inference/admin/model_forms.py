"""The form of a model, and the list of those that answer in its place."""

import json
import re
from typing import Any, NoReturn

from django import forms
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.functional import cached_property
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from accounts.admin.actions import require_password
from accounts.forms import CurrentPasswordField
from accounts.models import User
from inference.addresses import vet
from inference.models import ChatModelConfig, ModelFallback
from inference.providers import provider_names
from inference.providers.base import ALL_PARAMETERS, SAMPLING_PARAMETERS
from inference.serializers import SamplingSerializer
from llmsite.core.errors import InvalidInput, describe
from llmsite.core.rest import as_site_error

MOST_POSITIONS = 100
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z]{2,4})?")


class _Decoder(json.JSONDecoder):
    """NaN and Infinity are not JSON, and would pass every comparison with a limit."""

    def __init__(self, **options: Any) -> None:
        super().__init__(parse_constant=_refuse, **options)


def _refuse(name: str) -> NoReturn:
    raise json.JSONDecodeError(name, name, 0)


class ParametersSerializer(SamplingSerializer):
    """What a model is asked with by default; `max_tokens` has a field of its own."""

    max_tokens = None  # type: ignore[assignment]
    presence_penalty = serializers.FloatField(required=False, min_value=-2, max_value=2)
    frequency_penalty = serializers.FloatField(required=False, min_value=-2, max_value=2)


class LanguagesField(forms.CharField):
    """Codes of languages between commas, as a list."""

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(value) if isinstance(value, list) else value

    def clean(self, value: Any) -> Any:
        codes = [code.strip() for code in super().clean(value).split(",") if code.strip()]
        for code in codes:
            if not _LANGUAGE.fullmatch(code):
                raise ValidationError(
                    gettext("“%(code)s” is no code of a language. Write for example: en, es") % {"code": code}
                )
        return codes

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(self.prepare_value(initial), data)


class ChatModelConfigForm(forms.ModelForm):
    """A model. Which one is the default is switched on a page of its own. `actor` is who changes it."""

    actor: User

    provider = forms.ChoiceField(
        label=_("Provider"), choices=lambda: [(name, name) for name in provider_names()]
    )
    refused_parameters = forms.MultipleChoiceField(
        label=_("Parameters it does not take"),
        choices=[(name, name) for name in sorted(ALL_PARAMETERS)],
        widget=forms.CheckboxSelectMultiple,
        required=False,
        help_text=_("They are dropped and named in the answer; tools and forms of answers are refused."),
    )
    languages = LanguagesField(
        label=_("Languages"),
        required=False,
        widget=forms.TextInput(attrs={"class": "vTextField"}),
        help_text=_(
            "Codes such as: en, es. Empty for any. A question about documents in another language is "
            "answered with sentences of theirs."
        ),
    )
    parameters = forms.JSONField(
        label=_("Parameters"),
        required=False,
        decoder=_Decoder,
        widget=forms.Textarea(attrs={"rows": 4, "class": "vLargeTextField"}),
        help_text=_(
            'What a question that does not say otherwise is asked with, such as {"temperature": 0.2}.'
        ),
    )

    password = CurrentPasswordField(
        label=_("Your password"),
        required=False,
        help_text=_("Only to change the address: whoever has that of a provider reads every question."),
    )

    @cached_property
    def changed_data(self) -> list[str]:
        return [name for name in super().changed_data if name != "password"]

    def clean_parameters(self) -> dict[str, Any]:
        given = self.cleaned_data["parameters"] or {}
        if not isinstance(given, dict):
            raise ValidationError(gettext('Write an object of JSON, such as {"temperature": 0.2}.'))
        if unknown := sorted(set(given) - SAMPLING_PARAMETERS):
            names = {"name": unknown[0], "known": ", ".join(sorted(SAMPLING_PARAMETERS))}
            raise ValidationError(gettext("“%(name)s” is not known here. Choose of: %(known)s.") % names)
        serializer = ParametersSerializer(data=given)
        try:
            serializer.is_valid(raise_exception=True)
        except serializers.ValidationError as error:
            wrong = as_site_error(error)
            raise ValidationError(f"{getattr(wrong, 'field', '')}: {describe(wrong).message}") from None
        return dict(serializer.validated_data)

    def clean_base_url(self) -> str:
        given = self.cleaned_data["base_url"].strip()
        try:
            return vet(given, provider=self.cleaned_data.get("provider", "")) if given else ""
        except InvalidInput as error:
            raise ValidationError(describe(error).message) from None

    def clean_password(self) -> str:
        password = self.cleaned_data["password"]
        before = self.initial.get("base_url", "")
        if self.cleaned_data.get("base_url", before) != before:
            require_password(self.actor, password)
        return ""

    def clean_is_active(self) -> bool:
        is_active = self.cleaned_data["is_active"]
        if self.instance.is_default and not is_active:
            raise ValidationError(
                gettext("This is the default. Make another model the default before this one goes.")
            )
        return is_active

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        window, longest = cleaned.get("context_window"), cleaned.get("max_tokens")
        if window and longest and longest >= window:
            self.add_error("max_tokens", gettext("An answer has to leave room in the window for a question."))
        if cleaned.get("adapter") and self._will_be_served_here(cleaned):
            self.add_error(
                "adapter", gettext("This site's own engine gets its adapters by promotions alone.")
            )
        return cleaned

    def _will_be_served_here(self, cleaned: dict[str, Any]) -> bool:
        row = ChatModelConfig(provider=cleaned.get("provider", ""), base_url=cleaned.get("base_url", ""))
        return row.is_served_here


class FallbackForm(forms.ModelForm):
    """One place of a chain, which is checked as a whole."""

    position = forms.IntegerField(
        label=_("position"),
        min_value=1,
        max_value=MOST_POSITIONS,
        required=False,
        help_text=_("Empty: the last."),
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.instance.pk is None:
            self.initial["position"] = None

    def clean_position(self) -> int:
        return self.cleaned_data["position"] or MOST_POSITIONS + 1

    def _get_validation_exclusions(self) -> set[str]:
        return super()._get_validation_exclusions() | {"position", "fallback"}  # type: ignore[misc]


class FallbackFormSet(forms.BaseInlineFormSet):
    """The chain of a model: no model twice, and not itself."""

    def add_fields(self, form: Any, index: int | None) -> None:
        super().add_fields(form, index)
        form.fields["fallback"].choices = self._others

    @cached_property
    def _others(self) -> list[tuple[Any, str]]:
        """The choices of every place, read once."""
        others = ChatModelConfig.objects.exclude(pk=self.instance.pk)
        return [("", "---------"), *((model.pk, str(model)) for model in others)]

    def clean(self) -> None:
        seen: set[int] = set()
        for form in self._kept_forms():
            fallback = form.cleaned_data["fallback"]
            if fallback.pk == self.instance.pk:
                form.add_error("fallback", gettext("A model cannot answer in its own place."))
            elif fallback.pk in seen:
                form.add_error("fallback", gettext("This model is in the chain already."))
            seen.add(fallback.pk)

    @transaction.atomic
    def save(self, commit: bool = True) -> list[ModelFallback]:
        """Write the whole chain anew, numbered from 1: two rows could not change places one by one."""
        self.new_objects: list[ModelFallback] = []
        self.changed_objects: list[Any] = []
        self.deleted_objects: list[Any] = []
        if not self.has_changed():
            return []
        forms = sorted(self._kept_forms(), key=lambda form: form.cleaned_data["position"])
        ModelFallback.objects.filter(model=self.instance).delete()
        for position, form in enumerate(forms, start=1):
            fallback = form.cleaned_data["fallback"]
            row = ModelFallback.objects.create(model=self.instance, fallback=fallback, position=position)
            self.new_objects.append(row)
        return self.new_objects

    def _kept_forms(self) -> list[Any]:
        return [
            form
            for form in self.forms
            if form not in self.deleted_forms and getattr(form, "cleaned_data", {}).get("fallback")
        ]


def model_changes(form: forms.ModelForm, formsets: list[Any]) -> list[str]:
    """The names of what was changed on the page."""
    names = set(form.changed_data)
    if any(formset.model is ModelFallback and formset.has_changed() for formset in formsets):
        names.add("fallbacks")
    return sorted(names)
