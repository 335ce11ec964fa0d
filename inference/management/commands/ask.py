"""Ask a model from the command line, through the same pipeline as every other door."""

import asyncio
import json
import os
import signal
import sys
import threading
from argparse import ArgumentParser
from contextlib import aclosing
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import close_old_connections
from rest_framework.exceptions import ValidationError

from accounts.models import User
from inference.admission import Turn, admit
from inference.ask import Ask
from inference.events import Delta, Failed, Finished
from inference.live import live_answers
from inference.pipeline import answer, find_answer
from inference.serializers import read_ask
from llmsite.core.errors import SiteError, describe
from llmsite.core.rest import as_site_error

INTERRUPTED = 130
"""What a shell reports of a program that Ctrl-C ended."""
COMMAND_USER = "command line"
"""With a space, which nobody can register with."""


class Command(BaseCommand):
    help = "Ask a model and print its answer as it comes. Ctrl-C stops the model, too."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("prompt")
        parser.add_argument("--model", help="the alias of a model; without, the site's default")
        parser.add_argument("--user", default=COMMAND_USER, help="in whose name (default: %(default)s)")
        parser.add_argument("--max-tokens", type=int)
        parser.add_argument("--temperature", type=float)
        parser.add_argument("--seed", type=int)
        parser.add_argument("--json", action="store_true", help="print one JSON object at the end")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            ask = _read_ask(options)
            asyncio.run(self._answer(ask, as_json=options["json"]))
        except (SiteError, ValidationError) as error:
            raise CommandError(_explain(error)) from error
        except BrokenPipeError:
            # Whoever read our output has gone; Python must not try to write the rest at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        finally:
            close_old_connections()

    async def _answer(self, ask: Ask, *, as_json: bool) -> None:
        question, hit = await find_answer(ask)
        turn = await admit(question, hit=hit)
        _stop_on_interrupt(turn)
        pieces: list[str] = []
        async with aclosing(answer(turn)) as events:
            async for event in events:
                if isinstance(event, Delta):
                    pieces.append(event.text)
                    if not as_json:
                        self.stdout.write(event.text, ending="")
                        self.stdout.flush()
                elif isinstance(event, Failed):
                    raise CommandError(event.message)
                elif isinstance(event, Finished):
                    self.stdout.write(_as_json("".join(pieces), event) if as_json else "")
                    if event.finish_reason == "cancelled":
                        sys.exit(INTERRUPTED)


def _read_ask(options: dict[str, Any]) -> Ask:
    names = ("prompt", "model", "max_tokens", "temperature", "seed")
    data = {name: options[name] for name in names if options[name] is not None}
    return read_ask(data, _user(options["user"]), door="command", listed=False)


def _explain(error: Exception) -> str:
    public = describe(as_site_error(error))
    return f"{public.field}: {public.message}" if public.field else public.message


def _stop_on_interrupt(turn: Turn) -> None:
    # Elsewhere than in the main thread, Python takes no signal.
    if threading.current_thread() is threading.main_thread():
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, live_answers.stop, turn.generation.pk)


def _as_json(text: str, end: Finished) -> str:
    data = {
        "text": text,
        "finish_reason": end.finish_reason,
        "usage": end.usage,
        "latency_ms": end.latency_ms,
    }
    return json.dumps(data, ensure_ascii=False)


def _user(name: str) -> User:
    """The user who asks. The one of the command line cannot sign in, and is made when first needed."""
    if name == COMMAND_USER:
        user, created = User.objects.get_or_create(username=name)
        if created:
            user.set_unusable_password()
            user.save(update_fields=["password"])
        return user
    found = User.objects.filter(username=name).first()
    if found is None:
        raise CommandError(f"There is no user named {name}.")
    return found
