"""Give a user roles, and take the others."""

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import Group
from django.core.management.base import BaseCommand, CommandError

from accounts.audit import acting
from accounts.models import User
from accounts.roles import ROLES, set_roles


class Command(BaseCommand):
    help = "Give a user exactly the roles that are named; groups that are no role stay as they are."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username")
        parser.add_argument("roles", nargs="+", choices=ROLES, metavar="role", help=", ".join(ROLES))

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["username"]).first()
        if user is None:
            raise CommandError(f"There is no user named {options['username']}.")
        try:
            with acting(None):
                set_roles(user, options["roles"])
        except Group.DoesNotExist:
            raise CommandError("A role is missing; manage.py migrate makes it.") from None
        self.stdout.write(f"{user.username}: {', '.join(sorted(set(options['roles'])))}")
