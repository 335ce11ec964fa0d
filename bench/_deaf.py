"""Clients that ask for long answers and never read them.

Run: python -m bench._deaf. The standard input has a JSON of port, count, kind ("sse" or "websocket"), keys,
model and seconds; it prints a JSON of dropped (connections that the server ended) and seconds to the last.
"""

import json
import select
import socket
import sys
import time
from typing import Any

from bench._wire import handshake, post, text_frame

_RECEIVE_BUFFER = 4096


def main(options: dict[str, Any]) -> dict[str, Any]:
    clients = [deaf(number, options) for number in range(options["count"])]
    print("asked", flush=True)
    began = time.monotonic()
    # A connection that the server breaks off hangs up; data that could be read is no sign of that.
    poll = select.poll()
    for client in clients:
        poll.register(client, select.POLLERR | select.POLLHUP | select.POLLRDHUP)
    waiting, last = {client.fileno() for client in clients}, 0.0
    while waiting and (left := options["seconds"] - (time.monotonic() - began)) > 0:
        for descriptor, _ in poll.poll(left * 1000):
            poll.unregister(descriptor)
            waiting.discard(descriptor)
            last = time.monotonic() - began
    return {"dropped": len(clients) - len(waiting), "seconds": last}


def deaf(number: int, options: dict[str, Any]) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    client.connect(("127.0.0.1", options["port"]))
    key = options["keys"][number % len(options["keys"])]
    question = {"prompt": f"A flood for {number}", "model": options["model"]}
    if options["kind"] == "sse":
        client.sendall(post(options["port"], "/api/predict/stream", key, question))
    else:
        client.sendall(handshake(options["port"], "/ws/chat/", key))
        while not client.recv(4096).endswith(b"\r\n\r\n"):
            pass
        client.sendall(text_frame(json.dumps({"type": "ask", **question}).encode()))
    return client


if __name__ == "__main__":
    print(json.dumps(main(json.load(sys.stdin))))
