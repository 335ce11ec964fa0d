"""Erase a person, or finish the erasures that failed."""

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.erasure import Receipt, erase, unfinished
from accounts.models import User
from llmsite.core.errors import SiteError, describe


class Command(BaseCommand):
    help = "Erase a user and everything that names them; the ledger and the audit log keep a pseudonym."

    def add_arguments(self, parser: ArgumentParser) -> None:
        whom = parser.add_mutually_exclusive_group(required=True)
        whom.add_argument("username", nargs="?")
        whom.add_argument(
            "--unfinished", action="store_true", help="finish the erasures that failed half-way"
        )
        parser.add_argument("--yes", action="store_true", help="do not ask")
        parser.add_argument("--json", action="store_true", help="print the receipt as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["unfinished"]:
            self._finish(list(unfinished()), **options)
            return
        user = User.objects.filter(username=options["username"]).first()
        if user is None:
            raise CommandError(f"There is no user named {options['username']}.")
        self._erase(user, **options)

    def _finish(self, users: list[User], **options: Any) -> None:
        failed = 0
        for user in users:
            try:
                self._erase(user, **options)
            except CommandError as error:
                self.stderr.write(f"{user.username}: {error}")
                failed += 1
        if failed:
            raise CommandError(f"{failed} of {len(users)} erasures are still unfinished.")
        if not users and not options["json"]:
            self.stdout.write("No erasure is unfinished.")

    def _erase(self, user: User, **options: Any) -> None:
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
