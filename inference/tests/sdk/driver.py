"""A program that calls a site with a vendor's SDK, whichever version it finds, and tells what it saw.

It reads one order as a line of JSON, and answers with one. It runs in a process of its own, because one
process holds one version of an SDK, and knows nothing of the site.
"""

import importlib
import json
import sys
from typing import Any

CLIENTS = {"openai": "OpenAI", "anthropic": "Anthropic"}


def main() -> None:
    for line in sys.stdin:
        sys.stdout.write(json.dumps(call(json.loads(line))) + "\n")
        sys.stdout.flush()


def call(order: dict[str, Any]) -> dict[str, Any]:
    """Make one call: `sdk`, `options` of its client, `method`, `arguments`, and `how` to read the answer."""
    sdk = importlib.import_module(order["sdk"])
    seen: dict[str, Any] = {"version": sdk.__version__, "items": [], "error": None, "attempts": 0}
    headers: list[dict[str, str]] = []

    def count(request: Any) -> None:
        seen["attempts"] += 1

    def keep(response: Any) -> None:
        headers.append(dict(response.headers))

    http_client = sdk.DefaultHttpxClient(event_hooks={"request": [count], "response": [keep]})
    with getattr(sdk, CLIENTS[order["sdk"]])(**order["options"], http_client=http_client) as client:
        method = client
        for part in order["method"].split("."):
            method = getattr(method, part)
        try:
            READERS[order["how"]](method, order["arguments"], seen)
        except sdk.APIError as error:
            seen["error"] = describe(error)
        except Exception as error:
            seen["error"] = {"class": type(error).__name__, "message": str(error)}
    seen["headers"] = headers[-1] if headers else {}
    return seen


def read_whole(method: Any, arguments: dict[str, Any], seen: dict[str, Any]) -> None:
    answer = method(**arguments)
    seen["request_id"] = getattr(answer, "_request_id", None)
    seen["result"] = plain(answer)


def read_stream(method: Any, arguments: dict[str, Any], seen: dict[str, Any]) -> None:
    for item in method(**arguments, stream=True):
        seen["items"].append(plain(item))


def read_message(method: Any, arguments: dict[str, Any], seen: dict[str, Any]) -> None:
    with method(**arguments) as stream:
        seen["result"] = plain(stream.get_final_message())


READERS = {"whole": read_whole, "stream": read_stream, "message": read_message}


def plain(answer: Any) -> Any:
    return answer.model_dump(mode="json", exclude_unset=True)


def describe(error: Any) -> dict[str, Any]:
    names = ("message", "code", "type", "param", "body", "status_code", "request_id")
    return {"class": type(error).__name__, **{name: getattr(error, name, None) for name in names}}


if __name__ == "__main__":
    main()
