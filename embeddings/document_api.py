"""`/api/documents`: uploading, watching, reading and deleting documents."""

from pathlib import Path
from typing import Any, cast
from uuid import UUID

from asgiref.sync import sync_to_async
from django.core.files.uploadedfile import TemporaryUploadedFile
from django.db.models import Prefetch, QuerySet
from django.http import FileResponse, HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter, OpenApiTypes
from rest_framework import generics, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.authentication import user_of
from accounts.credentials import arequire_caller
from accounts.models import Scope, User
from embeddings import storage
from embeddings.collection_api import TAG_DOCUMENTS, DocumentsView
from embeddings.deletion import delete_document
from embeddings.intake import TakenIn, read_again, require_room, take_in
from embeddings.models import (
    Document,
    DocumentVersion,
    Page,
    access_collection,
    access_document,
)
from embeddings.serializers import DocumentDetailSerializer, DocumentSerializer, UploadedSerializer
from llmsite.core.errors import (
    DiskFull,
    InvalidInput,
    NotFound,
    StorageUsedUp,
    TooLarge,
    UnsupportedFile,
    UnsupportedMediaType,
)
from llmsite.core.json_schema import TEXT, Json, body
from llmsite.core.paging import KeysetPagination
from llmsite.core.rest import by_method, json_door
from llmsite.core.schema import documented, nothing
from llmsite.core.upload_handler import read_form

PAGES_AT_ONCE = 20


class DocumentPages(KeysetPagination):
    ordering = ("-created_at", "id")


def with_versions(documents: QuerySet[Document]) -> QuerySet[Document]:
    """With their versions, the oldest first."""
    versions = DocumentVersion.objects.order_by("number").select_related("document")
    return documents.prefetch_related(Prefetch("versions", versions))


class DocumentListView(DocumentsView, generics.ListAPIView[Document]):
    serializer_class = DocumentSerializer
    pagination_class = DocumentPages

    def get_queryset(self) -> Any:
        user = user_of(self.request)
        documents = with_versions(Document.objects.visible_to(user))
        if (given := self.request.query_params.get("collection")) is not None:
            documents = documents.filter(collection=access_collection(user, _uuid(given, "collection")))
        return documents

    @documented(
        "Documents, newest first",
        tag=TAG_DOCUMENTS,
        gives=DocumentSerializer(many=True),
        fails=(NotFound,),
        parameters=[
            OpenApiParameter("collection", OpenApiTypes.UUID, description="Of this collection alone.")
        ],
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)


def _uuid(given: str, field: str) -> UUID:
    try:
        return UUID(given)
    except ValueError as error:
        raise InvalidInput(field=field, reason=_("This is no id.")) from error


# --- Uploading --------------------------------------------------------------------------------------

_UPLOAD: Json = body(
    "file", file={"type": "string", "format": "binary"}, collection={**TEXT, "format": "uuid"}
)


@documented(
    "Upload a document",
    tag=TAG_DOCUMENTS,
    scope=Scope.DOCUMENTS,
    takes={"multipart/form-data": _UPLOAD},
    gives={202: UploadedSerializer, 200: UploadedSerializer},
    fails=(NotFound, TooLarge, StorageUsedUp, UnsupportedFile, DiskFull),
)
@json_door("POST")
async def _upload(request: HttpRequest) -> HttpResponseBase:
    """It is read in the background; `GET /api/documents/{id}` tells how far it is.

    Without `collection` it goes into a private one of yours. The same content again is the same document
    (200); another content of the same name is a new version, which takes the place of the one before when it
    is ready.
    """
    user = (await arequire_caller(request, Scope.DOCUMENTS)).user
    if not (request.content_type or "").startswith("multipart/form-data"):
        raise UnsupportedMediaType
    taken = await sync_to_async(_receive)(request, user)
    values = {
        "id": taken.document.pk,
        "name": taken.document.name,
        "status": taken.version.status,
        "collection": taken.document.collection_id,
        "version": taken.version.pk,
    }
    return JsonResponse(values, status=status.HTTP_202_ACCEPTED if taken.is_new else status.HTTP_200_OK)


def _receive(request: HttpRequest, user: User) -> TakenIn:
    # Before a byte of the file is written.
    require_room(user, int(request.META.get("CONTENT_LENGTH") or 0))
    file = _file_of(request)
    collection = request.POST.get("collection")
    place = _uuid(collection, "collection") if collection else None
    return take_in(user, place, Path(file.temporary_file_path()), file.name or "")


