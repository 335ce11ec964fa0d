"""What the semantic cache would do to labelled pairs of questions."""

import asyncio
import json
import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from embeddings.client import embed
from embeddings.errors import EncoderError
from embeddings.texts import MOST_TEXTS
from inference.cache.word_gate import why_different
from llmsite.core.errors import SiteError

AT_ONCE = 64
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts, and whether they ask the same; None where the one who labelled them was in doubt."""

    a: str
    b: str
    same: bool | None


@dataclass(frozen=True, slots=True)
class Judged:
    """A pair with the cosine of its vectors, and why the check of words refuses it, if it does."""

    pair: Pair
    similarity: float
    refused: str | None

    def is_hit(self, threshold: float) -> bool:
        return self.refused is None and self.similarity >= threshold


class Command(BaseCommand):
    help = (
        "Report true and false hits of the semantic cache for pairs of questions. The file has JSON lines, "
        '{"a": text, "b": text, "label": 1 same, 0 not, null in doubt}. The vectors come from the process '
        "`model` where it runs, else the encoder is loaded here."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--pairs", action="append", required=True, help="a file; may be given several times"
        )
        parser.add_argument(
            "--threshold",
            type=float,
            default=settings.SEMANTIC_CACHE_THRESHOLD,
            help="the least cosine of a hit (default: SEMANTIC_CACHE_THRESHOLD, %(default)s)",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        threshold = options["threshold"]
        if not -1 <= threshold <= 1:
            raise CommandError("--threshold must be a number from -1 to 1")
        files = {name: read_pairs(name) for name in options["pairs"]}
        texts = {text for pairs in files.values() for pair in pairs for text in (pair.a, pair.b)}
        # Texts of one length go together: a batch takes as long as its longest.
        vectors = vectors_of(sorted(texts, key=len))
        reports = {name: report(judge(pairs, vectors), threshold) for name, pairs in files.items()}
        if options["json"]:
            self.stdout.write(json.dumps({"threshold": threshold, "files": reports}, ensure_ascii=False))
            return
        for name, found in reports.items():
            self.stdout.write(as_text(name, found, threshold))


def read_pairs(name: str) -> list[Pair]:
    """Raises CommandError for a file that cannot be read or has a wrong line."""
    try:
        lines = Path(name).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{name}: {error}") from error
    pairs = [_pair(line, f"{name}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not pairs:
        raise CommandError(f"{name}: there are no pairs in it")
    return pairs


def _pair(line: str, place: str) -> Pair:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{place}: not valid JSON ({error})") from error
    a, b = (data.get("a"), data.get("b")) if isinstance(data, dict) else (None, None)
    if not (isinstance(a, str) and isinstance(b, str) and a.strip() and b.strip()):
        raise CommandError(f"{place}: must be an object with the texts a and b")
    label = data.get("label")
    if label not in (0, 1, None):
        raise CommandError(f"{place}: label must be 1, 0 or null")
    return Pair(a, b, None if label is None else bool(label))


def judge(pairs: Iterable[Pair], vectors: dict[str, Any]) -> list[Judged]:
    return [
        Judged(pair, float(vectors[pair.a] @ vectors[pair.b]), why_different(pair.a, pair.b))
        for pair in pairs
    ]


def report(judged: Sequence[Judged], threshold: float) -> dict[str, Any]:
    """The counts and rates of one file, and the pairs that come nearest to a mistake."""
    same = [one for one in judged if one.pair.same]
    other = [one for one in judged if one.pair.same is False]
    true, false = ([one for one in group if one.is_hit(threshold)] for group in (same, other))
    by_vectors = [one for one in other if one.similarity >= threshold]
    return {
        "positives": len(same),
        "true_hits": len(true),
        "true_hit_rate": _rate(true, same),
        "negatives": len(other),
        "false_hits": len(false),
        "false_hit_rate": _rate(false, other),
        "false_hits_by_cosine_alone": len(by_vectors),
        "unclear": len(judged) - len(same) - len(other),
        "unclear_hits": sum(one.is_hit(threshold) for one in judged if one.pair.same is None),
        "nearest_negatives": [_shown(one) for one in _nearest(other)],
        "nearest_misses": [_shown(one) for one in _nearest([one for one in same if one not in true])],
    }


def _rate(part: Sequence[Judged], whole: Sequence[Judged]) -> float | None:
    return round(len(part) / len(whole), 4) if whole else None


def _nearest(judged: Sequence[Judged]) -> list[Judged]:
    """False hits first, then by cosine."""
    return sorted(judged, key=lambda one: (one.refused is not None, -one.similarity))[:SHOWN]


def _shown(one: Judged) -> dict[str, Any]:
    return {
        "similarity": round(one.similarity, 4),
        "refused_for": one.refused,
        "a": one.pair.a,
        "b": one.pair.b,
    }


def as_text(name: str, found: dict[str, Any], threshold: float) -> str:
    lines = [
        f"{name} at {threshold}",
        f"  true hits    {found['true_hits']} of {found['positives']}{_percent(found['true_hit_rate'])}",
        f"  false hits   {found['false_hits']} of {found['negatives']}{_percent(found['false_hit_rate'])}"
        f"; by the cosine alone {found['false_hits_by_cosine_alone']}",
    ]
    if found["unclear"]:
        lines.append(f"  in doubt     {found['unclear_hits']} of {found['unclear']} hit")
    for title, key in (("negatives", "nearest_negatives"), ("misses", "nearest_misses")):
        lines.append(f"  nearest {title}:")
        lines += [
            f"    {one['similarity']:.3f} [{one['refused_for'] or 'cosine'}] {one['a']} | {one['b']}"
            for one in found[key]
        ]
    return "\n".join(lines)


def _percent(rate: float | None) -> str:
    return "" if rate is None else f" ({rate:.1%})"


def vectors_of(texts: Sequence[str]) -> dict[str, Any]:
    """Each text's vector: from the process `model`, else from an encoder that is loaded here."""
    import numpy as np

    try:
        encode = _from_process
        encode(texts[:1])
    except SiteError:
        encode = _loaded_here()
    parts = [encode(texts[at : at + AT_ONCE]) for at in _progress(range(0, len(texts), AT_ONCE))]
    return dict(zip(texts, np.concatenate(parts), strict=True))


def _from_process(texts: Sequence[str]) -> Any:
    import numpy as np

    assert len(texts) <= MOST_TEXTS
    return np.array(asyncio.run(embed(texts, kind="query")).vectors, dtype=np.float32)


def _loaded_here() -> Any:
    from embeddings.encoder import load_encoder

    try:
        encoder = load_encoder(settings.EMBEDDING_MODEL, device=settings.DEVICE)
    except EncoderError as error:
        raise CommandError(str(error)) from error
    return lambda texts: encoder.encode(texts, "query")


def _progress(steps: range) -> Iterable[int]:
    from tqdm import tqdm

    return tqdm(steps, disable=not sys.stderr.isatty(), unit="batch", leave=False)
