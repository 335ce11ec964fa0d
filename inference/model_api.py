"""The models and the cache of their answers, as REST resources: shown to everybody, run by operators."""

from asgiref.sync import async_to_sync
from django.utils import timezone
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.authentication import HasScope, credential_of, user_of
from accounts.models import Scope
from inference.cache.levels import answer_cache
from inference.clearing import clear_for_all
from inference.model_states import show_circuits
from inference.models import ChatModelConfig
from inference.serializers import DefaultModelSerializer, ModelSerializer, StaffModelSerializer
from inference.switching import MAY_SWITCH, switch_default
from llmsite.core.errors import NotAllowed
from llmsite.core.rest import validated

MAY_LOOK_AFTER = "inference.view_chatmodelconfig"


class ModelListView(APIView):
    permission_classes = (HasScope,)
    scope = Scope.CHAT

    def get(self, request: Request) -> Response:
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
    """Whoever may change models; of their keys those that are limited to no scopes."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        key = credential_of(request).api_key
        if (key is not None and key.scopes) or not user_of(request).has_perm(MAY_SWITCH):
            raise NotAllowed
        return True


class DefaultModelView(APIView):
    """The model that answers where nobody names one."""

    scope = Scope.CHAT

    def get_permissions(self) -> list[BasePermission]:
        return [HasScope(), MaySwitch()] if self.request.method == "POST" else [HasScope()]

    def get(self, request: Request) -> Response:
        return Response(_named(ChatModelConfig.objects.named(None)))

    def post(self, request: Request) -> Response:
        serializer = DefaultModelSerializer(data=request.data)
        values = validated(serializer)
        model = ChatModelConfig.objects.named(values["model"], provider=values["provider"])
        switch_default(model, actor=user_of(request))
        return Response(_named(model))


def _named(model: ChatModelConfig) -> dict[str, object]:
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

    def get(self, request: Request) -> Response:
        return Response(async_to_sync(answer_cache.counts)())

    def delete(self, request: Request) -> Response:
        clear_for_all(actor=user_of(request))
        return Response({"status": "cache cleared", "timestamp": timezone.now().isoformat()})
