"""Adding and deleting documents by plain forms; the page's script sends files to the API instead."""

from pathlib import Path
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.files.uploadedfile import TemporaryUploadedFile, UploadedFile
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from accounts.authentication import user_of
from accounts.models import User
from embeddings.deletion import delete_document
from embeddings.intake import default_collection, read_again, take_in
from embeddings.models import Collection, access_collection, access_document
from embeddings.pages.documents import address_of
from embeddings.pages.frame import uuid_of
from llmsite.core.errors import NotFound, SiteError, describe


@require_POST
@login_required
def upload(request: HttpRequest) -> HttpResponse:
    """Takes the files of the form, each for itself: one that is refused does not keep out the others."""
    user = user_of(request)
    collection = _collection_of(request, user)
    files = request.FILES.getlist("file")
    if not files:
        messages.error(request, _("Choose a file first."))
        return redirect(address_of(collection))
    collection = collection or default_collection(user)
    for file in files:
        _take(request, user, collection, file)
    return redirect(address_of(collection))


def _collection_of(request: HttpRequest, user: User) -> Collection | None:
    """The one that the form names; None where it names none. Raises NotFound."""
    if not (given := request.POST.get("collection")):
        return None
    if (pk := uuid_of(given)) is None:
        raise NotFound
    return access_collection(user, pk, to_change=True)


def _take(request: HttpRequest, user: User, collection: Collection, file: UploadedFile) -> None:
    assert isinstance(file, TemporaryUploadedFile)
    name = file.name or ""
    try:
        taken = take_in(user, collection.pk, Path(file.temporary_file_path()), name)
    except SiteError as error:
        messages.error(request, f"{name}: {describe(error).message}")
        return
    told = _("%(name)s is uploaded.") if taken.is_new else _("%(name)s is here already.")
    messages.success(request, told % {"name": name})


@require_POST
@login_required
def retry(request: HttpRequest, pk: UUID) -> HttpResponse:
    document = access_document(user_of(request), pk, to_change=True)
    read_again(document)
    messages.success(request, _("%(name)s is read again.") % {"name": document.name})
    return redirect(address_of(document.collection))


@require_POST
@login_required
def delete(request: HttpRequest, pk: UUID) -> HttpResponse:
    user = user_of(request)
    document = access_document(user, pk, to_change=True)
    delete_document(document, actor=user)
    messages.success(request, _("%(name)s is deleted.") % {"name": document.name})
    return redirect(address_of(document.collection))
