"""The models and the cache of their answers, as REST resources: shown to everybody, run by operators."""

from datetime import datetime
from typing import Any, Literal, TypedDict

from asgiref.sync import async_to_sync
from django.utils import timezone
from rest_framework import serializers
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.authentication import HasScope, credential_of, user_of
from accounts.models import Scope
from inference.cache.levels import answer_cache
from inference.clearing import clear_for_all
from inference.descriptions import TAG_MODELS
from inference.model_states import show_circuits
from inference.models import ChatModelConfig
from inference.serializers import DefaultModelSerializer, ModelSerializer, StaffModelSerializer
from inference.switching import MAY_SWITCH, switch_default
from llmsite.core.errors import ModelNotFound, NotAllowed, ProviderNotConfigured
from llmsite.core.rest import validated
from llmsite.core.schema import documented

MAY_LOOK_AFTER = "inference.view_chatmodelconfig"


class ModelPage(serializers.Serializer[Any]):
    """All models are on one page."""

    results = StaffModelSerializer(many=True)
    next = serializers.CharField(allow_null=True)


class NamedModel(TypedDict):
    provider: str
    model: str
    label: str
    available: bool


class CacheCounts(TypedDict):
    l1: int
    l2: int | None
    l3: int | None


class Cleared(TypedDict):
    status: Literal["cache cleared"]
    timestamp: datetime


class ModelListView(APIView):
    permission_classes = (HasScope,)
    scope = Scope.CHAT

    @documented("The models that you may ask", tag=TAG_MODELS, gives=ModelPage)
    def get(self, request: Request) -> Response:
        """Whoever looks after the models also sees their fallbacks, and which of them have failed lately."""
        rows = ChatModelConfig.objects.active()
        key = credential_of(request).api_key
        if key is not None and key.allowed_models:
            rows = rows.filter(alias__in=key.allowed_models)
        if not user_of(request).has_perm(MAY_LOOK_AFTER):
            return Response({"results": ModelSerializer(rows, many=True).data, "next": None})
        models = list(rows.prefetch_related("chain__fallback"))
        show_circuits(models)
        return Response({"results": StaffModelSerializer(models, many=True).data, "next": None})


class MaySwitch(BasePermission):
    """Whoever may change models; of their keys those that are limited to no scopes and to no models."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        key = credential_of(request).api_key
        is_limited = key is not None and bool(key.scopes or key.allowed_models)
        if is_limited or not user_of(request).has_perm(MAY_SWITCH):
            raise NotAllowed
        return True


class DefaultModelView(APIView):
    """The model that answers where nobody names one."""

    scope = Scope.CHAT

    def get_permissions(self) -> list[BasePermission]:
        return [HasScope(), MaySwitch()] if self.request.method == "POST" else [HasScope()]

    @documented("The default model", tag=TAG_MODELS, gives=NamedModel, fails=(ModelNotFound,))
    def get(self, request: Request) -> Response:
        """A key that may not ask it does not learn which one it is."""
        model = ChatModelConfig.objects.named(None)
        key = credential_of(request).api_key
        if key is not None and not key.allows_model(model.alias):
            raise NotAllowed
        return Response(_named(model))

    @documented(
        "Switch the default model",
        tag=TAG_MODELS,
        takes=DefaultModelSerializer,
        example={"provider": "local", "model": "smollm2-135m-instruct"},
        gives=NamedModel,
        fails=(ModelNotFound, ProviderNotConfigured),
    )
    def post(self, request: Request) -> Response:
        """For operators; in all processes within a second."""
        serializer = DefaultModelSerializer(data=request.data)
        values = validated(serializer)
        model = ChatModelConfig.objects.named(values["model"], provider=values["provider"])
        switch_default(model, actor=user_of(request))
        return Response(_named(model))


def _named(model: ChatModelConfig) -> NamedModel:
    return {
        "provider": model.provider,
        "model": model.alias,
        "label": model.label,
        "available": model.is_available,
    }


class CacheView(APIView):
    """How many answers each level of the cache holds; DELETE clears all levels, in all processes."""

    permission_classes = (HasScope,)
    scope = Scope.CACHE_CLEAR

    @documented("How many answers are kept", tag=TAG_MODELS, gives=CacheCounts)
    def get(self, request: Request) -> Response:
        """By level, for operators: `l1` is this process's, `null` one that cannot be asked."""
        return Response(async_to_sync(answer_cache.counts)())

    @documented("Clear the cache", tag=TAG_MODELS, gives=Cleared)
    def delete(self, request: Request) -> Response:
        """All levels in all processes, for operators."""
        clear_for_all(actor=user_of(request))
        return Response({"status": "cache cleared", "timestamp": timezone.now().isoformat()})
