"""What was narrowed since a backup was made is not widened by it: readers, keys, limits, models.

It is read off the tables before they are replaced, as what was taken is (`taken`). What a key, a person or a
collection has after a restore is what it has both in the backup and in the site.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from django.conf import settings
from django.db.models import F
from django.utils import timezone

from accounts.audit import record
from accounts.models import ApiKey, Team, User
from accounts.models.audit import AuditKind
from embeddings.models import Collection
from embeddings.models.collections import Visibility
from inference.models import ChatModelConfig
from inference.models.chat_models import CacheScope, ModelFallback
from llmsite.core.rates import Rate

REASON = "restore"
NO_DEFAULT = "No model of this backup that is active still is the default: choose one in the admin."
SHARING = (CacheScope.NOBODY, CacheScope.USER, CacheScope.SITE)
"""Who shares cached answers, fewer people first."""

Number = TypeVar("Number", int, datetime)
TeamName = tuple[int, str]
"""The id and the name of a team: either may have become another team's."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of a person or of a key, whose scopes and models those of a person do not have."""

    rate_limit: str
    monthly_budget_micro: int | None
    scopes: list[str]
    allowed_models: list[str]
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Serving:
    """What a model does; `chain` are those that answer in its place."""

    is_active: bool
    cache_scope: str
    semantic_cache: bool
    chain: frozenset[str]


@dataclass(frozen=True, slots=True)
class Narrowed:
    """People by their pseudonyms, keys by their public ids, models by their aliases."""

    people: dict[UUID, Limits]
    keys: dict[str, Limits]
    members: frozenset[tuple[UUID, TeamName]]
    collections: dict[UUID, tuple[str, TeamName | None]]
    """Who may read it, and the team where that is one."""
    models: dict[str, Serving]


def narrowed_now() -> Narrowed:
    """As the site has it."""
    return Narrowed(
        people={user.pseudonym: _limits_of(user) for user in User.objects.iterator()},
        keys={key.public_id: _limits_of(key) for key in ApiKey.objects.iterator()},
        members=frozenset((pseudonym, team) for _pk, pseudonym, team in _memberships()),
        collections={row.pk: _readers(row) for row in Collection.objects.select_related("team").iterator()},
        models={row.alias: _serving(row) for row in ChatModelConfig.objects.all()},
    )


def narrow_again(now: Narrowed) -> tuple[Counter[str], list[str]]:
    """Narrow what the rows of a backup have widened, in the transaction that brings them.

    Gives how many of each kind, and sentences on what is left to be done.
    """
    kept = Counter(
        memberships=_leave_teams(now),
        collections=_close_collections(now),
        keys=sum(_narrow_key(key, now.keys) for key in list(ApiKey.objects.filter(revoked_at=None))),
        limits=sum(_narrow_person(user, now.people) for user in list(User.objects.all())),
    )
    defaults = ChatModelConfig.objects.filter(is_default=True)
    had_one = defaults.exists()
    kept["models"] = sum(_narrow_model(row, now.models) for row in list(ChatModelConfig.objects.all()))
    return kept, [NO_DEFAULT] if had_one and not defaults.exists() else []


# --- Who reads what --------------------------------------------------------------------------------


def _memberships() -> Iterable[tuple[int, UUID, TeamName]]:
    """The id of each membership, whose it is, and in which team."""
    rows = Team.members.through._base_manager.values_list("pk", "user__pseudonym", "team_id", "team__name")
    for pk, pseudonym, team, name in rows.iterator():
        yield pk, pseudonym, (team, name)


def _leave_teams(now: Narrowed) -> int:
    gone = [
        pk
        for pk, pseudonym, team in _memberships()
        if pseudonym in now.people and (pseudonym, team) not in now.members
    ]
    for pk in gone:
        Team.members.through._base_manager.filter(pk=pk).delete()
    return len(gone)


def _readers(collection: Collection) -> tuple[str, TeamName | None]:
    team = collection.team
    if collection.visibility != Visibility.TEAM or team is None:
        return collection.visibility, None
    return collection.visibility, (team.pk, team.name)


def _close_collections(now: Narrowed) -> int:
    count = 0
    for collection in list(Collection.objects.exclude(visibility=Visibility.PRIVATE).select_related("team")):
        readers = now.collections.get(collection.pk, (Visibility.PUBLIC, None))
        if readers[0] == Visibility.PUBLIC or readers == _readers(collection):
            continue
        team = _team_in_both(collection, readers[1])
        visibility = Visibility.PRIVATE if team is None else Visibility.TEAM
        Collection.objects.filter(pk=collection.pk).update(
            visibility=visibility, team=team, version=F("version") + 1
        )
        record(
            AuditKind.COLLECTION_SHARED,
            subject=collection.owner,
            collection=str(collection.pk),
            visibility=str(visibility),
            team=team and team.pk,
            reason=REASON,
        )
        count += 1
    return count


