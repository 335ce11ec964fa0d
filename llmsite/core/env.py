"""Reads settings from the environment, and refuses nonsense in one clear line.

Every value is declared where it is read, so `declared` is the whole list of settings: a test
holds docs/settings.md against it. A value may also come from a file named by `NAME_FILE`
(a mounted secret). Values of the process win over those of the `.env` file.
"""

import ipaddress
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

from llmsite.core.destinations import PORTS, plain_url
from llmsite.core.rates import Rate

T = TypeVar("T")

SECRET_KEY_BYTES = 32
HOW_TO_MAKE_ONE = 'python -c "import secrets; print(secrets.token_urlsafe(48))"'


@dataclass(frozen=True, slots=True)
class Declared:
    """One setting as docs/settings.md has to show it."""

    name: str
    default: Any
    form: str
    example: str


class Environment:
    """The readers of `llmsite/settings.py`, one per form of value."""

    def __init__(self, env_file: Path | None) -> None:
        self._env = environ.FileAwareEnv()
        self.declared: dict[str, Declared] = {}
        if env_file is not None and env_file.is_file():
            self._env.read_env(env_file)

    def read(self, name: str, default: T, *, form: str, example: str, parse: Callable[[str], T]) -> T:
        """The value of `name`, or `default` where it is unset or empty."""
        self.declared[name] = Declared(name, default, form, example)
        raw = self._env.str(name, default="").strip()
        if not raw:
            return default
        try:
            return parse(raw)
        except (ValueError, TypeError) as error:
            raise ImproperlyConfigured(f"{name} must be {form}, for example {name}={example}") from error

    def text(self, name: str, default: str = "", *, form: str = "text", example: str) -> str:
        return self.read(name, default, form=form, example=example, parse=str)

    def flag(self, name: str, default: bool) -> bool:
        return self.read(name, default, form="true or false", example="true", parse=_parse_flag)

    def whole(self, name: str, default: int, *, least: int = 0, most: int | None = None) -> int:
        form = f"a whole number from {least} " + ("up" if most is None else f"to {most}")
        return self.read(
            name, default, form=form, example=str(default), parse=lambda raw: _between(int(raw), least, most)
        )

    def seconds(self, name: str, default: float) -> float:
        form = "a number of seconds above 0"
        return self.read(
            name, default, form=form, example=str(default), parse=lambda raw: _above_zero(float(raw))
        )

    def fraction(self, name: str, default: float) -> float:
        form = "a number from 0 to 1"
        return self.read(
            name, default, form=form, example=str(default), parse=lambda raw: _from_0_to_1(float(raw))
        )

    def rate(self, name: str, default: str) -> Rate:
        form = "a number per s, m, h or d"
        return self.read(name, Rate.parse(default), form=form, example=default, parse=Rate.parse)

    def currency(self, name: str, default: str) -> str:
        form = "the three letters of a currency"
        return self.read(name, default, form=form, example="EUR", parse=_parse_currency)

    def one_of(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        form = f"one of {', '.join(choices)}"
        return self.read(
            name, default, form=form, example=choices[-1], parse=lambda raw: _choose(raw, choices)
        )

    def items(self, name: str, default: list[str], *, example: str) -> list[str]:
        return self.read(
            name, default, form="a list separated by commas", example=example, parse=_parse_items
        )

    def networks(self, name: str, default: list[str], *, example: str) -> list[str]:
        form = "a list of addresses or networks separated by commas"
        return self.read(name, default, form=form, example=example, parse=_parse_networks)

    def path(self, name: str, default: Path) -> Path:
        return self.read(
            name, default, form="a folder", example="/srv/llmsite", parse=lambda raw: Path(raw).expanduser()
        )

    def url(
        self, name: str, default: str = "", *, example: str, schemes: tuple[str, ...] = ("http", "https")
    ) -> str:
        form = f"an address that starts with {' or '.join(f'{scheme}://' for scheme in schemes)}"
        return self.read(
            name, default, form=form, example=example, parse=lambda raw: _parse_url(raw, schemes)
        )

    def origins(self, name: str, default: list[str], *, example: str) -> list[str]:
        form = "a list of origins (scheme://host[:port], and no *) separated by commas"
        return self.read(name, default, form=form, example=example, parse=_parse_origins)

    def base_urls(self, name: str, default: list[str], *, example: str) -> list[str]:
        form = "a list of http:// and https:// addresses separated by commas"
        return self.read(name, default, form=form, example=example, parse=_parse_base_urls)

    def database(self, name: str, default: str) -> dict[str, Any]:
        """A Django database from a URL, for example `postgres://user:password@host:5432/name`."""
        example = "postgres://llmsite:password@localhost:5432/llmsite"
        url = self.read(name, default, form="a database URL", example=example, parse=_parse_database_url)
        return dict(environ.Env.db_url_config(url))

    def email(self, name: str, default: str) -> dict[str, Any]:
        """How mail is sent, as Django's EMAIL_… settings, from a URL such as `smtp+tls://user:password@host:587`."""
        form = "a mail URL (smtp://, smtp+tls://, smtp+ssl://, filemail:// or consolemail://)"
        example = "smtp+tls://llmsite:password@mail.example.org:587"
        url = self.read(name, default, form=form, example=example, parse=_parse_email_url)
        return dict(environ.Env.email_url_config(url))

    def secret_key(self, name: str, *, example_file: Path) -> str:
        """The signing secret. Missing, short, or copied from an example: the site does not start."""
        self.declared[name] = Declared(name, None, "at least 32 random bytes", "")
        value = self._env.str(name, default="")
        if not value:
            raise ImproperlyConfigured(f"{name} is not set. Make one: {HOW_TO_MAKE_ONE}")
        if len(value.encode()) < SECRET_KEY_BYTES:
            raise ImproperlyConfigured(
                f"{name} is shorter than {SECRET_KEY_BYTES} bytes. Make one: {HOW_TO_MAKE_ONE}"
            )
        if len(set(value)) < 8 or value.startswith("django-insecure-") or _stands_in(value, example_file):
            raise ImproperlyConfigured(f"{name} is an example, not a secret. Make one: {HOW_TO_MAKE_ONE}")
        return value


def _parse_flag(raw: str) -> bool:
    values = {
        "true": True,
        "1": True,
        "yes": True,
        "on": True,
        "false": False,
        "0": False,
        "no": False,
        "off": False,
    }
    if raw.lower() not in values:
        raise ValueError(raw)
    return values[raw.lower()]


def _between(number: int, least: int, most: int | None) -> int:
    if number < least or (most is not None and number > most):
        raise ValueError(number)
    return number


def _above_zero(number: float) -> float:
    if not 0 < number < float("inf"):
        raise ValueError(number)
    return number


def _from_0_to_1(number: float) -> float:
    if not 0 <= number <= 1:
        raise ValueError(number)
    return number


def _choose(raw: str, choices: tuple[str, ...]) -> str:
    if raw.lower() not in choices:
        raise ValueError(raw)
    return raw.lower()


def _parse_currency(raw: str) -> str:
    if not (len(raw) == 3 and raw.isascii() and raw.isalpha()):
        raise ValueError(raw)
    return raw.upper()


def _parse_items(raw: str) -> list[str]:
    return [item.strip() for item in raw.split(",") if item.strip()]


def _parse_networks(raw: str) -> list[str]:
    """As uvicorn takes them: it would silently trust nobody for a network with bits of a host, 10.0.0.1/8."""
    return [str(ipaddress.ip_network(item, strict=False)) for item in _parse_items(raw)]


def _parse_url(raw: str, schemes: tuple[str, ...]) -> str:
    parts = urlsplit(raw)
    if parts.scheme not in schemes or not (parts.hostname or parts.path) or parts.port == 0:
        raise ValueError(raw)
    return raw.rstrip("/")


def _parse_origins(raw: str) -> list[str]:
    return [_parse_origin(item) for item in _parse_items(raw)]


def _parse_origin(raw: str) -> str:
    """As browsers send it: in small letters, and without the port that the scheme has anyway."""
    parts = urlsplit(raw)
    origin = f"{parts.scheme}://{parts.netloc}".lower()
    is_plain = parts.scheme in PORTS and parts.hostname and "*" not in raw and "@" not in raw
    if not is_plain or raw.lower() not in (origin, f"{origin}/"):
        raise ValueError(raw)
    return origin.removesuffix(f":{PORTS[parts.scheme]}")


def _parse_base_urls(raw: str) -> list[str]:
    return [plain_url(item) for item in _parse_items(raw)]


def _parse_database_url(raw: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It warns of an unknown engine; our own line says more.
        engine = environ.Env.db_url_config(raw).get("ENGINE", "")
    if engine not in ("django.db.backends.sqlite3", "django.db.backends.postgresql"):
        raise ValueError(raw)
    return raw


def _parse_email_url(raw: str) -> str:
    parts = urlsplit(raw)
    needs_host = parts.scheme.startswith("smtp")
    if (
        parts.scheme not in environ.Env.EMAIL_SCHEMES
        or (needs_host and not parts.hostname)
        or parts.port == 0
    ):
        raise ValueError(raw)
    return raw


def _stands_in(value: str, example_file: Path) -> bool:
    return example_file.is_file() and value in example_file.read_text(encoding="utf-8")
