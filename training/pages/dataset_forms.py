"""The forms that make data sets."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from feedback.export import ExportFormat
from llmsite.core.errors import SiteError, describe
from training.importing import NAME_LENGTH


class _Form(forms.Form):
    name = forms.CharField(
        label=_("Name"),
        max_length=NAME_LENGTH,
        widget=forms.TextInput(attrs={"autocomplete": "off", "list": "dataset-names"}),
        help_text=_("A name that is there already gets a new version."),
    )

    def refuse(self, error: SiteError) -> int:
        """Show what a call says, at its field where the form has that; the status that belongs to it."""
        public = describe(error)
        self.add_error(error.field if error.field in self.fields else None, public.message)
        return public.status


class FileForm(_Form):
    """A data set from a file; the file itself is beside it."""

    columns = forms.CharField(
        label=_("Names of columns"),
        required=False,
        max_length=500,
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "placeholder": "prompt=question, completion=reply"}
        ),
        help_text=_("Only where they are not recognised."),
    )
    leave_out_bad = forms.BooleanField(
        label=_("Leave out rows that are not right, or longer than the model takes"), required=False
    )

    def __init__(self, data: Any = None) -> None:
        super().__init__(data, auto_id="file_%s")


class FeedbackForm(_Form):
    """A data set of what people said of answers."""

    format = forms.ChoiceField(
        label=_("What is to be learnt"),
        choices=[
            (ExportFormat.SFT.value, _("Corrected answers")),
            (ExportFormat.DPO.value, _("Pairs: the corrected answer before the old one")),
            (ExportFormat.KTO.value, _("Thumbs")),
        ],
    )

    def __init__(self, data: Any = None) -> None:
        super().__init__(data, auto_id="feedback_%s")
