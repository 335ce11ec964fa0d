"""Cuts and embeds documents anew, after another encoder or a newer version of the site came."""

import sys
from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from embeddings.at_hand import model_process
from embeddings.errors import EncoderError
from embeddings.models import Collection
from embeddings.rebuild import rebuild
from llmsite.core.errors import SiteError, describe


class Command(BaseCommand):
    help = (
        "Cut and embed documents anew where another encoder (EMBEDDING_MODEL) or a newer version of this "
        "site came. The search goes on meanwhile; a run that was stopped goes on where it was."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--collection", metavar="ID or NAME", help="only this one (default: all)")

    def handle(self, *args: Any, **options: Any) -> None:
        collections = chosen(options["collection"])
        try:
            with model_process():
                for collection in collections:
                    self._rebuild(collection)
        except EncoderError as error:
            raise CommandError(str(error)) from error
        except SiteError as error:
            raise CommandError(describe(error).message) from error

    def _rebuild(self, collection: Collection) -> None:
        from tqdm import tqdm

        with tqdm(unit="document", desc=collection.name, disable=not sys.stderr.isatty(), leave=False) as bar:

            def progress(done: int, total: int) -> None:
                bar.total, bar.n = total, done
                bar.refresh()

            done = rebuild(collection, progress=progress)
        self.stdout.write(f"{collection.name}: {'rebuilt' if done else 'is up to date'}")


def chosen(wanted: str | None) -> list[Collection]:
    """The collections of this id or name, or all. Raises CommandError where there is none."""
    collections = Collection.objects.filter(deleting_at=None)
    if wanted is None:
        return list(collections)
    try:
        found = list(collections.filter(pk=UUID(wanted)))
    except ValueError:
        found = list(collections.filter(name=wanted))
    if not found:
        raise CommandError(f"There is no collection {wanted}.")
    return found
