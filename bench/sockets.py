"""What 10,000 idle WebSockets cost one web process, and what remains of them; and readers that never read.

Run: python -m bench.sockets [--count 10000] [--seconds 5] [--deaf 50] [--only llmsite]. Each person holds ten
sockets, the most there may be, with a key. All of them vanish at once by a reset. Beside it a bare ASGI
application on uvicorn, which asks nobody for a key. Client and server each need as many open files as there
are sockets; where the machine allows fewer, this says so. LiteLLM has no WebSocket of this kind.
"""

import argparse
import base64
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench._processes import Process, allow_files, end_on_sigterm, free_port, running
from bench._site import MODEL, site
from bench._wire import get

TARGET_KIB, TARGET_P95_RATIO, TARGET_GONE, TARGET_BUFFERED = 40, 2, 90, 1 << 20
SOCKETS_EACH = 10
AT_ONCE = 64
DEAF_SECONDS = 75.0
ROW = "{:<24} {:>9} {:>13} {:>12} {:>12} {:>12} {:>13} {:>12}  {}"


@dataclass
class Server:
    """A server whose sockets are counted."""

    name: str
    port: int
    path: str
    keys: list[str]
    process: Process
    pages: tuple[str, ...]
    """What is asked for meanwhile, for its p95."""
    figures: dict[str, Any] = field(default_factory=dict)


