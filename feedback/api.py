"""`/api/feedback`: what people say of answers."""

from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.core.validators import ProhibitNullCharactersValidator
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiParameter, OpenApiTypes, extend_schema_field
from rest_framework import generics, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.validators import ProhibitSurrogateCharactersValidator
from rest_framework.views import APIView

from accounts.authentication import HasScope, user_of
from accounts.credentials import arequire_caller
from accounts.models import Scope
from feedback.giving import give, take_back
from feedback.models import Feedback, ReviewStatus, Tag
from feedback.models.feedback import COMMENT_LENGTH, CORRECTION_LENGTH, RATINGS
from inference.hit_writer import hit_writer
from llmsite.core.errors import NotFound
from llmsite.core.paging import KeysetPagination
from llmsite.core.rest import by_method, json_door, read_json
from llmsite.core.schema import documented, nothing
from llmsite.core.serializers import StrictSerializer

TAG_FEEDBACK = "Feedback"


class TextField(serializers.CharField):
    """A text that may be empty, as it was written. What is no character is refused by `sanitize`."""

    def __init__(self, *, most: int) -> None:
        super().__init__(required=False, allow_blank=True, trim_whitespace=False, max_length=most)
        others = (ProhibitNullCharactersValidator, ProhibitSurrogateCharactersValidator)
        self.validators = [one for one in self.validators if not isinstance(one, others)]


@extend_schema_field({"type": "integer", "enum": list(RATINGS)})
class RatingField(serializers.IntegerField):
    """1 for a good answer, -1 for a bad one."""


class GivenSerializer(StrictSerializer):
    message = serializers.UUIDField()
    rating = RatingField()
    tags = serializers.ListField(
        child=serializers.ChoiceField(Tag.choices), required=False, max_length=len(Tag)
    )
    comment = TextField(most=COMMENT_LENGTH)
    correction = TextField(most=CORRECTION_LENGTH)


class FeedbackSerializer(serializers.ModelSerializer[Feedback]):
    """What one person says of one answer; `status` is what curators made of it."""

    user = serializers.CharField(source="user.username")
    conversation = serializers.UUIDField(source="message.conversation_id")
    rating = RatingField()
    tags = serializers.ListField(child=serializers.ChoiceField(Tag.choices))
    for_training = serializers.SerializerMethodField()

    class Meta:
        model = Feedback
        fields = (
            "id",
            "message",
            "conversation",
            "user",
            "rating",
            "tags",
            "comment",
            "correction",
            "for_training",
            "status",
            "created_at",
            "updated_at",
        )

    def get_for_training(self, row: Feedback) -> bool:
        """Whether its author allowed training when they wrote it, and allows it now."""
        return row.consented_at is not None and row.user.training_consent_at is not None


class FilterSerializer(serializers.Serializer[Any]):
    """What a list may be limited to."""

    rating = serializers.ChoiceField([(str(one), str(one)) for one in RATINGS], required=False)
    status = serializers.ChoiceField(ReviewStatus.choices, required=False)
    tag = serializers.ChoiceField(Tag.choices, required=False)
    message = serializers.UUIDField(required=False)
    conversation = serializers.UUIDField(required=False)
    corrected = serializers.BooleanField(required=False)


_FILTERS = [
    OpenApiParameter("rating", OpenApiTypes.INT, enum=list(RATINGS), description="Good or bad ones alone."),
    OpenApiParameter("status", OpenApiTypes.STR, enum=ReviewStatus.values, description="In this state."),
    OpenApiParameter("tag", OpenApiTypes.STR, enum=Tag.values, description="With this tag."),
    OpenApiParameter("message", OpenApiTypes.UUID, description="About this answer."),
    OpenApiParameter("conversation", OpenApiTypes.UUID, description="About answers of this conversation."),
    OpenApiParameter("corrected", OpenApiTypes.BOOL, description="With a better answer, or without one."),
]


class FeedbackPages(KeysetPagination):
    ordering = ("-created_at", "id")


class FeedbackListView(generics.ListAPIView[Feedback]):
    permission_classes = (HasScope,)
    scope = Scope.FEEDBACK
    serializer_class = FeedbackSerializer
    pagination_class = FeedbackPages

    def get_queryset(self) -> Any:
        wanted = FilterSerializer(data=self.request.query_params.dict())
        wanted.is_valid(raise_exception=True)
        rows = Feedback.objects.visible_to(user_of(self.request)).select_related("user", "message")
        return _filtered(rows.defer("message__content"), **wanted.validated_data)

    @documented(
        "Your feedback, newest first",
        tag=TAG_FEEDBACK,
        gives=FeedbackSerializer(many=True),
        parameters=_FILTERS,
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Curators see that of everybody."""
        return super().get(request, *args, **kwargs)


def _filtered(rows: Any, *, tag: str = "", corrected: bool | None = None, **equal: Any) -> Any:
    if "conversation" in equal:
        equal["message__conversation"] = equal.pop("conversation")
    rows = rows.tagged(tag) if tag else rows
    if corrected is not None:
        rows = rows.exclude(correction="") if corrected else rows.filter(correction="")
    return rows.filter(**equal)


@documented(
    "Say what you think of an answer",
    tag=TAG_FEEDBACK,
    scope=Scope.FEEDBACK,
    takes=GivenSerializer,
    example={"message": "0198c0de-0000-7000-8000-000000000000", "rating": 1, "tags": ["helpful"]},
    gives={201: FeedbackSerializer, 200: FeedbackSerializer},
    fails=(NotFound,),
)
@json_door("POST")
async def _give(request: HttpRequest) -> HttpResponseBase:
    """`message` is the answer's, of a conversation of your own. What you said of it before is replaced (200).

    A curator may read the conversation up to this answer. `correction` is Markdown: HTML outside of code is
    kept as text. Changing what a curator has accepted takes back what followed from it.
    """
    user = (await arequire_caller(request, Scope.FEEDBACK)).user
    said = GivenSerializer.read(read_json(request))
    message = said.pop("message")
    # An answer from the cache is told before its rows are written.
    await hit_writer.written(message)
    feedback = await sync_to_async(give)(user, message, **said)
    shown = await sync_to_async(lambda: FeedbackSerializer(feedback).data)()
    is_new = feedback.created_at == feedback.updated_at
    return JsonResponse(shown, status=status.HTTP_201_CREATED if is_new else status.HTTP_200_OK)


class FeedbackView(APIView):
    permission_classes = (HasScope,)
    scope = Scope.FEEDBACK

    @documented("Take it back", tag=TAG_FEEDBACK, gives={204: nothing("It is deleted.")})
    def delete(self, request: Request, pk: UUID) -> Response:
        """What followed from it, where a curator had accepted it, is undone."""
        take_back(user_of(request), pk)
        return Response(status=status.HTTP_204_NO_CONTENT)


feedback = by_method(GET=FeedbackListView.as_view(), POST=_give)
