"""`/api/collections`: collections as REST resources."""

from typing import Any
from uuid import UUID

from django.db.models import Count, Q, QuerySet
from django.shortcuts import get_object_or_404
from rest_framework import generics, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.authentication import HasScope, user_of
from accounts.models import Scope, User
from embeddings.collections import save_collection
from embeddings.deletion import delete_collection
from embeddings.models import Collection, access_collection
from embeddings.serializers import (
    CollectionChangeSerializer,
    CollectionSerializer,
    NewCollectionSerializer,
)
from llmsite.core.paging import KeysetPagination
from llmsite.core.schema import documented, nothing

TAG_DOCUMENTS = "Documents"


class DocumentsView(APIView):
    permission_classes = (HasScope,)
    scope = Scope.DOCUMENTS


class CollectionPages(KeysetPagination):
    ordering = ("name", "id")


def with_counts(collections: QuerySet[Collection]) -> QuerySet[Collection]:
    return collections.annotate(documents_total=Count("documents", filter=Q(documents__deleting_at=None)))


def _shown(collection: Collection, user: User) -> Any:
    found = get_object_or_404(with_counts(Collection.objects.visible_to(user)), pk=collection.pk)
    return CollectionSerializer(found, context={"user": user}).data


class CollectionListView(DocumentsView, generics.ListAPIView[Collection]):
    serializer_class = CollectionSerializer
    pagination_class = CollectionPages

    def get_queryset(self) -> Any:
        return with_counts(Collection.objects.visible_to(user_of(self.request)))

    def get_serializer_context(self) -> dict[str, Any]:
        return {**super().get_serializer_context(), "user": self.request.user}

    @documented("The collections that you may read", tag=TAG_DOCUMENTS, gives=CollectionSerializer(many=True))
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    @documented(
        "Make a collection",
        tag=TAG_DOCUMENTS,
        takes=NewCollectionSerializer,
        example={"name": "Handbooks", "visibility": "private"},
        gives={201: CollectionSerializer},
    )
    def post(self, request: Request) -> Response:
        user = user_of(request)
        values = NewCollectionSerializer.read(request.data)
        collection = save_collection(Collection(owner=user), **values)
        return Response(_shown(collection, user), status=status.HTTP_201_CREATED)


class CollectionView(DocumentsView):
    @documented("One collection", tag=TAG_DOCUMENTS, gives=CollectionSerializer)
    def get(self, request: Request, pk: UUID) -> Response:
        user = user_of(request)
        return Response(_shown(access_collection(user, pk), user))

    @documented(
        "Rename it, or change who may read it",
        tag=TAG_DOCUMENTS,
        takes=CollectionChangeSerializer,
        gives=CollectionSerializer,
    )
    def patch(self, request: Request, pk: UUID) -> Response:
        user = user_of(request)
        collection = access_collection(user, pk, to_change=True)
        save_collection(collection, **CollectionChangeSerializer.read(request.data))
        return Response(_shown(collection, user))

    @documented(
        "Delete it with all its documents",
        tag=TAG_DOCUMENTS,
        gives={204: nothing("Nobody sees it any more; its traces are being removed.")},
    )
    def delete(self, request: Request, pk: UUID) -> Response:
        user = user_of(request)
        delete_collection(access_collection(user, pk, to_change=True), actor=user)
        return Response(status=status.HTTP_204_NO_CONTENT)
