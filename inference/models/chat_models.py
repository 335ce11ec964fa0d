"""The models that can be asked, and who answers in their place."""

from decimal import Decimal
from typing import Any, Self

from django.conf import settings
from django.db import models, transaction
from django.db.models import Q
from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver
from django.utils.translation import gettext_lazy as _

from inference.models.versions import Version
from inference.providers import KEYS, is_configured
from llmsite.core.errors import ModelNotFound

_LANGUAGES = {"smollm2-135m-instruct": ["en"]}
"""Of the packaged model; of others nobody knows."""


class ChatModelConfigQuerySet(models.QuerySet["ChatModelConfig"]):
    # Every way to change rows counts a version, by which all processes notice (inference.catalogue).

    @transaction.atomic
    def update(self, **values: Any) -> int:
        changed = super().update(**values)
        if changed:
            Version.objects.bump(Version.MODELS)
        return changed

    def active(self) -> Self:
        return self.filter(is_active=True)

    def aliases(self) -> list[str]:
        """The names of the active models."""
        return list(self.active().order_by("alias").values_list("alias", flat=True))

    def unpriced(self) -> list[str]:
        """The names of the models whose providers take money, but nobody has entered how much."""
        free = self.filter(provider__in=KEYS, input_price=0, output_price=0)
        return list(free.values_list("alias", flat=True))

    def named(self, alias: str | None, *, provider: str | None = None) -> "ChatModelConfig":
        """The active model of an alias; without one the default, or the provider's first.

        Raises ModelNotFound.
        """
        rows = self.active() if provider is None else self.active().filter(provider=provider)
        if alias is not None:
            row = rows.filter(alias=alias).first()
        elif provider is not None:
            row = rows.order_by("-is_default", "alias").first()
        else:
            row = rows.filter(is_default=True).first() or rows.filter(alias=settings.DEFAULT_MODEL).first()
        if row is None:
            raise ModelNotFound(model=alias or provider or settings.DEFAULT_MODEL)
        return row

    @transaction.atomic
    def make_default(self, row: "ChatModelConfig") -> None:
        """Let `row` answer where nobody names a model. Raises ModelNotFound where it is active no more."""
        # First, because the row of the counter then lets nobody else switch before the end of this one.
        Version.objects.bump(Version.MODELS)
        self.filter(is_default=True).exclude(pk=row.pk).update(is_default=False)
        if not self.filter(pk=row.pk, is_active=True).update(is_default=True):
            raise ModelNotFound(model=row.alias)

    @transaction.atomic
    def served_locally(self, name: str, *, context_window: int, revision: str = "") -> None:
        """Keep the local rows true: the engine serves the model `name` now, and no other.

        A new model gets a row. Where another local one was the default, it takes that place. `revision` tells
        weights of one name apart.
        """
        local = self.filter(provider="local")
        gone = local.exclude(provider_model=name)
        was_default = gone.filter(is_default=True).exists()
        gone.update(is_active=False, is_default=False)
        served = {"context_window": context_window, "revision": revision}
        if not local.filter(provider_model=name).update(is_active=True, **served):
            languages = _LANGUAGES.get(name, [])
            self.create(alias=name, provider="local", provider_model=name, languages=languages, **served)
        if was_default or not self.filter(is_default=True).exists():
            row = local.filter(provider_model=name).order_by("pk")[:1]
            self.filter(pk__in=[found.pk for found in row]).update(is_default=True)


class CacheScope(models.TextChoices):
    NOBODY = "off", _("nobody: no answer is cached")
    USER = "user", _("each person for themselves")
    SITE = "site", _("everybody")


