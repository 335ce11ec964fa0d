"""Collections of documents, and who may read them."""

from typing import Self
from uuid import UUID

from django.db import models
from django.db.models import F, OuterRef, Q
from django.utils.translation import gettext_lazy as _

from accounts.models import Team, User
from llmsite.core.errors import NotFound
from llmsite.core.ids import row_id


class Visibility(models.TextChoices):
    PRIVATE = "private", _("private")
    TEAM = "team", _("team")
    PUBLIC = "public", _("public")


class CollectionQuerySet(models.QuerySet["Collection"]):
    def visible_to(self, user: User | OuterRef) -> Self:
        """Those whose documents `user` may read: their own, those of their teams, and public ones.

        Within another query `user` may be a column of that.
        """
        return self.filter(_shared_with(user) | Q(visibility=Visibility.PUBLIC), deleting_at=None)

    def shared_with(self, user: User) -> Self:
        """Their own, and those of their teams."""
        return self.filter(_shared_with(user))

    def writable_by(self, user: User) -> Self:
        """Those to which `user` may add documents, and which they may change and delete."""
        return self.filter(owner=user, deleting_at=None)

    def bump(self) -> int:
        """What is answered out of these collections may be another thing from now on; how many there were."""
        return self.update(version=F("version") + 1)


def _shared_with(user: User | OuterRef) -> Q:
    # The teams are a query within this one, from which a column of the outer one is one step further.
    teams = Team.objects.filter(members=OuterRef(user) if isinstance(user, OuterRef) else user)
    return Q(owner=user) | Q(visibility=Visibility.TEAM, team__in=teams)


class Collection(models.Model):
    """Documents that are searched together; its owner alone may change it.

    `version` grows with every change of what a reader can find here, inside the transaction of the change: it
    is part of the key of every cached answer. While `deleting_at` is set nobody sees it, and its documents
    are being removed from all stores.
    """

    id = models.UUIDField(primary_key=True, default=row_id, editable=False)
    owner = models.ForeignKey(
        User, on_delete=models.CASCADE, related_name="collections", verbose_name=_("owner")
    )
    name = models.CharField(_("name"), max_length=100)
    visibility = models.CharField(
        _("visibility"), max_length=10, choices=Visibility.choices, default=Visibility.PRIVATE
    )
    team = models.ForeignKey(
        Team,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="collections",
        verbose_name=_("team"),
        help_text=_("Whose members may read it, where the visibility is team."),
    )
    is_default = models.BooleanField(default=False, editable=False)
    """Whether documents of its owner go here that name no collection."""
    version = models.PositiveBigIntegerField(default=1, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    deleting_at = models.DateTimeField(null=True, editable=False)

    objects = CollectionQuerySet.as_manager()

    class Meta:
        verbose_name = _("collection")
        verbose_name_plural = _("collections")
        ordering = ("name", "id")
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "name"], condition=Q(deleting_at=None), name="embeddings_collection_name"
            ),
            models.UniqueConstraint(
                fields=["owner"],
                condition=Q(is_default=True, deleting_at=None),
                name="embeddings_collection_one_default",
            ),
            models.CheckConstraint(
                condition=Q(visibility__in=Visibility.values), name="embeddings_collection_visibility"
            ),
            models.CheckConstraint(
                condition=~Q(visibility=Visibility.TEAM) | Q(team__isnull=False),
                name="embeddings_collection_of_a_team",
            ),
        ]

    def __str__(self) -> str:
        # No name: the admin shows this to people who may not read the collection.
        return str(self.pk)


def access_collection(user: User, pk: UUID | str, *, to_change: bool = False) -> Collection:
    """The only way to a collection by its id. Raises NotFound for a missing one and for one out of reach."""
    reachable = Collection.objects.visible_to(user)
    if to_change:
        reachable = reachable.writable_by(user)
    collection = reachable.filter(pk=pk).first()
    if collection is None:
        raise NotFound
    return collection
