"""The forms of the pages of training."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from accounts.forms import CurrentPasswordField
from accounts.models import User
from accounts.passwords import confirm_in_form
from inference.models import ChatModelConfig
from llmsite.core.errors import SiteError, describe
from training import gate, promotion
from training.evaluation import ask_for
from training.models import DatasetVersion, Evaluation, Promotion, TrainingRun
from training.settings import LIMITS, RunSettings
from training.starting import start_run

_SETTINGS = {
    "epochs": (_("Passes over the rows"), ""),
    "learning_rate": (_("Learning rate"), ""),
    "rank": (_("Rank"), _("Of the adapter’s matrices: more can learn more, and forget more.")),
    "alpha": (_("Alpha"), _("What was learned counts alpha / rank times.")),
    "batch_size": (_("Rows a step"), ""),
    "gradient_accumulation": (_("Steps put together"), ""),
    "max_steps": (_("Most steps"), _("0 for as many as the passes take.")),
    "max_length": (_("Tokens of the longest row"), _("A longer row is refused, and none is cut.")),
    "leave_out": (_("Leave longer rows out"), _("They are then neither trained on nor held out.")),
    "warmup": (_("Steps of warming up"), ""),
    "dropout": (_("Dropout"), ""),
    "eval_fraction": (_("Share of rows held out"), _("They show what the model has forgotten.")),
    "save_every": (_("Steps between checkpoints"), ""),
    "log_every": (_("Steps between log lines"), ""),
    "seed": (_("Seed"), ""),
}
"""In the order of the form; the first few are always in sight."""
IN_SIGHT = ("epochs", "learning_rate")


class _Form(forms.Form):
    """A form whose errors come from the call that it makes."""

    def refuse(self, error: SiteError) -> None:
        """Show what the call says, at its field where the form has that."""
        name = (error.field or "").rpartition(".")[2]
        self.add_error(name if name in self.fields else None, describe(error).message)


class StartForm(_Form):
    """A new run."""

    name = forms.CharField(label=_("Name"), max_length=100)
    version = forms.ModelChoiceField(
        label=_("Data set"), queryset=DatasetVersion.objects.none(), empty_label=_("Choose one")
    )

    def __init__(self, data: Any = None) -> None:
        super().__init__(data, auto_id="start_%s")
        versions = DatasetVersion.objects.usable().select_related("dataset")
        self.fields["version"].queryset = versions  # type: ignore[attr-defined]
        usual = RunSettings()
        for name, (label, help_text) in _SETTINGS.items():
            self.fields[name] = _field_of(name, getattr(usual, name), label, help_text)

    @property
    def usual_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in ("name", "version", *IN_SIGHT)]

    @property
    def more_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in _SETTINGS if name not in IN_SIGHT]

    @property
    def has_hidden_errors(self) -> bool:
        return any(field.errors for field in self.more_fields)

    def save(self, user: User) -> TrainingRun | None:
        """The run; None, with the reason in `errors`, where it may not begin."""
        if not self.is_valid():
            return None
        values = self.cleaned_data
        try:
            chosen = RunSettings.read({name: values[name] for name in _SETTINGS})
            return start_run(values["version"], name=values["name"], chosen=chosen, user=user)
        except SiteError as error:
            self.refuse(error)
            return None


class EvaluateForm(_Form):
    judge = forms.ChoiceField(
        label=_("Judge"),
        required=False,
        help_text=_(
            "A model that says which answers are nearer to accepted corrections. Its provider gets the "
            "questions and the answers, and you pay for it."
        ),
    )
    loss_growth_most = forms.FloatField(label=_("Most growth of the loss"), min_value=0, max_value=1)
    score_drop_most = forms.FloatField(label=_("Most fall of a score"), min_value=0, max_value=1)
    cases_rouge_least = forms.FloatField(
        label=_("Least likeness to corrections (ROUGE-L)"), min_value=0, max_value=1
    )
    win_rate_least = forms.FloatField(label=_("Least share that the judge prefers"), min_value=0, max_value=1)
    rows_least = forms.IntegerField(label=_("Least rows to measure on"), min_value=1, max_value=1_000_000)
    heldout_least = forms.IntegerField(
        label=_("Least rows kept out of the training"),
        min_value=0,
        max_value=1_000_000,
        help_text=_("Only they show what the model has forgotten."),
    )

    def __init__(self, data: Any = None) -> None:
        super().__init__(data, auto_id="evaluate_%s", initial=gate.Thresholds().as_dict())
        models = ChatModelConfig.objects.active().order_by("alias")
        judges = [(row.alias, str(row)) for row in models if row.is_available]
        self.fields["judge"].choices = [("", _("None")), *judges]  # type: ignore[attr-defined]

    @property
    def thresholds(self) -> list[forms.BoundField]:
        return [self[name] for name in self.fields if name != "judge"]

    def save(self, run: TrainingRun, user: User) -> Evaluation | None:
        if not self.is_valid():
            return None
        values = dict(self.cleaned_data)
        judge = values.pop("judge")
        try:
            return ask_for(run, user=user, judge=judge, thresholds=values)
        except SiteError as error:
            self.refuse(error)
            return None


class PromoteForm(_Form):
    """Which of the models that serve the run's base model is moved."""

    model = forms.ModelChoiceField(
        label=_("Model"), queryset=ChatModelConfig.objects.none(), to_field_name="alias", empty_label=None
    )
    confirmed = forms.BooleanField(
        label=_("Everybody who asks this model gets the new answers."),
        error_messages={"required": _("Confirm that everybody gets the new answers.")},
    )
    password = CurrentPasswordField(
        label=_("Your password"), help_text=_("So that nobody else does this at a screen you have left.")
    )

    def __init__(self, run: TrainingRun, data: Any = None) -> None:
        super().__init__(data, auto_id="promote_%s")
        self._run = run
        adapter = promotion.adapter_of(run)
        if adapter is not None:
            self.fields["model"].queryset = promotion.models_for(adapter)  # type: ignore[attr-defined]

    def save(self, user: User) -> Promotion | None:
        if not self.is_valid():
            return None
        try:
            confirm_in_form(user, self.cleaned_data["password"])
            return promotion.promote(self._run, user=user, model=self.cleaned_data["model"])
        except SiteError as error:
            self.refuse(error)
            return None


def _field_of(name: str, usual: Any, label: Any, help_text: Any) -> forms.Field:
    if isinstance(usual, bool):
        return forms.BooleanField(label=label, help_text=help_text, initial=usual, required=False)
    least, most = LIMITS[name]
    kind = forms.IntegerField if isinstance(usual, int) else forms.FloatField
    attributes = {} if kind is forms.IntegerField else {"step": "any"}
    return kind(
        label=label,
        help_text=help_text,
        initial=usual,
        min_value=type(usual)(least),
        max_value=type(usual)(most),
        widget=forms.NumberInput(attrs=attributes),
    )