def _file_of(request: HttpRequest) -> TemporaryUploadedFile:
    """The one file of the form. Raises InvalidInput, and as `read_form` does."""
    read_form(request)
    files = request.FILES.getlist("file")
    if others := (set(request.FILES) | set(request.POST)) - {"file", "collection"}:
        raise InvalidInput(field=min(others), reason=_("This field is not known here."))
    if len(files) != 1:
        raise InvalidInput(field="file", reason=_("Send one file."))
    return cast(TemporaryUploadedFile, files[0])


documents = by_method(GET=DocumentListView.as_view(), POST=_upload)


# --- One document -----------------------------------------------------------------------------------


class DocumentView(DocumentsView):
    @documented("One document, with its versions", tag=TAG_DOCUMENTS, gives=DocumentDetailSerializer)
    def get(self, request: Request, pk: UUID) -> Response:
        access_document(user_of(request), pk)
        document = get_object_or_404(with_versions(Document.objects.visible_to(user_of(request))), pk=pk)
        return Response(DocumentDetailSerializer(document).data)

    @documented(
        "Delete it",
        tag=TAG_DOCUMENTS,
        gives={202: nothing("Nobody sees it any more; its traces are being removed.")},
    )
    def delete(self, request: Request, pk: UUID) -> Response:
        user = user_of(request)
        delete_document(access_document(user, pk, to_change=True), actor=user)
        return Response(status=status.HTTP_202_ACCEPTED)


class DocumentRetryView(DocumentsView):
    @documented(
        "Read it again",
        tag=TAG_DOCUMENTS,
        gives={202: DocumentDetailSerializer},
    )
    def post(self, request: Request, pk: UUID) -> Response:
        """Where its newest version has failed; otherwise nothing changes."""
        user = user_of(request)
        read_again(access_document(user, pk, to_change=True))
        document = get_object_or_404(with_versions(Document.objects.visible_to(user)), pk=pk)
        return Response(DocumentDetailSerializer(document).data, status=status.HTTP_202_ACCEPTED)


class DocumentFileView(DocumentsView):
    @documented(
        "Its file, as it was uploaded",
        tag=TAG_DOCUMENTS,
        gives={(200, "application/octet-stream"): {"type": "string", "format": "binary"}},
    )
    def get(self, request: Request, pk: UUID) -> HttpResponseBase:
        """Of the version that is searched, else of the newest."""
        return file_response(access_document(user_of(request), pk))


def file_response(document: Document) -> HttpResponseBase:
    """A download that no browser shows or runs as a page of this site. Raises NotFound."""
    version = document.current or document.versions.order_by("number").last()
    if version is None:
        raise NotFound
    try:
        file = storage.path_of(version.file).open("rb")
    except FileNotFoundError as error:
        # It was deleted a moment ago.
        raise NotFound from error
    response = FileResponse(
        file,
        as_attachment=True,
        filename=document.name.rpartition("/")[2],
        content_type="application/octet-stream",
    )
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response["Cross-Origin-Resource-Policy"] = "same-origin"
    return response


class PageSerializer(serializers.ModelSerializer[Page]):
    page = serializers.SerializerMethodField(help_text="null where the format has no pages.")

    class Meta:
        model = Page
        fields = ("page", "text")

    def get_page(self, page: Page) -> int | None:
        return page.number if self.context["is_paged"] else None


class PreviewSerializer(serializers.Serializer[Any]):
    """Some pages, and how many there are."""

    pages = serializers.IntegerField()
    results = PageSerializer(many=True)
    next = serializers.IntegerField(allow_null=True)


class DocumentPagesView(DocumentsView):
    @documented(
        "Its text, as models see it",
        tag=TAG_DOCUMENTS,
        gives=PreviewSerializer,
        parameters=[
            OpenApiParameter(
                "from",
                {"type": "integer", "minimum": 1, "default": 1},
                description=f"The first page; {PAGES_AT_ONCE} are given, and `next` is the one after them.",
            )
        ],
    )
    def get(self, request: Request, pk: UUID) -> Response:
        document = access_document(user_of(request), pk)
        first = _number(request.query_params.get("from", "1"))
        version = document.current or document.versions.exclude(pages=None).order_by("number").last()
        if version is None:
            return Response({"pages": 0, "results": [], "next": None})
        found = list(version.pages.filter(number__gte=first).order_by("number")[: PAGES_AT_ONCE + 1])
        shown, rest = found[:PAGES_AT_ONCE], found[PAGES_AT_ONCE:]
        results = PageSerializer(shown, many=True, context={"is_paged": version.is_paged}).data
        return Response(
            {"pages": version.pages_total, "results": results, "next": rest[0].number if rest else None}
        )


def _number(given: str) -> int:
    if not (given.isascii() and given.isdigit() and 0 < len(given) < 10):
        raise InvalidInput(field="from", reason=_("This must be a whole number above 0."))
    return int(given)
