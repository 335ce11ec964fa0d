"""A served encoder for the tests: the model process's real application on a real port."""

import contextlib
import socket
import threading
import time

import uvicorn

from embeddings.embedder import Embedder
from embeddings.indexes.server import IndexService
from inference.engine.server import make_app
from inference.tests.engine.serving import Served
from llmsite.testing.http import PromptServer


@contextlib.contextmanager
def serving(load, *, model=None, ready=True, index_root=None):
    """Serve what `load` returns, once it is loaded unless `ready` is false; indexes are kept in memory."""
    embedder = Embedder("wanted", load)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            make_app(model, embedder, IndexService(embedder, index_root)),
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=5,
        )
        server = PromptServer(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_until(lambda: server.started and not (ready and embedder.is_loading))
            served = Served(listener.getsockname()[1])
            served.embedder = embedder
            yield served
        finally:
            server.should_exit = True
            thread.join()


def wait_until(is_so):
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)
