"""Conversations and their messages, as REST resources."""

from typing import Any
from uuid import UUID

from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import extend_schema_view
from rest_framework import generics, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView

from accounts.authentication import HasScope, user_of
from accounts.credentials import Credential, arequire_caller
from accounts.models import Scope
from inference.ask import NEWEST_LEAF, Ask
from inference.descriptions import ASKING, IDEMPOTENCY_KEY, TAG_CONVERSATIONS
from inference.idempotency import read_idempotency
from inference.models import Conversation, Message, access_conversation
from inference.once import REPLAYED, ask_once
from inference.serializers import (
    ConversationSerializer,
    MessageSerializer,
    NewMessageSerializer,
    grounding_of,
    sampling_of,
)
from inference.together import heed_cache_control
from llmsite.core.errors import IdempotencyConflict, ModelNotFound
from llmsite.core.paging import KeysetPagination
from llmsite.core.rest import by_method, json_door, read_json, validated
from llmsite.core.schema import documented, nothing


class ChatView(APIView):
    permission_classes = (HasScope,)
    scope = Scope.CHAT


class ConversationPages(KeysetPagination):
    ordering = ("-updated_at", "id")


class MessagePages(KeysetPagination):
    ordering = ("created_at", "id")


@extend_schema_view(
    get=documented("Your conversations", tag=TAG_CONVERSATIONS, gives=ConversationSerializer(many=True)),
    post=documented(
        "Begin a conversation",
        tag=TAG_CONVERSATIONS,
        takes=ConversationSerializer,
        example={"title": "Foxes"},
        gives={201: ConversationSerializer},
        fails=(ModelNotFound,),
    ),
)
class ConversationListView(ChatView, generics.ListCreateAPIView[Conversation]):
    serializer_class = ConversationSerializer
    pagination_class = ConversationPages

    def get_queryset(self) -> Any:
        return Conversation.objects.visible_to(user_of(self.request)).listed()

    def perform_create(self, serializer: BaseSerializer[Conversation]) -> None:
        serializer.save(owner=user_of(self.request))


class ConversationView(ChatView):
    @documented("One conversation", tag=TAG_CONVERSATIONS, gives=ConversationSerializer)
    def get(self, request: Request, pk: UUID) -> Response:
        return Response(ConversationSerializer(access_conversation(user_of(request), pk)).data)

    @documented(
        "Rename it, or give it another model",
        tag=TAG_CONVERSATIONS,
        takes=ConversationSerializer,
        gives=ConversationSerializer,
        fails=(ModelNotFound,),
    )
    def patch(self, request: Request, pk: UUID) -> Response:
        conversation = access_conversation(user_of(request), pk)
        serializer = ConversationSerializer(conversation, data=request.data, partial=True)
        validated(serializer)
        serializer.save()
        return Response(serializer.data)

    @documented("Delete it", tag=TAG_CONVERSATIONS, gives={204: nothing("It is deleted.")})
    def delete(self, request: Request, pk: UUID) -> Response:
        # An answer that is being written there notices within a beat, and stops.
        access_conversation(user_of(request), pk).delete()
        return Response(status=status.HTTP_204_NO_CONTENT)


@extend_schema_view(get=documented("Its messages", tag=TAG_CONVERSATIONS, gives=MessageSerializer(many=True)))
class MessageListView(ChatView, generics.ListAPIView[Message]):
    serializer_class = MessageSerializer
    pagination_class = MessagePages

    def get_queryset(self) -> Any:
        conversation = access_conversation(user_of(self.request), self.kwargs["pk"])
        return conversation.messages.select_related("generation").prefetch_related("generation__sources")


class AskedSerializer(serializers.Serializer[Any]):
    """What a question has made."""

    conversation = ConversationSerializer()
    user_message = MessageSerializer(allow_null=True)
    message = MessageSerializer()


@documented(
    "Ask in it",
    tag=TAG_CONVERSATIONS,
    scope=Scope.CHAT,
    takes=NewMessageSerializer,
    example={"prompt": "What is a fox?"},
    gives={202: AskedSerializer},
    fails=(*ASKING, IdempotencyConflict),
    parameters=[IDEMPOTENCY_KEY],
    headers={REPLAYED: "`true` where the question was asked before."},
)
@json_door("POST")
async def _ask(request: HttpRequest, pk: UUID) -> HttpResponseBase:
    """The answer is being written; `GET /api/generations/{id}/events` tells it, by the id of `generation`."""
    credential = await arequire_caller(request, Scope.CHAT)
    ask = _read_ask(request, credential, pk)
    generation, is_replayed = await ask_once(ask)
    message = generation.message
    question = message.parent if ask.regenerate is None else None
    body = {
        "conversation": ConversationSerializer(message.conversation).data,
        "user_message": question and MessageSerializer(question).data,
        "message": MessageSerializer(message).data,
    }
    headers = {REPLAYED: "true"} if is_replayed else {}
    return JsonResponse(body, status=status.HTTP_202_ACCEPTED, headers=headers)


def _read_ask(request: HttpRequest, credential: Credential, pk: UUID) -> Ask:
    body = read_json(request)
    values = NewMessageSerializer.read(body)
    ask = Ask(
        user=credential.user,
        api_key=credential.api_key,
        door="rest",
        prompt=values.get("prompt", ""),
        model=values.get("model"),
        conversation=pk,
        parent=values.get("parent", NEWEST_LEAF),
        regenerate=values.get("regenerate"),
        sampling=sampling_of(values),
        grounding=grounding_of(values),
        # The same words in another conversation are another question.
        idempotency=read_idempotency(request, {**body, "conversation": str(pk)}),
        request_id=request.request_id,  # type: ignore[attr-defined]
    )
    return heed_cache_control(ask, request.headers.get("Cache-Control"))


messages = by_method(GET=MessageListView.as_view(), POST=_ask)
