"""Erase a person, or finish an erasure that failed."""

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.erasure import Receipt, erase
from accounts.models import User
from llmsite.core.errors import SiteError, describe


class Command(BaseCommand):
    help = "Erase a user and everything that names them; the ledger and the audit log keep a pseudonym."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--yes", action="store_true", help="do not ask")
        parser.add_argument("--json", action="store_true", help="print the receipt as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["username"]).first()
        if user is None:
            raise CommandError(f"There is no user named {options['username']}.")
        if not options["yes"]:
            _ask(user)
        try:
            receipt = erase(user, actor=None)
        except SiteError as error:
            raise CommandError(describe(error).message) from None
        self.stdout.write(_as_json(receipt) if options["json"] else _as_text(receipt))


def _ask(user: User) -> None:
    if not sys.stdin.isatty():
        raise CommandError("Nobody is here to be asked; --yes erases without asking.")
    if input(f"Erase {user.username} for good? Type the username again: ") != user.username:
        raise CommandError("Nothing was erased.")


def _as_json(receipt: Receipt) -> str:
    return json.dumps({"pseudonym": str(receipt.pseudonym), "counts": receipt.counts})


def _as_text(receipt: Receipt) -> str:
    removed = ", ".join(
        f"{count} {name.replace('_', ' ')}" for name, count in receipt.counts.items() if count
    )
    return f"Erased: {removed}. The ledger and the audit log know {receipt.pseudonym}."