def _team_in_both(collection: Collection, name: TeamName | None) -> Team | None:
    """The team of now, where the backup let everybody read; of two teams, neither is within the other."""
    if name is None or collection.visibility != Visibility.PUBLIC:
        return None
    return Team.objects.filter(pk=name[0], name=name[1]).first()


# --- Keys and limits -------------------------------------------------------------------------------


def _limits_of(row: User | ApiKey) -> Limits:
    key = row if isinstance(row, ApiKey) else None
    return Limits(
        rate_limit=row.rate_limit,
        monthly_budget_micro=row.monthly_budget_micro,
        scopes=key.scopes if key else [],
        allowed_models=key.allowed_models if key else [],
        expires_at=key.expires_at if key else None,
    )


def _narrow_key(key: ApiKey, keys: dict[str, Limits]) -> bool:
    now = keys.get(key.public_id)
    if now is None:
        return False
    scopes, models = _both(key.scopes, now.scopes), _both(key.allowed_models, now.allowed_models)
    if scopes is None or models is None:
        # An empty list would be all.
        return bool(ApiKey.objects.filter(pk=key.pk).update(revoked_at=timezone.now()))
    return _change(
        key,
        scopes=scopes,
        allowed_models=models,
        rate_limit=_slower(key.rate_limit, now.rate_limit),
        monthly_budget_micro=_lower(key.monthly_budget_micro, now.monthly_budget_micro),
        expires_at=_lower(key.expires_at, now.expires_at),
    )


def _narrow_person(user: User, people: dict[UUID, Limits]) -> bool:
    now = people.get(user.pseudonym)
    if now is None:
        return False
    limits = {
        "rate_limit": _slower(user.rate_limit, now.rate_limit, default=settings.RATE_LIMIT),
        "monthly_budget_micro": _lower(user.monthly_budget_micro, now.monthly_budget_micro),
    }
    changed = sorted(name for name, value in limits.items() if value != getattr(user, name))
    if changed:
        record(AuditKind.LIMITS_CHANGED, subject=user, limits=changed, reason=REASON)
    return _change(user, **limits)


def _both(then: Any, now: list[str]) -> list[str] | None:
    """What two lists allow of which an empty one allows all; None where that is nothing."""
    if not then or not isinstance(then, list):
        return now
    if not now:
        return then
    return [one for one in then if one in now] or None


def _lower(then: Number | None, now: Number | None) -> Number | None:
    return min((one for one in (then, now) if one is not None), default=None)


def _slower(then: str, now: str, *, default: Rate | None = None) -> str:
    """Of two rates, of which an empty one stands for `default`, or for none."""

    def per_second(text: str) -> float:
        rate = Rate.parse(text) if text else default
        return float("inf") if rate is None else rate.count / rate.seconds

    return min(then, now, key=per_second)


def _change(row: User | ApiKey, **values: Any) -> bool:
    """Whether any of these was another value."""
    if all(getattr(row, name) == value for name, value in values.items()):
        return False
    return bool(type(row)._base_manager.filter(pk=row.pk).update(**values))


# --- Models ----------------------------------------------------------------------------------------


def _serving(row: ChatModelConfig) -> Serving:
    return Serving(
        is_active=row.is_active,
        cache_scope=row.cache_scope,
        semantic_cache=row.semantic_cache,
        chain=frozenset(ModelFallback.objects.filter(model=row).values_list("fallback__alias", flat=True)),
    )


def _narrow_model(row: ChatModelConfig, models: dict[str, Serving]) -> bool:
    now, then = models.get(row.alias), _serving(row)
    if now is None:
        return False
    wanted = Serving(
        is_active=then.is_active and now.is_active,
        cache_scope=min(then.cache_scope, now.cache_scope, key=SHARING.index),
        semantic_cache=then.semantic_cache and now.semantic_cache,
        chain=then.chain & now.chain,
    )
    if wanted == then:
        return False
    ModelFallback.objects.filter(model=row).exclude(fallback__alias__in=wanted.chain).delete()
    ChatModelConfig.objects.filter(pk=row.pk).update(
        is_active=wanted.is_active,
        is_default=row.is_default and wanted.is_active,
        cache_scope=wanted.cache_scope,
        semantic_cache=wanted.semantic_cache,
    )
    names = ("is_active", "cache_scope", "semantic_cache", "chain")
    fields = [name for name in names if getattr(wanted, name) != getattr(then, name)]
    record(AuditKind.MODEL_CHANGED, subject=None, model=row.alias, fields=fields, reason=REASON)
    return True
