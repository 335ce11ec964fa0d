"""Texts a second of the encoder, through the model process's door and bare.

Run: python -m bench.embed [--texts 256] [--repeat 3]. Bare is sentence-transformers with the same weights,
number type and threads, in batches of 32 of like length. Texts are paragraphs of Python's documentation.
"""

import argparse
import asyncio
import os
import statistics
import time
from typing import Any

from bench._library import paragraphs
from llmsite.core.devices import wait_asleep


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--repeat", type=int, default=3, help="how often each figure is measured (median)")
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "llmsite.settings")
    os.environ.setdefault("SECRET_KEY", "bench-" + "0123456789abcdefghijklmnopqrstuvwxyz")
    os.environ.setdefault("LOG_LEVEL", "warning")
    # As serve_model has it beside an engine with threads of its own.
    wait_asleep(os.environ)
    import django

    django.setup()
    print(f"load before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores", flush=True)
    every = paragraphs()
    texts = [every[at * len(every) // options.texts] for at in range(options.texts)]
    for name, value in rates(texts, options.repeat):
        print(f"{name:<44} {value}", flush=True)


def rates(texts: list[str], repeat: int) -> list[tuple[str, str]]:
    """The two take turns, so that what else runs on the machine meets both."""
    from django.conf import settings

    from embeddings.at_hand import served
    from embeddings.client import embed
    from embeddings.embedder import Embedder
    from embeddings.encoder import load_encoder

    encoder = load_encoder(settings.EMBEDDING_MODEL, device=settings.DEVICE)
    model: Any = encoder._model
    through, bare = [], []
    with served(Embedder(encoder.name, lambda: encoder)) as url:
        settings.MODEL_URL = url
        for turn in range(repeat + 1):
            began = time.perf_counter()
            asyncio.run(embed(texts))
            middle = time.perf_counter()
            model.encode(texts, batch_size=32, show_progress_bar=False)
            if turn:  # The first round warms both up.
                through.append(len(texts) / (middle - began))
                bare.append(len(texts) / (time.perf_counter() - middle))
    site, library = statistics.median(through), statistics.median(bare)
    return [
        (f"site, over HTTP, {encoder.dtype}", f"{site:.0f} texts/s"),
        (f"bare sentence-transformers, {encoder.dtype}", f"{library:.0f} texts/s"),
        ("share", f"{site / library:.2f}"),
    ]


if __name__ == "__main__":
    main()