class ChatModelConfig(models.Model):
    """A model that can be asked: what users call it, who serves it, what it takes and costs."""

    alias = models.CharField(_("alias"), max_length=100, help_text=_("The name users and programs ask for."))
    label = models.CharField(_("label"), max_length=100, blank=True)
    provider = models.CharField(_("provider"), max_length=50)
    provider_model = models.CharField(_("provider's name of the model"), max_length=200)
    revision = models.CharField(
        _("revision"),
        max_length=100,
        blank=True,
        help_text=_("Tells weights of the same name apart. Another revision starts the cache anew."),
    )
    context_window = models.PositiveIntegerField(_("context window (tokens)"), default=8192)
    system_prompt = models.TextField(_("system prompt"), blank=True)
    max_tokens = models.PositiveIntegerField(_("longest answer by default (tokens)"), default=1024)
    refused_parameters = models.JSONField(
        _("parameters it does not take"),
        default=list,
        blank=True,
        help_text=_(
            'A list of names, such as ["temperature", "top_p"]; they are dropped and named in the answer.'
        ),
    )
    input_price = models.DecimalField(
        _("price of a million input tokens"), max_digits=12, decimal_places=6, default=Decimal(0)
    )
    output_price = models.DecimalField(
        _("price of a million output tokens"), max_digits=12, decimal_places=6, default=Decimal(0)
    )
    base_url = models.CharField(
        _("base URL"),
        max_length=300,
        blank=True,
        help_text=_("Another address of the provider's API; one of those in PROVIDER_BASE_URLS."),
    )
    adapter = models.CharField(
        _("adapter"),
        max_length=200,
        blank=True,
        help_text=_(
            "The name of a LoRA adapter that the server has loaded; it is asked in place of the model."
        ),
    )
    parameters = models.JSONField(
        _("parameters"),
        default=dict,
        blank=True,
        help_text=_(
            'What a question that does not say otherwise is asked with, such as {"temperature": 0.2}.'
        ),
    )
    languages = models.JSONField(
        _("languages"),
        default=list,
        blank=True,
        help_text=_(
            'A list of codes, such as ["en"]; empty for any. A question about documents in another language '
            "is answered with sentences of theirs."
        ),
    )
    fallbacks = models.ManyToManyField(
        "self", through="ModelFallback", symmetrical=False, verbose_name=_("fallbacks"), related_name="+"
    )
    cache_scope = models.CharField(
        _("who shares cached answers"),
        max_length=10,
        choices=CacheScope.choices,
        default=CacheScope.USER,
        help_text=_(
            "“Everybody” shares answers to first questions that carry no words of their own system prompt."
        ),
    )
    semantic_cache = models.BooleanField(
        _("semantic cache"),
        default=False,
        help_text=_(
            "Also answers a first question from one that was asked in other words; needs SEMANTIC_CACHE."
        ),
    )
    is_default = models.BooleanField(_("default"), default=False)
    is_active = models.BooleanField(_("active"), default=True)

    objects = ChatModelConfigQuerySet.as_manager()

    class Meta:
        verbose_name = _("model")
        verbose_name_plural = _("models")
        ordering = ("alias",)
        constraints = [
            models.UniqueConstraint(fields=["alias"], name="inference_model_alias"),
            models.UniqueConstraint(
                fields=["is_default"], condition=Q(is_default=True), name="inference_model_one_default"
            ),
            models.CheckConstraint(
                condition=Q(input_price__gte=0, output_price__gte=0),
                name="inference_model_prices_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(context_window__gte=1, max_tokens__gte=1), name="inference_model_sizes_positive"
            ),
            models.CheckConstraint(
                condition=Q(cache_scope__in=CacheScope.values), name="inference_model_cache_scope"
            ),
        ]

    def __str__(self) -> str:
        return self.label or self.alias

    @property
    def is_available(self) -> bool:
        """Whether its provider has what it needs to be asked."""
        return is_configured(self.provider)

    @property
    def lacks_price(self) -> bool:
        """Whether its provider takes money, and nobody has entered how much."""
        return self.provider in KEYS and not (self.input_price or self.output_price)

    @property
    def is_served_here(self) -> bool:
        """Whether this site's own engine answers for it. Only a promotion gives it an adapter then."""
        return self.provider == "local" and not (self.base_url or settings.LOCAL_BASE_URL)

    @property
    def upstream_model(self) -> str:
        """What the provider is asked for: a server names a loaded adapter like a model."""
        return self.adapter or self.provider_model


class ModelFallback(models.Model):
    """Who answers where `model` cannot: the fallback with the lowest position first."""

    model = models.ForeignKey(ChatModelConfig, on_delete=models.CASCADE, related_name="chain")
    fallback = models.ForeignKey(ChatModelConfig, on_delete=models.CASCADE, related_name="+")
    position = models.PositiveSmallIntegerField(_("position"), default=1)

    class Meta:
        verbose_name = _("fallback")
        verbose_name_plural = _("fallbacks")
        ordering = ("position",)
        constraints = [
            models.UniqueConstraint(fields=["model", "fallback"], name="inference_fallback_once"),
            models.UniqueConstraint(fields=["model", "position"], name="inference_fallback_position"),
            models.CheckConstraint(
                condition=~Q(model=models.F("fallback")), name="inference_fallback_is_another"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.position}: {self.fallback}"


@receiver([post_save, post_delete], sender=ChatModelConfig)
@receiver([post_save, post_delete], sender=ModelFallback)
def _count_change(**_kwargs: Any) -> None:
    Version.objects.bump(Version.MODELS)
