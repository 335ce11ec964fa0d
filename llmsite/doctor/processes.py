"""What runs: the web process as its visitors reach it, the process `model`, and who works on what waits."""

import asyncio
import time
from collections.abc import Callable, Iterator

from asgiref.sync import async_to_sync
from django.conf import settings

from llmsite.core import http
from llmsite.core.worker import standstill
from llmsite.doctor.findings import Finding, Look, failed, ok
from llmsite.health import TICK_SECONDS, TICKS
from llmsite.metrics.gauges import model_health
from training.models.runs import no_trainer

SECONDS = 10.0
"""How long the site's address has for the whole slow stream."""
SAME_PORT = "Where it runs already, give doctor the same PORT as `make serve`"


def public_url() -> str:
    """Where visitors find the site, as far as the settings say it."""
    if settings.CSRF_TRUSTED_ORIGINS:
        return str(settings.CSRF_TRUSTED_ORIGINS[0])
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.HOST, settings.HOST)  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.PORT}"


def look_at_model_process() -> Iterator[Finding]:
    told = async_to_sync(model_health)()
    if told is None:
        todo = (
            "Start it (make serve, or python manage.py serve_model); its log says why it ends. "
            f"{SAME_PORT} (or MODEL_URL)."
        )
        yield failed("model process", f"Nothing answers at {settings.MODEL_URL}.", todo)
        return
    if told.get("model"):
        yield ok("model process", f"{told['model']} answers, on {told.get('device')}.")
    encoder = told.get("embedder") or {}
    if encoder.get("status") == "ready":
        yield ok("model process", f"The encoder {encoder['model']} answers.")
    else:
        text = f"The encoder is not ready ({encoder.get('status')}): documents cannot be searched."
        yield failed("model process", text, "Wait a moment; if it lasts, the log of the process says why.")


def look_at_work(part: str, why: Callable[[], str | None]) -> Look:
    def look() -> Iterator[Finding]:
        if (reason := why()) is None:
            yield ok(part, "Nothing waits in vain.")
        else:
            yield failed(part, reason, f"Start the process {part} (make serve starts all of them).")

    return look


look_at_worker = look_at_work("worker", standstill)
look_at_trainer = look_at_work("trainer", no_trainer)


def look_at_proxy(url: str) -> Look:
    """Ask for a slow stream through `url`, and see whether its events come one by one."""

    def look() -> Iterator[Finding]:
        try:
            response, moments = async_to_sync(_listen)(f"{url}/health/stream")
        except (OSError, http.BadResponse) as error:
            text = f"The site does not answer at {url} ({type(error).__name__})."
            todo = f"Start it, or name its public address: doctor --url https://llm.example.org. {SAME_PORT}."
            yield failed("proxy", text, todo)
            return
        yield judge(url, response.status, response.headers, moments)

    return look


def judge(url: str, status: int, headers: dict[str, str], moments: list[float]) -> Finding:
    """What the moments say at which the pieces of the stream came."""
    if status == 400:
        todo = "Add the host of this address to ALLOWED_HOSTS."
        return failed("proxy", f"The site does not know itself as {url}.", todo)
    if status != 200:
        return failed("proxy", f"{url} answers with status {status}.", "Lead its proxy to the web process.")
    if "content-encoding" in headers:
        todo = "Turn compression off for text/event-stream."
        return failed("proxy", f"The proxy at {url} compresses streams.", todo)
    whole = (TICKS - 1) * TICK_SECONDS
    spread = moments[-1] - moments[0] if moments else 0.0
    if spread < whole / 2:
        return failed(
            "proxy",
            f"The proxy at {url} gathers streams: {whole:g} s of events came within {spread:.2f} s.",
            "Turn its buffering off (nginx: proxy_buffering off; Caddy: flush_interval -1).",
        )
    return ok("proxy", f"Streams pass {url} as they are written ({spread:.2f} of {whole:g} s).")


async def _listen(url: str) -> tuple[http.Response, list[float]]:
    """The head of the answer, and when each piece of its body came."""
    moments = []
    async with (
        asyncio.timeout(SECONDS),
        http.send("GET", url, connect_timeout=settings.CONNECT_TIMEOUT) as response,
    ):
        while await response.read():
            moments.append(time.monotonic())
    return response, moments
