"""The encoder of a model process: loaded beside the chat engine, and asked by many at once."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from embeddings.batches import Batches
from embeddings.encoder import Encoder, Vectors
from embeddings.errors import EmbedderClosed, EncoderError, QueueFull
from embeddings.texts import Kind
from llmsite.core.model_process import RequestError

log = structlog.get_logger(__name__)

MOST_TOKENS = {"cpu": 1024}
MOST_TOKENS_ELSEWHERE = 16_384
"""Tokens of one batch: on two cores 1,024 are read in .15 s, the longest that a question waits."""
SHORT_TEXT = 4_000
"""Characters that are tokenized in a few milliseconds, which is less than a thread is worth."""
RETRY_AFTER = 2


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vectors of some texts, (texts, dimensions), each of length one."""

    vectors: Vectors
    input_tokens: int
    """What the model has read, its own marks included."""
    truncated: int
    """How many texts were longer than the model's window, so that their ends are not in the vectors."""


class Embedder:
    """`load` runs in a thread, which then computes all batches; whatever fails there, all else goes on."""

    def __init__(self, name: str, load: Callable[[], Encoder]) -> None:
        self.name = name
        self._load = load
        self._encoder: Encoder | None = None
        self._batches: Batches | None = None
        self._failure: str | None = None
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="embedder", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """End the thread, unless it is still loading: an import cannot be interrupted."""
        self._is_closed = True
        if self._batches:
            self._batches.close()
            self._thread.join()

    @property
    def is_loading(self) -> bool:
        return self._thread.is_alive() and self._batches is None

    @property
    def encoder(self) -> Encoder:
        """The loaded model. Raises RequestError while there is none."""
        if self._failure:
            raise RequestError(
                "The embedding model could not be loaded; the log of the model process says why.",
                status=503,
                code="embedder_failed",
            )
        if self._encoder is None:
            raise _busy("The embedding model is loading.", "embedder_loading")
        return self._encoder

    async def embed(self, texts: Sequence[str], kind: Kind) -> Embedded:
        """The vectors of `texts`. Raises RequestError where they cannot be had, now or at all."""
        encoder = self.encoder
        is_short = sum(map(len, texts)) < SHORT_TEXT
        lengths = (
            encoder.lengths(texts, kind)
            if is_short
            else await asyncio.to_thread(encoder.lengths, texts, kind)
        )
        read = [min(length, encoder.window) for length in lengths]
        vectors = await self._compute(texts, read, kind)
        return Embedded(vectors, sum(read), sum(length > encoder.window for length in lengths))

    def health(self) -> dict[str, Any]:
        """What `/health` tells."""
        if self._failure:
            return {"status": "failed", "model": self.name, "dimensions": None, "reason": self._failure}
        if self._encoder is None or self._batches is None:
            return {"status": "loading", "model": self.name, "dimensions": None}
        return {
            "status": "ready",
            "model": self._encoder.name,
            "dimensions": self._encoder.dimensions,
            "device": self._encoder.device,
            "dtype": self._encoder.dtype,
            "waiting": self._batches.waiting,
        }

    async def _compute(self, texts: Sequence[str], lengths: Sequence[int], kind: Kind) -> Vectors:
        assert self._batches
        try:
            return await asyncio.wrap_future(self._batches.submit(texts, lengths, kind))
        except QueueFull as error:
            raise _busy("Too many texts wait already. Try again in a moment.", "queue_full") from error
        except EmbedderClosed as error:
            raise _busy("The model's process is stopping.", "server_stopping") from error
        except Exception as error:
            log.exception("embedding_failed", texts=len(texts))
            raise RequestError(
                "The embedding model failed; the log of the model process says why.",
                status=500,
                code="embedder_error",
            ) from error

    def _work(self) -> None:
        try:
            encoder = self._load()
        except EncoderError as error:
            self._failure = str(error)
            log.warning("embedder_not_loaded", reason=self._failure)
            return
        except Exception as error:  # The chat engine beside it goes on, whatever it is.
            self._failure = f"It cannot be loaded ({type(error).__name__})."
            log.exception("embedder_not_loaded")
            return
        batches = Batches(most_tokens=MOST_TOKENS.get(encoder.device, MOST_TOKENS_ELSEWHERE))
        self._batches, self._encoder = batches, encoder
        log.info("embedder_ready", model=encoder.name, device=encoder.device, dtype=encoder.dtype)
        if not self._is_closed:
            batches.run(encoder.encode)


def _busy(message: str, code: str) -> RequestError:
    return RequestError(message, status=503, code=code, retry_after=RETRY_AFTER)
