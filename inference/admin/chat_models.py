"""The models: what they are asked with and for how much, who answers in their place, and how they stand."""

from typing import Any

from asgiref.sync import async_to_sync
from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.formats import time_format
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from accounts.admin import RecordedAdmin
from accounts.audit import record
from accounts.authentication import user_of
from accounts.models.api_keys import PERMISSION_OF_SCOPE, Scope
from accounts.models.audit import AuditKind
from inference.admin.model_forms import ChatModelConfigForm, FallbackForm, FallbackFormSet, model_changes
from inference.cache.levels import answer_cache
from inference.clearing import clear_for_all
from inference.model_states import show_circuits
from inference.models import ChatModelConfig, ModelFallback
from inference.providers import KEYS
from inference.switching import MAY_SWITCH, switch_default
from llmsite.core.errors import SiteError, describe


class ModelList(ChangeList):
    """The list, with how each model on the page stands."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        show_circuits(self.result_list)


class FallbackInline(admin.TabularInline):
    model = ModelFallback
    form = FallbackForm
    formset = FallbackFormSet
    fk_name = "model"
    fields = ("position", "fallback")
    extra = 0
    verbose_name_plural = _("Fallbacks: who answers, in this order, where it cannot")

    def get_queryset(self, request: HttpRequest) -> QuerySet[ModelFallback]:
        return super().get_queryset(request).select_related("fallback")

    # A chain is a part of its model: whoever may change the one may change the other.

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("inference.view_chatmodelconfig")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm(f"inference.{'add' if obj is None else 'change'}_chatmodelconfig")

    has_add_permission = has_delete_permission = has_change_permission


@admin.register(ChatModelConfig)
class ChatModelConfigAdmin(RecordedAdmin):
    form = ChatModelConfigForm
    inlines = (FallbackInline,)
    list_display = (
        "alias",
        "is_default",
        "is_active",
        "circuit",
        "provider",
        "key",
        "price",
        "provider_model",
    )
    list_filter = ("provider", "is_active")
    search_fields = ("alias", "label", "provider_model")
    actions = ("make_default",)
    readonly_fields = ("is_default",)
    fieldsets = (
        (None, {"fields": ("alias", "label", "is_active", "is_default")}),
        (
            _("Who serves it"),
            {"fields": ("provider", "provider_model", "adapter", "base_url", "password", "revision")},
        ),
        (
            _("What it takes"),
            {
                "fields": (
                    "context_window",
                    "max_tokens",
                    "languages",
                    "system_prompt",
                    "parameters",
                    "refused_parameters",
                )
            },
        ),
        (_("Prices"), {"fields": ("input_price", "output_price")}),
        (_("Cache"), {"fields": ("cache_scope", "semantic_cache")}),
    )

    # --- The list ---------------------------------------------------------------------------------

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return ModelList

    @admin.display(description=_("key"))
    def key(self, model: ChatModelConfig) -> str:
        if model.provider not in KEYS:
            return gettext("needs none")
        return gettext("set") if model.is_available else gettext("missing: %s") % KEYS[model.provider]

    @admin.display(description=_("price, in and out"), ordering="output_price")
    def price(self, model: ChatModelConfig) -> str:
        if model.lacks_price:
            return gettext("no price set")
        if not (model.input_price or model.output_price):
            return gettext("free")
        return f"{model.input_price.normalize():f} / {model.output_price.normalize():f} {settings.CURRENCY}"

    @admin.display(description=_("state"))
    def circuit(self, model: Any) -> str:
        seen = model.circuit
        if seen is None:
            return gettext("in order")
        if seen.state == "open":
            until = time_format(timezone.localtime(seen.retry_at), "H:i:s")
            return gettext("paused until %(time)s: %(code)s") % {"time": until, "code": seen.code}
        if seen.state == "half-open":
            return gettext("about to be tried again: %(code)s") % {"code": seen.code}
        count = {"count": seen.failures, "code": seen.code}
        return (
            ngettext("%(count)d failure: %(code)s", "%(count)d failures in a row: %(code)s", seen.failures)
            % count
        )

    # --- The page ---------------------------------------------------------------------------------

    def get_readonly_fields(
        self, request: HttpRequest, obj: ChatModelConfig | None = None
    ) -> tuple[str, ...]:
        """Of the site's own engine the adapter is what was promoted, which no form may undo or pass by."""
        # As it was: a form that is refused has written its values into the row already.
        if obj is not None and getattr(obj, "was_served_here", obj.is_served_here):
            return (*self.readonly_fields, "adapter")
        return self.readonly_fields

    def get_form(
        self, request: HttpRequest, obj: ChatModelConfig | None = None, change: bool = False, **kwargs: Any
    ) -> type[forms.ModelForm]:
        form = super().get_form(request, obj, change=change, **kwargs)
        return type(form.__name__, (form,), {"actor": user_of(request)})

    # --- Saving -----------------------------------------------------------------------------------

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        found = super().get_object(request, object_id, from_field)
        if found is not None and request.method == "POST":
            # Locked until the end of the change: nobody makes it the default while it is being switched off.
            found = self.get_queryset(request).select_for_update().filter(pk=found.pk).first()
        if found is not None:
            found.was_served_here = found.is_served_here
        return found

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        if changed := model_changes(form, formsets):
            record(AuditKind.MODEL_CHANGED, subject=None, model=form.instance.alias, fields=changed)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        to_delete, counts, missing, protected = super().get_deleted_objects(objs, request)
        protected += [str(model) for model in objs if model.is_default]
        return to_delete, counts, missing, protected

    def delete_model(self, request: HttpRequest, obj: ChatModelConfig) -> None:
        record(AuditKind.MODEL_CHANGED, subject=None, model=obj.alias, fields=["deleted"])
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[ChatModelConfig]) -> None:
        for model in queryset:
            self.delete_model(request, model)

    # --- Pages that do one thing ------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        clear_cache = self.admin_site.admin_view(self.clear_cache_view)
        default = self.admin_site.admin_view(self.default_view)
        return [
            path("clear-cache/", clear_cache, name="inference_chatmodelconfig_clear_cache"),
            path("<path:object_id>/default/", default, name="inference_chatmodelconfig_default"),
            *super().get_urls(),
        ]

    @admin.action(description=_("Make the selected model the default"), permissions=["change"])
    def make_default(self, request: HttpRequest, queryset: QuerySet[ChatModelConfig]) -> HttpResponse | None:
        chosen = list(queryset[:2])
        if len(chosen) == 1:
            return redirect("admin:inference_chatmodelconfig_default", chosen[0].pk)
        self.message_user(request, gettext("Select one model alone."), messages.ERROR)
        return None

    def default_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Asks once more, and switches the site's default."""
        if not request.user.has_perm(MAY_SWITCH):
            raise PermissionDenied
        model = super().get_object(request, unquote(object_id))
        if model is None:
            raise Http404
        before = ChatModelConfig.objects.filter(is_default=True).first()
        context = self._page(request, title=_("Make it the default"), object=model, before=before)
        if request.method == "POST":
            try:
                switch_default(model, actor=user_of(request))
            except SiteError as error:
                context["error"] = describe(error).message
            else:
                self.log_change(request, model, [{"changed": {"fields": ["is_default"]}}])
                self.message_user(request, gettext("“%s” is the default now.") % model, messages.SUCCESS)
                return redirect("admin:inference_chatmodelconfig_changelist")
        return TemplateResponse(request, "admin/inference/chatmodelconfig/default.html", context)

    def clear_cache_view(self, request: HttpRequest) -> HttpResponse:
        """Asks once more, and clears all levels of the cache in all processes."""
        if not request.user.has_perm(PERMISSION_OF_SCOPE[Scope.CACHE_CLEAR]):
            raise PermissionDenied
        if request.method == "POST":
            clear_for_all(actor=user_of(request))
            self.message_user(request, gettext("The cache is empty."), messages.SUCCESS)
            return redirect("admin:inference_chatmodelconfig_changelist")
        context = self._page(request, title=_("Clear the cache"), counts=async_to_sync(answer_cache.counts)())
        return TemplateResponse(request, "admin/inference/chatmodelconfig/clear_cache.html", context)

    def _page(self, request: HttpRequest, **context: Any) -> dict[str, Any]:
        return {**self.admin_site.each_context(request), "opts": self.opts, **context}
