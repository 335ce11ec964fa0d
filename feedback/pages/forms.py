"""The form of a review: the right answer, and who is told it."""

from datetime import datetime
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from embeddings.models import Collection
from feedback.models import Feedback, Scope
from feedback.models.feedback import BAD, CORRECTION_LENGTH
from feedback.review import LABEL_LENGTH, accept
from llmsite.core.errors import InvalidInput, describe


def moment_of(raw: str) -> datetime | None:
    """A moment as a form of ours says it; None for anything else."""
    try:
        moment = datetime.fromisoformat(raw)
    except ValueError:
        return None
    return moment if moment.tzinfo else None


class SeenField(forms.CharField):
    """When the feedback that the curator has read was last changed."""

    widget = forms.HiddenInput

    def prepare_value(self, value: Any) -> Any:
        return value.isoformat() if isinstance(value, datetime) else value

    def to_python(self, value: Any) -> Any:
        moment = moment_of(super().to_python(value) or "")
        if moment is None:
            raise ValidationError(_("Load the page again."))
        return moment


class CollectionField(forms.ModelChoiceField):
    def label_from_instance(self, collection: Any) -> str:
        """Its name, which its text is not: a curator chooses among those that they may read."""
        return str(collection.name)


class ScopeSelect(forms.RadioSelect):
    """Scopes of which some may be out of reach."""

    closed: frozenset[str] = frozenset()

    def create_option(self, name: str, value: Any, *args: Any, **values: Any) -> dict[str, Any]:
        option = super().create_option(name, value, *args, **values)
        if str(value) in self.closed:
            option["attrs"]["disabled"] = True
        return option


class ReviewForm(forms.Form):
    """What `curator` makes of `feedback`."""

    answer = forms.CharField(
        label=_("The right answer"),
        # Longer ones, and empty ones, are refused where all doors are.
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 10, "maxlength": CORRECTION_LENGTH, "data-key": "e"}),
    )
    label = forms.CharField(
        label=_("Label"),
        required=False,
        help_text=_("A word of your own to find it by, if you like."),
        widget=forms.TextInput(attrs={"autocomplete": "off", "maxlength": LABEL_LENGTH, "data-key": "l"}),
    )
    scope = forms.ChoiceField(label=_("Who is told this answer"), required=False, widget=ScopeSelect)
    collection = CollectionField(label=_("Collection"), queryset=Collection.objects.none(), required=False)
    confirmed_impersonal = forms.BooleanField(
        label=_("Neither the question nor the answer holds anything personal"),
        required=False,
        help_text=_("Needed where others than the author are told it."),
    )
    seen = SeenField()

    def __init__(self, data: Any = None, *, feedback: Feedback, curator: User) -> None:
        self._feedback, self._curator = feedback, curator
        initial = {
            "answer": feedback.correction or feedback.message.content,
            "label": feedback.label,
            "scope": Scope.AUTHOR,
            "seen": feedback.updated_at,
        }
        super().__init__(data, initial=initial)
        collections = Collection.objects.visible_to(curator).order_by("name", "id")
        self.fields["collection"].queryset = collections  # type: ignore[attr-defined]
        self.fields["scope"].choices = [  # type: ignore[attr-defined]
            (Scope.AUTHOR, _("Only %(author)s") % {"author": feedback.user.get_username()}),
            (Scope.COLLECTION, _("Everybody who asks a collection")),
            (Scope.SITE, _("Everybody")),
        ]
        if not collections.exists():
            self._close_collections()

    def _close_collections(self) -> None:
        scope = self.fields["scope"]
        scope.widget.closed = frozenset({Scope.COLLECTION.value})
        scope.help_text = _("There is no collection that you may read, so none can be chosen.")
        self.fields["collection"].disabled = True

    def clean_answer(self) -> str:
        answer: str = self.cleaned_data["answer"].replace("\r\n", "\n")
        if self._feedback.rating == BAD and answer.strip() == self._feedback.message.content.strip():
            reason = _("This is the answer that was called bad. Correct it, or reject the feedback.")
            raise ValidationError(reason)
        return answer

    def accept(self) -> bool | None:
        """Whether it was this form that decided; None, with the reason in `errors`, where it will not do."""
        if not self.is_valid():
            return None
        try:
            return accept(self._feedback, self._curator, **self.cleaned_data)
        except InvalidInput as error:
            field = error.field if error.field in self.fields else None
            self.add_error(field, describe(error).message)
            return None
