"""Requests as bytes."""

import json
from typing import Any


def get(port: int, path: str, key: str) -> bytes:
    return _head("GET", port, path, key).encode() + b"\r\n"


def post(port: int, path: str, key: str, body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    sized = f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    return (_head("POST", port, path, key) + sized).encode() + data


def handshake(port: int, path: str, key: str) -> bytes:
    """The request that opens a WebSocket."""
    asked = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    nonce = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    return f"{_head('GET', port, path, key)}{asked}{nonce}\r\n".encode()


def text_frame(data: bytes) -> bytes:
    """A client's frame of fewer than 126 bytes; its mask of zeros leaves them as they are."""
    return bytes([0x81, 0x80 | len(data)]) + b"\0\0\0\0" + data


def _head(method: str, port: int, path: str, key: str) -> str:
    return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {key}\r\n"
