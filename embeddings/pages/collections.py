"""Collections: making, changing and deleting them by plain forms."""

from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from accounts.authentication import user_of
from embeddings.deletion import delete_collection
from embeddings.models import access_collection
from embeddings.pages.documents import address_of, documents_page
from embeddings.pages.forms import CollectionForm


@require_POST
@login_required
def add(request: HttpRequest) -> HttpResponse:
    form = CollectionForm(request.POST, user=user_of(request))
    collection = form.save()
    if collection is None:
        return documents_page(request, new_form=form, status=400)
    return redirect(address_of(collection))


@require_POST
@login_required
def change(request: HttpRequest, pk: UUID) -> HttpResponse:
    user = user_of(request)
    collection = access_collection(user, pk, to_change=True)
    form = CollectionForm(request.POST, user=user, collection=collection)
    if form.save() is None:
        return documents_page(request, access_collection(user, pk), change_form=form, status=400)
    messages.success(request, _("The collection is saved."))
    return redirect(address_of(collection))


@require_POST
@login_required
def delete(request: HttpRequest, pk: UUID) -> HttpResponse:
    user = user_of(request)
    collection = access_collection(user, pk, to_change=True)
    delete_collection(collection, actor=user)
    messages.success(request, _("The collection “%(name)s” is deleted.") % {"name": collection.name})
    return redirect("documents")
