"""How well this site's search finds passages that are known to answer questions."""

import json
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asgiref.sync import async_to_sync
from django.core.management.base import BaseCommand, CommandError

from embeddings import client
from embeddings.at_hand import model_process
from embeddings.errors import EncoderError
from embeddings.evaluation import WrongLine, build, evaluate, read_passages, read_questions
from embeddings.texts import Kind
from llmsite.core.errors import SiteError, describe

AT_ONCE = 64


class Command(BaseCommand):
    help = (
        "Measure how often the right passage is found, with the site's chunker, encoder and indexes, and no "
        'row of its database. Passages are JSON lines {"id", "text"}, questions {"question", '
        '"gold_passage_ids"}. '
        "The encoder is that of the process `model` where it runs, else it is loaded here."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--passages", required=True, metavar="FILE")
        parser.add_argument("--questions", required=True, metavar="FILE")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            passages = read_passages(Path(options["passages"]))
            asked = read_questions(Path(options["questions"]))
        except (OSError, UnicodeDecodeError, WrongLine) as error:
            raise CommandError(str(error)) from error
        if not passages or not asked:
            raise CommandError("There is nothing to measure: a file is empty.")
        try:
            with model_process():
                name = async_to_sync(client.embed)(["."]).model
                found = evaluate(build(passages, encode, embedder=name), asked, encode)
        except EncoderError as error:
            raise CommandError(str(error)) from error
        except SiteError as error:
            raise CommandError(describe(error).message) from error
        self.stdout.write(json.dumps(found) if options["json"] else as_text(found))


def encode(texts: Sequence[str], kind: Kind) -> list[Any]:
    from tqdm import tqdm

    ask = async_to_sync(client.embed)
    starts = tqdm(range(0, len(texts), AT_ONCE), disable=not sys.stderr.isatty(), unit="batch", leave=False)
    return [vector for at in starts for vector in ask(texts[at : at + AT_ONCE], kind=kind).vectors]


def as_text(found: dict[str, Any]) -> str:
    head = (
        f"{found['questions']} questions, {found['passages']} passages in {found['chunks']} chunks, "
        f"{found['embedder']}"
    )
    rows = [
        f"  {mode:<8} {'   '.join(f'{value:.3f}' for value in measures.values())}"
        for mode, measures in found["modes"].items()
    ]
    return "\n".join([head, "           R@1     R@5     MRR@10", *rows])
