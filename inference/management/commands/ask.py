"""Ask a model from the command line, through the same pipeline as every other door."""

import asyncio
import json
import os
import signal
import sys
import threading
from argparse import ArgumentParser
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from django.db import close_old_connections
from rest_framework.exceptions import ValidationError

from accounts.models import User
from embeddings.models import Collection
from inference.admission import Turn, admit
from inference.ask import Ask
from inference.events import Delta, Event, Failed, Finished, Sources
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
        parser.add_argument("--collection", help="answer from its documents; a name or an id")
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
        sources: list[dict[str, Any]] = []
        async with aclosing(_events(turn)) as events:
            async for event in events:
                if isinstance(event, Delta):
                    pieces.append(event.text)
                    if not as_json:
                        self.stdout.write(event.text, ending="")
                        self.stdout.flush()
                elif isinstance(event, Sources):
                    sources = event.sources
                elif isinstance(event, Failed):
                    raise CommandError(event.message)
                elif isinstance(event, Finished):
                    end = _as_json("".join(pieces), sources, event) if as_json else _as_lines(sources)
                    self.stdout.write(end)
                    if event.finish_reason == "cancelled":
                        sys.exit(INTERRUPTED)


async def _events(turn: Turn) -> AsyncGenerator[Event, None]:
    """The events of the answer as they come; closing it stops the answer."""
    told: asyncio.Queue[Event | None] = asyncio.Queue()
    work = asyncio.create_task(answer(turn, told.put_nowait))
    work.add_done_callback(lambda _: told.put_nowait(None))
    try:
        while (event := await told.get()) is not None:
            yield event
        await work
    finally:
        work.cancel()
        await asyncio.wait([work])


def _read_ask(options: dict[str, Any]) -> Ask:
    names = ("prompt", "model", "max_tokens", "temperature", "seed")
    data = {name: options[name] for name in names if options[name] is not None}
    user = _user(options["user"])
    if options["collection"]:
        data["collection"] = str(_collection(user, options["collection"]).pk)
    return read_ask(data, user, door="command", listed=False)


def _collection(user: User, name: str) -> Collection:
    """The one that `user` may read by this name, their own before others', or by this id."""
    visible = Collection.objects.visible_to(user)
    named = sorted(visible.filter(name=name), key=lambda found: found.owner_id != user.pk)
    if not named and (pk := _uuid(name)):
        named = list(visible.filter(pk=pk))
    if not named:
        raise CommandError(
            f"{user} may read no collection named {name}. --user says in whose name the question is asked."
        )
    return named[0]


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _explain(error: Exception) -> str:
    public = describe(as_site_error(error))
    return f"{public.field}: {public.message}" if public.field else public.message


def _stop_on_interrupt(turn: Turn) -> None:
    # Elsewhere than in the main thread, Python takes no signal.
    if threading.current_thread() is threading.main_thread():
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, live_answers.stop, turn.generation.pk)


def _as_lines(sources: list[dict[str, Any]]) -> str:
    """The end of the answer's line, and below it what it stands on."""
    lines = (f"[{source['n']}] {_place(source)}" for source in sources)
    return "\n".join(("", *lines))


def _place(source: dict[str, Any]) -> str:
    page = f", page {source['page']}" if source["page"] is not None else ""
    return f"{source['title']}{page}"


def _as_json(text: str, sources: list[dict[str, Any]], end: Finished) -> str:
    data = {
        "text": text,
        "sources": sources,
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
