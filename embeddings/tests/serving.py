"""A served encoder for the tests: the model process's real application on a real port."""

import contextlib
import socket
import threading
import time

import uvicorn

from embeddings.embedder import Embedder
from inference.engine.server import make_app
from inference.tests.engine.serving import Served


@contextlib.contextmanager
def serving(load, *, model=None, ready=True):
    """Serve what `load` returns, once it is loaded unless `ready` is false."""
    embedder = Embedder("wanted", load)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            make_app(model, embedder), log_config=None, access_log=False, timeout_graceful_shutdown=5
        )
        server = uvicorn.Server(config)
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