def main() -> int:
    """1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="how many sockets")
    parser.add_argument("--seconds", type=float, default=5, help="how long a p95 is measured")
    parser.add_argument("--deaf", type=int, default=50, help="how many readers never read; 0 leaves them out")
    parser.add_argument("--only", default="", help="only the servers whose name contains this")
    options = parser.parse_args()
    end_on_sigterm()
    allow_files(options.count + 1000)
    print(f"load before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores", flush=True)
    missed = False
    print(
        ROW.format(
            "",
            "sockets",
            "handshakes/s",
            "KiB each",
            "p95 before",
            "with them",
            "gone after s",
            "MB left",
            "",
        )
    )
    for start in (raw_server, site_server):
        with start(options.count) as server:
            if options.only in server.name:
                missed |= idle(server, options.count, options.seconds)
    if options.deaf:
        missed |= deaf(options.deaf)
    print(
        f"\np95: of {' and '.join(PAGES)} (raw: of its one answer), ms, one client."
        " MB left: memory after they are gone, above that before they came."
    )
    return int(missed)


PAGES = ("/health/live", "/api/models")


@contextmanager
def raw_server(count: int) -> Iterator[Server]:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "bench._raw:app", "--port", str(port), "--log-level", "error"]
    command += ["--loop", "uvloop", "--ws", "websockets-sansio", "--ws-per-message-deflate", "false"]
    with running([*command, "--backlog", "4096"], port=port, files=count + 1000) as process:
        yield Server("raw ASGI", port, "/", ["none"], process, ("/",))


@contextmanager
def site_server(count: int) -> Iterator[Server]:
    people = -(-count // SOCKETS_EACH)
    with site(upstream=free_port(), people=people, files=count + 1000) as served:
        yield Server("llmsite", served.port, "/ws/chat/", served.keys, served.process, PAGES)


def idle(server: Server, count: int, seconds: float) -> bool:
    """Open them, look, and let them vanish; prints a row and what is missed."""
    p95(server, 1)  # What the first requests bring into memory is not the sockets'.
    hold(server, SOCKETS_EACH)
    before, memory, files = p95(server, seconds), server.process.rss(), open_files(server)
    with running([sys.executable, "-m", "bench._sockets"], files=count + 1000) as client:
        opened = tell(client, options_of(server, count))
        time.sleep(1)
        each = (server.process.rss() - memory) / 1024 / count
        after = p95(server, seconds)
        alive = tell(client, "vanish")["alive"]
        gone = seconds_until(lambda: open_files(server) <= files + 2, TARGET_GONE)
    time.sleep(1)
    left = (server.process.rss() - memory) / 1e6
    again = hold(server, SOCKETS_EACH)
    remarks = list(complaints(server, count, opened, alive, again, each, gone, before, after))
    rate = opened["opened"] / opened["seconds"]
    figures = [f"{rate:,.0f}", f"{each:.1f}", in_ms(before), in_ms(after)]
    figures += [f"{gone:.1f}" if gone is not None else "never", f"{left:.0f}"]
    print(ROW.format(server.name, f"{alive:,}", *figures, "; ".join(remarks)), flush=True)
    return bool(remarks)


def complaints(
    server: Server,
    count: int,
    opened: Any,
    alive: int,
    again: int,
    each: float,
    gone: float | None,
    before: list[float],
    after: list[float],
) -> Iterator[str]:
    if opened["refused"] or alive < count:
        yield f"only {alive:,} stayed open {opened['refused']}"
    if gone is None:
        yield f"MISSED: connections are left after {TARGET_GONE} s"
    if again < SOCKETS_EACH:
        yield f"MISSED: only {again} of {SOCKETS_EACH} sockets open again for the first person"
    if server.name == "raw ASGI":
        return
    if each > TARGET_KIB:
        yield f"MISSED: more than {TARGET_KIB} KiB each"
    if any(late > TARGET_P95_RATIO * early for early, late in zip(before, after, strict=True)):
        yield f"MISSED: p95 more than {TARGET_P95_RATIO} times as long"


def hold(server: Server, count: int) -> int:
    """Open `count` sockets of the first person for a moment; how many opened."""
    with running([sys.executable, "-m", "bench._sockets"]) as client:
        opened = tell(client, {**options_of(server, count), "keys": server.keys[:1]})
        tell(client, "vanish")
    return int(opened["opened"])


def options_of(server: Server, count: int) -> dict[str, Any]:
    return {"port": server.port, "path": server.path, "keys": server.keys, "count": count, "at_once": AT_ONCE}


def tell(client: Process, message: Any) -> dict[str, Any]:
    """Write one line to a client process, and read its answer."""
    assert client.popen.stdin
    assert client.popen.stdout
    client.popen.stdin.write(json.dumps(message) + "\n")
    client.popen.stdin.flush()
    return dict(json.loads(client.popen.stdout.readline()))


def p95(server: Server, seconds: float) -> list[float]:
    """Milliseconds of each of its pages, asked by one client."""
    return [p95_of(server, page, seconds) for page in server.pages]


def p95_of(server: Server, page: str, seconds: float) -> float:
    request = base64.b64encode(get(server.port, page, server.keys[0])).decode()
    options = {"port": server.port, "request": request, "clients": 1, "seconds": seconds, "marker": ""}
    with running([sys.executable, "-m", "bench._load"]) as generator:
        output, _ = generator.popen.communicate(json.dumps(options), timeout=seconds + 60)
    result = json.loads(output)
    if result["wrong"]:
        sys.exit(f"{server.name} {page}: {result['first_wrong'][:300]}")
    return float(result["p95"])


def in_ms(values: list[float]) -> str:
    return " ".join(f"{value:.2f}" for value in values)


def open_files(server: Server) -> int:
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def seconds_until(condition: Any, limit: float) -> float | None:
    began = time.monotonic()
    while time.monotonic() - began < limit:
        if condition():
            return time.monotonic() - began
        time.sleep(0.05)
    return None


# --- Readers that never read ------------------------------------------------------------------------


def deaf(count: int) -> bool:
    """Clients that ask for a megabyte and read nothing; prints a row for each door."""
    row = "{:<24} {:>9} {:>9} {:>15} {:>23} {:>17}  {}"
    print(
        "\n"
        + row.format(
            "never reads", "readers", "dropped", "after s", "KiB of kernel buffer", "RSS MB, peak", ""
        )
    )
    missed = False
    for kind in ("sse", "websocket"):
        with ExitStack() as stack:
            upstream = free_port()
            command = [sys.executable, "-m", "bench._upstream", str(upstream)]
            stack.enter_context(running(command, port=upstream))
            served = stack.enter_context(site(upstream=upstream, people=-(-count // SOCKETS_EACH)))
            question = {
                "count": count,
                "kind": kind,
                "keys": served.keys,
                "model": MODEL,
                "seconds": DEAF_SECONDS,
            }
            before = served.process.rss() / 1e6
            client = stack.enter_context(running([sys.executable, "-m", "bench._deaf"]))
            with watched(served.process, served.port) as most:
                output, _ = client.popen.communicate(
                    json.dumps({"port": served.port, **question}), timeout=DEAF_SECONDS + 60
                )
        result = json.loads(output.splitlines()[-1])
        remarks = []
        if result["dropped"] < count:
            remarks.append(f"MISSED: {count - result['dropped']} are still there after {DEAF_SECONDS:.0f} s")
        if most["queued"] > TARGET_BUFFERED:
            remarks.append("MISSED: more than 1 MiB is kept for one of them")
        figures = [f"{result['seconds']:.1f}", f"{most['queued'] / 1024:,.0f}"]
        memory = f"{before:.0f} → {most['rss'] / 1e6:.0f}"
        print(row.format(kind, count, result["dropped"], *figures, memory, "; ".join(remarks)), flush=True)
        missed |= bool(remarks)
    return missed


@contextmanager
def watched(process: Process, port: int) -> Iterator[dict[str, int]]:
    """The server's most memory, and the most that the kernel kept for one of its connections, in bytes."""
    most, over = {"queued": 0, "rss": 0}, threading.Event()

    def look() -> None:
        while not over.wait(0.2):
            most["queued"] = max([most["queued"], *send_queues(port)])
            most["rss"] = max(most["rss"], process.rss())

    watching = threading.Thread(target=look)
    watching.start()
    try:
        yield most
    finally:
        over.set()
        watching.join()


def send_queues(port: int) -> list[int]:
    """What the kernel has not yet delivered of each connection of the server's port (Linux)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [
        int(row[4].split(":")[0], 16) for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "01"
    ]


if __name__ == "__main__":
    sys.exit(main())
