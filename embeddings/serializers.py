"""What programs send and get of collections and documents."""

from typing import Any

from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from embeddings import failures
from embeddings.models import Collection, Document, DocumentVersion, Status, Visibility
from llmsite.core.serializers import StrictSerializer


class NewCollectionSerializer(StrictSerializer):
    name = serializers.CharField(max_length=100)
    visibility = serializers.ChoiceField(Visibility.choices, required=False)
    team = serializers.IntegerField(
        required=False, min_value=1, max_value=2**63 - 1, help_text="A team you are a member of."
    )


class CollectionChangeSerializer(NewCollectionSerializer):
    name = serializers.CharField(max_length=100, required=False)

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        if not values:
            raise serializers.ValidationError(_("Name what is to be changed."))
        return values


class CollectionSerializer(serializers.ModelSerializer[Collection]):
    is_own = serializers.SerializerMethodField(help_text="Whether you may change it.")
    documents = serializers.IntegerField(source="documents_total")

    class Meta:
        model = Collection
        fields = (
            "id",
            "name",
            "visibility",
            "team",
            "is_own",
            "is_default",
            "documents",
            "version",
            "created_at",
        )

    def get_is_own(self, collection: Collection) -> bool:
        return collection.owner_id == self.context["user"].pk


class FailureSerializer(serializers.Serializer[Any]):
    """Why a version failed."""

    code = serializers.CharField()
    message = serializers.CharField()


class VersionSerializer(serializers.ModelSerializer[DocumentVersion]):
    error = serializers.SerializerMethodField()
    pages = serializers.SerializerMethodField(help_text="null where the format has no pages.")
    is_current = serializers.SerializerMethodField(help_text="Whether it is the one that is searched.")

    class Meta:
        model = DocumentVersion
        fields = (
            "id",
            "number",
            "status",
            "progress",
            "error",
            "is_current",
            "size",
            "media_type",
            "sha256",
            "pages",
            "characters",
            "language",
            "created_at",
            "ready_at",
        )

    @extend_schema_field(FailureSerializer(allow_null=True))
    def get_error(self, version: DocumentVersion) -> dict[str, str] | None:
        return failure_of(version)

    def get_pages(self, version: DocumentVersion) -> int | None:
        return version.pages_total if version.is_paged else None

    def get_is_current(self, version: DocumentVersion) -> bool:
        return version.pk == version.document.current_id


class DocumentSerializer(serializers.ModelSerializer[Document]):
    """A document by its newest version, which may not be the one that is searched."""

    status = serializers.SerializerMethodField()
    progress = serializers.SerializerMethodField(help_text="In percent.")
    error = serializers.SerializerMethodField()
    is_searched = serializers.SerializerMethodField(help_text="Whether a version of it is ready.")
    pages = serializers.SerializerMethodField(help_text="null where the format has no pages.")
    language = serializers.SerializerMethodField()
    size = serializers.SerializerMethodField(help_text="Bytes.")

    class Meta:
        model = Document
        fields = (
            "id",
            "collection",
            "name",
            "title",
            "status",
            "progress",
            "error",
            "is_searched",
            "pages",
            "language",
            "size",
            "created_at",
        )

    def get_status(self, document: Document) -> str:
        return newest(document).status

    def get_progress(self, document: Document) -> int:
        return newest(document).progress

    @extend_schema_field(FailureSerializer(allow_null=True))
    def get_error(self, document: Document) -> dict[str, str] | None:
        return failure_of(newest(document))

    def get_is_searched(self, document: Document) -> bool:
        return document.current_id is not None

    def get_pages(self, document: Document) -> int | None:
        version = newest(document)
        return version.pages_total if version.is_paged else None

    def get_language(self, document: Document) -> str:
        return newest(document).language

    def get_size(self, document: Document) -> int:
        return newest(document).size


class DocumentDetailSerializer(DocumentSerializer):
    versions = VersionSerializer(many=True)

    class Meta:
        model = Document
        fields = (*DocumentSerializer.Meta.fields, "versions")


class UploadedSerializer(serializers.Serializer[Any]):
    """What an upload has become; its `name` may be another one, where the content was there already."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    status = serializers.ChoiceField(Status.choices)
    collection = serializers.UUIDField()
    version = serializers.UUIDField()


def newest(document: Document) -> DocumentVersion:
    """Of `versions` as the views prefetch them, by number.

    Of a document that has just been deleted there may be none left: it is told as one that waits.
    """
    versions = list(document.versions.all())
    return versions[-1] if versions else DocumentVersion(size=0)


def failure_of(version: DocumentVersion) -> dict[str, str] | None:
    if not version.error:
        return None
    return {"code": version.error, "message": failures.sentence(version.error)}
