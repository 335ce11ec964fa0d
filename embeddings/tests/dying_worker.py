"""A worker that kills itself at one point of ingestion: `python -m embeddings.tests.dying_worker POINT`.

POINT is a step, which has just been committed, or `embedding`, in the middle of it.
"""

import os
import signal
import sys

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "llmsite.settings"
django.setup()

from django.core.management import call_command  # noqa: E402

from embeddings import ingestion  # noqa: E402
from embeddings.models import Step  # noqa: E402


def die(*_anything):
    os.kill(os.getpid(), signal.SIGKILL)


def after(do):
    def step(work):
        do(work)
        die()

    return step


def main(point):
    steps = ingestion._STEPS
    if point == Step.STORED:
        steps[Step.PARSED] = die
    elif point == "embedding":
        ingestion.CHUNKS_AT_ONCE = 1
        encode, calls = ingestion._encode, []

        def encode_once(texts):
            # The first call asks for the encoder's name.
            calls.append(texts)
            return encode(texts) if len(calls) < 3 else die()

        ingestion._encode = encode_once
    else:
        steps[Step(point)] = after(steps[Step(point)])
    call_command("worker")


if __name__ == "__main__":
    main(sys.argv[1])
