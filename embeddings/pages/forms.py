"""The form of a collection: its name, and who may read it."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from accounts.models import Team, User
from embeddings.collections import save_collection
from embeddings.models import Collection, Visibility
from llmsite.core.errors import InvalidInput, describe


class CollectionForm(forms.Form):
    """A new collection of `user`, or the changes of `collection`, which is theirs."""

    name = forms.CharField(
        label=_("Name"), max_length=100, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )
    visibility = forms.ChoiceField(label=_("Who may read it"))
    team = forms.ModelChoiceField(
        label=_("Team"),
        queryset=Team.objects.none(),
        required=False,
        help_text=_("For a collection that the members of a team may read."),
    )

    def __init__(self, data: Any = None, *, user: User, collection: Collection | None = None) -> None:
        self._collection = collection or Collection(owner=user)
        initial = {name: getattr(self._collection, name) for name in ("name", "visibility", "team")}
        super().__init__(data, initial=initial, auto_id=f"{'change' if collection else 'new'}_%s")
        teams = user.teams.all()
        self.fields["team"].queryset = teams  # type: ignore[attr-defined]
        self.fields["visibility"].choices = [  # type: ignore[attr-defined]
            (Visibility.PRIVATE, _("Only you")),
            *([(Visibility.TEAM, _("The members of a team"))] if teams else []),
            (Visibility.PUBLIC, _("Everybody who is signed in")),
        ]
        if not teams:
            del self.fields["team"]

    def save(self) -> Collection | None:
        """The collection; None, with the reason in `errors`, where the values are not acceptable."""
        if not self.is_valid():
            return None
        values = self.cleaned_data
        team = values.get("team")
        try:
            return save_collection(
                self._collection,
                name=values["name"],
                visibility=values["visibility"],
                team=team.pk if team else None,
            )
        except InvalidInput as error:
            field = error.field if error.field in self.fields else None
            self.add_error(field, describe(error).message)
            return None
