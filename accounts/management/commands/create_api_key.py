"""Make an API key for a user and print it once."""

from argparse import ArgumentParser, ArgumentTypeError
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.forms import DecimalField
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from accounts.audit import acting
from accounts.keys import create_key
from accounts.models import Scope, User
from accounts.money import MICRO
from llmsite.core.errors import InvalidInput, describe
from llmsite.core.rates import normal_rate


class Command(BaseCommand):
    help = "Make an API key for a user and print it once; it cannot be shown again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--name", required=True, help="what the key is for")
        parser.add_argument(
            "--scopes",
            nargs="*",
            choices=Scope.values,
            default=[],
            help="limit the key; without: all the owner's rights",
        )
        parser.add_argument(
            "--expires", type=_moment, help="a date (2027-01-31) or a moment (2027-01-31T12:00)"
        )

        parser.add_argument("--models", nargs="*", default=[], help="aliases it may ask; without: all")
        parser.add_argument("--rate-limit", type=_rate, help="a limit of its own, such as 20/m")
        parser.add_argument("--monthly-budget", type=_money, help="the most it may spend in a month")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["username"]).first()
        if user is None:
            raise CommandError(f"There is no user named {options['username']}.")
        if not options["name"].strip():
            raise CommandError("--name says what the key is for; it is empty.")
        if options["expires"] and options["expires"] <= timezone.now():
            raise CommandError("--expires lies in the past.")
        limits = {
            "scopes": options["scopes"],
            "allowed_models": options["models"],
            "expires_at": options["expires"],
            "rate_limit": options["rate_limit"] or "",
            "monthly_budget_micro": options["monthly_budget"],
        }
        try:
            with acting(None):
                _, text = create_key(user, options["name"], **limits)
        except InvalidInput as error:
            raise CommandError(describe(error).message) from error
        self.stdout.write(text)


def _moment(raw: str) -> datetime:
    """Midnight of a date, or a moment; in the site's time zone where none is given."""
    try:
        day = parse_date(raw)
        moment = parse_datetime(raw) if day is None else datetime(day.year, day.month, day.day)
    except ValueError:  # Well-formed, and no day of any month.
        moment = None
    if moment is None:
        raise ArgumentTypeError(f"{raw!r} is no date (2027-01-31) and no moment (2027-01-31T12:00)")
    return moment if timezone.is_aware(moment) else timezone.make_aware(moment)


def _rate(raw: str) -> str:
    try:
        return normal_rate(raw)
    except ValidationError as error:
        raise ArgumentTypeError(error.message) from error


def _money(raw: str) -> int:
    """Millionths of the currency."""
    try:
        return int(DecimalField(max_digits=15, decimal_places=6, min_value=0).clean(raw) * MICRO)
    except ValidationError as error:
        raise ArgumentTypeError(" ".join(error.messages)) from error
