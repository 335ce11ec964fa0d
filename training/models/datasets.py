"""Data sets, whose versions never change."""

from typing import Self

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from feedback.models import Feedback
from llmsite.core.ids import row_id


class Layout(models.TextChoices):
    """What a row holds once it is read, whatever file it came in."""

    SFT = "sft", _("prompt and answer")
    PREFERENCE = "dpo", _("prompt, chosen and rejected answer")
    RATED = "kto", _("prompt, answer and a thumb")
    TEXT = "text", _("plain text")


class Dataset(models.Model):
    """What belongs together; its versions hold the rows."""

    id = models.UUIDField(primary_key=True, default=row_id, editable=False)
    name = models.CharField(_("name"), max_length=100)
    created_by = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("created by")
    )
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)

    class Meta:
        verbose_name = _("data set")
        verbose_name_plural = _("data sets")
        ordering = ("name",)
        constraints = [models.UniqueConstraint(fields=["name"], name="training_dataset_name")]

    def __str__(self) -> str:
        return self.name


class DatasetVersionQuerySet(models.QuerySet["DatasetVersion"]):
    def usable(self) -> Self:
        return self.filter(withdrawn_at=None)


class DatasetVersion(models.Model):
    """Rows as they were at one moment, in one file of JSON lines below DATASETS_ROOT, named by its SHA-256.

    `origin` says where they come from: the file's name, its hash and format, or the filters of the feedback;
    `report` what was seen in them: token lengths, duplicates, leaks between training and evaluation. Once
    `withdrawn_at` is set the file is gone: somebody who is in it was erased.
    """

    id = models.UUIDField(primary_key=True, default=row_id, editable=False)
    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField(_("version"))
    layout = models.CharField(_("layout"), max_length=10, choices=Layout.choices)
    sha256 = models.CharField(_("SHA-256"), max_length=64)
    row_count = models.PositiveIntegerField(_("rows"))
    origin = models.JSONField(_("origin"), default=dict)
    report = models.JSONField(_("report"), default=dict)
    created_by = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("created by")
    )
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    withdrawn_at = models.DateTimeField(_("withdrawn"), null=True, blank=True)

    objects = DatasetVersionQuerySet.as_manager()

    class Meta:
        verbose_name = _("version of a data set")
        verbose_name_plural = _("versions of data sets")
        ordering = ("dataset", "-number")
        constraints = [
            models.UniqueConstraint(fields=["dataset", "number"], name="training_version_number"),
            models.UniqueConstraint(fields=["dataset", "sha256"], name="training_version_content"),
            models.CheckConstraint(condition=Q(layout__in=Layout.values), name="training_version_layout"),
            models.CheckConstraint(condition=Q(row_count__gte=2), name="training_version_rows"),
        ]

    def __str__(self) -> str:
        return f"{self.dataset} {self.number}"


class DatasetRow(models.Model):
    """That a row comes from somebody's feedback: the way from a person to what was trained on them."""

    id = models.UUIDField(primary_key=True, default=row_id, editable=False)
    version = models.ForeignKey(DatasetVersion, on_delete=models.CASCADE, related_name="rows")
    number = models.PositiveIntegerField(_("row"))
    """Counted from 0, as the lines of the file."""
    feedback = models.ForeignKey(Feedback, on_delete=models.SET_NULL, null=True, related_name="+")
    user = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")

    class Meta:
        verbose_name = _("row of a data set")
        verbose_name_plural = _("rows of data sets")
        constraints = [models.UniqueConstraint(fields=["version", "number"], name="training_row_number")]

    def __str__(self) -> str:
        return f"{self.version_id} {self.number}"
