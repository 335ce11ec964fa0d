"""How well the site knows whether documents answer a question."""

import json
from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path
from typing import Any

from asgiref.sync import async_to_sync
from django.core.management.base import BaseCommand, CommandError

from embeddings import client
from embeddings.at_hand import model_process
from embeddings.errors import EncoderError
from embeddings.evaluation import WrongLine, read_passages, read_questions
from embeddings.management.commands.evaluate_retrieval import encode
from inference.grounding.evaluation import Case, cases, groups_of, judge, judge_anew
from llmsite.core.errors import SiteError, describe


class Command(BaseCommand):
    help = (
        "Measure the confidence that answers from documents have, and fit its numbers anew. Each question is "
        "asked of passages that answer it, and of passages of other articles. Files are as for "
        'evaluate_retrieval; passages may name their "article". Give several of each for several languages.'
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--passages", required=True, type=Path, nargs="+", metavar="FILE")
        parser.add_argument("--questions", required=True, type=Path, nargs="+", metavar="FILE")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        if len(options["passages"]) != len(options["questions"]):
            raise CommandError("Give as many files of questions as of passages, in the same order.")
        pairs = list(zip(options["passages"], options["questions"], strict=True))
        try:
            with model_process():
                found = _evaluate(pairs)
        except (OSError, UnicodeDecodeError, ValueError, LookupError, WrongLine, EncoderError) as error:
            raise CommandError(str(error)) from error
        except SiteError as error:
            raise CommandError(describe(error).message) from error
        self.stdout.write(json.dumps(found) if options["json"] else _as_text(found))


def _evaluate(pairs: list[tuple[Path, Path]]) -> dict[str, Any]:
    embedder = async_to_sync(client.embed)(["."]).model
    by_file = {
        str(passages): cases(
            read_passages(passages),
            read_questions(questions),
            groups_of(passages),
            encode,
            embedder=embedder,
        )
        for passages, questions in pairs
    }
    every = [case for found in by_file.values() for case in found]
    return {
        "embedder": embedder,
        "cases": len(every),
        "by_file": {name: judge(found, embedder=embedder) for name, found in by_file.items()},
        "all": judge(every, embedder=embedder),
        "fitted_anew": _fitted(every, by_words_alone=False),
        "fitted_anew_by_words_alone": _fitted(every, by_words_alone=True),
    }


def _fitted(every: list[Case], *, by_words_alone: bool) -> dict[str, Any]:
    fit, measured = judge_anew(every, by_words_alone=by_words_alone)
    return {"numbers": asdict(fit), "on_other_articles": measured}


def _as_text(found: dict[str, Any]) -> str:
    lines = [f"{found['cases']} questions, half of them without an answer there, {found['embedder']}"]
    rows = {**found["by_file"], "all": found["all"]}
    for name in ("fitted_anew", "fitted_anew_by_words_alone"):
        numbers = (f"{key} {value:.2f}" for key, value in found[name]["numbers"].items())
        head = f"{name.replace('_', ' ')}, on other articles: {', '.join(numbers)}"
        rows[head] = found[name]["on_other_articles"]
    for name, measures in rows.items():
        lines.append(f"  {name}")
        lines += [f"    {measure.replace('_', ' '):<34} {value:.3f}" for measure, value in measures.items()]
    return "\n".join(lines)
