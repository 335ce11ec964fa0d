"""`manage.py serve_model`: the process that runs the local model."""

import json
import os
import signal
import socket
import sys
import threading
import time
import urllib.request
from typing import Any
from urllib.parse import urlsplit

import structlog
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connection

from embeddings.weights import is_on_this_machine
from inference.models import ChatModelConfig
from llmsite.core.devices import wait_asleep

log = structlog.get_logger("llmsite.serve_model")

GRACE_SECONDS = 20
"""How long answers that are under way may go on after the process was asked to stop."""
LOOK_AGAIN_SECONDS = 5.0
UNKNOWN_CONTEXT = 8192


class Command(BaseCommand):
    help = "Serve the local model over an OpenAI-compatible HTTP interface at MODEL_URL (loopback)."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            if settings.LOCAL_BASE_URL:
                self._stand_by()
            else:
                self._serve()
        except KeyboardInterrupt:
            sys.exit(0)

    def _stand_by(self) -> None:
        """Another server has the models: list the first of them, and serve only embeddings here."""
        self.stderr.write(f"LOCAL_BASE_URL is set: {settings.LOCAL_BASE_URL} serves the local models.")
        close_the_hub(settings.EMBEDDING_MODEL)
        threading.Thread(
            target=register_when_it_answers, args=(settings.LOCAL_BASE_URL,), daemon=True
        ).start()
        with bound_socket(settings.MODEL_URL) as listener:
            run(None, listener)

    def _serve(self) -> None:
        path = settings.LOCAL_MODEL_PATH
        close_the_hub(path, settings.EMBEDDING_MODEL)
        from inference.engine.load import load
        from inference.engine.runner import EngineError

        with bound_socket(settings.MODEL_URL) as listener:
            try:
                model = load(
                    path=path,
                    device=settings.DEVICE,
                    models_root=settings.MODELS_ROOT,
                    context=settings.LOCAL_CONTEXT,
                    progress=sys.stderr.isatty(),
                )
            except EngineError as error:
                raise CommandError(str(error)) from error
            self.stderr.write(
                f"{model.name} is ready at {settings.MODEL_URL} ({model.engine}, {model.device})"
            )
            register(model.name, model.context)
            run(model, listener)


def close_the_hub(*models: str) -> None:
    """The hub is asked only for an id of the user's, never for what is on this machine."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    if all(not model or is_on_this_machine(model) for model in models):
        os.environ["HF_HUB_OFFLINE"] = "1"


def register_when_it_answers(base_url: str) -> None:
    while (served := served_elsewhere(base_url)) is None:
        time.sleep(LOOK_AGAIN_SECONDS)
    register(*served)
    connection.close()


def register(name: str, context_window: int) -> None:
    """Let the site's rows of models say what is served here."""
    try:
        ChatModelConfig.objects.all().served_locally(name, context_window=context_window)
    except DatabaseError as error:
        # The engine works without the site's database; only its models are then not listed anew.
        log.warning("model_not_registered", model=name, error=str(error))


def served_elsewhere(base_url: str) -> tuple[str, int] | None:
    """Name and context window of the first model of another server; None while it does not answer."""
    address = f"{base_url.removesuffix('/v1')}/v1/models"
    try:
        with urllib.request.urlopen(address, timeout=LOOK_AGAIN_SECONDS) as answer:  # noqa: S310
            card = json.load(answer)["data"][0]
        # vLLM says how long its model's context is; others keep it to themselves.
        return str(card["id"]), int(card.get("max_model_len") or UNKNOWN_CONTEXT)
    except (OSError, ValueError, LookupError) as error:
        log.info("server_not_ready", address=address, error=repr(error))
        return None


def bound_socket(url: str) -> socket.socket:
    """The address of `url`, taken before the model is loaded: a taken port is told at once.

    It does not listen yet, so nobody can connect before the model answers.
    """
    place = urlsplit(url)
    host, port = place.hostname or "127.0.0.1", place.port or 8001
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise CommandError(
            f"Cannot listen on {host}:{port} (MODEL_URL): {error.strerror or error}."
        ) from error
    return listener


def run(model: Any, listener: socket.socket) -> None:
    """Serve until the process is asked to stop."""
    import uvicorn

    from embeddings.embedder import Embedder
    from embeddings.encoder import load_encoder
    from embeddings.indexes.server import IndexService
    from inference.adapter_service import AdapterService
    from inference.engine.server import make_app

    if model is None or model.engine != "torch":
        # Beside an engine that has threads of its own on these cores.
        wait_asleep(os.environ)
    name = settings.EMBEDDING_MODEL
    embedder = Embedder(name, lambda: load_encoder(name, device=settings.DEVICE))
    adapters = model and AdapterService(
        model, path=settings.LOCAL_MODEL_PATH, models_root=settings.MODELS_ROOT
    )
    config = uvicorn.Config(
        make_app(model, embedder, IndexService(embedder, settings.INDEX_ROOT), adapters),
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except (SystemExit, KeyboardInterrupt):
        if not embedder.is_loading:
            raise
        # Its thread is in the middle of an import, which cannot be interrupted and would keep Python from
        # ending for seconds. Everything else has ended.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
