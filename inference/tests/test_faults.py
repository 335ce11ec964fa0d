"""Faults of a whole process: killed in the middle of an answer, and asked to stop while many run."""

import asyncio
import json
import urllib.error
import urllib.request
from contextlib import suppress
from http.client import HTTPException

import pytest
from asgiref.sync import sync_to_async

from conftest import bearer
from inference.models import Generation, Status
from inference.tests.waiting import until
from llmsite.testing.site import Site

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.flows]

STREAMS = 50


def call(site, headers, path, body=None):
    """POST `body`, or GET; the open response."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"{site.url}{path}", data=data, headers={**headers, "Content-Type": "application/json"}
    )
    return urllib.request.urlopen(request, timeout=60)


def read_events(response):
    """The events of a stream up to its end, or to where the connection broke."""
    events = []
    with suppress(OSError, HTTPException):
        events.extend(json.loads(line[6:]) for line in response if line.startswith(b"data: "))
    return events


@pytest.mark.slow
async def test_a_killed_process_leaves_no_answer_running_and_loses_no_text(alice, models):
    headers = await sync_to_async(bearer)(alice)
    with Site() as first:
        stream = await asyncio.to_thread(
            call, first, headers, "/api/predict/stream", {"prompt": "Go on", "model": "slow"}
        )
        reading = asyncio.ensure_future(asyncio.to_thread(read_events, stream))
        await until(lambda: Generation.objects.exclude(delta_lengths=[]).exists())
        first.kill()
        seen = await reading
    generation = seen[0]["id"]
    assert seen[-1]["type"] == "delta"

    with Site() as second:
        # The sweep takes an answer for dead when its process has been silent for a while.
        row = await until(
            lambda: Generation.objects.select_related("message").filter(status=Status.INTERRUPTED).first(),
            seconds=60,
        )
        path = f"/api/generations/{generation}/events"
        rest = await asyncio.to_thread(
            lambda: read_events(call(second, {**headers, "Last-Event-ID": "1"}, path))
        )

    assert row.message.content
    assert [event["seq"] for event in rest] == list(range(2, len(rest) + 2))
    assert rest[-1]["type"] == "error"
    assert rest[-1]["code"] == "interrupted"
    texts = [event["text"] for event in (*seen[:2], *rest) if event["type"] == "delta"]
    assert "".join(texts) == row.message.content


async def test_sigterm_ends_fifty_streams_in_order(alice, models):
    headers = await sync_to_async(bearer)(alice)
    with Site("--drain-seconds=3") as site:
        streams = await asyncio.gather(
            *(
                asyncio.to_thread(
                    call,
                    site,
                    headers,
                    "/api/predict/stream",
                    {"prompt": f"Go on {n}", "model": "endless" if n % 2 else "slow"},
                )
                for n in range(STREAMS)
            )
        )
        readings = [asyncio.ensure_future(asyncio.to_thread(read_events, stream)) for stream in streams]
        site.terminate()
        refusal = await asyncio.to_thread(refused, site, headers)
        ends = [(await reading)[-1] for reading in readings]
        status = await asyncio.to_thread(site.wait, 10)

    assert status == 0
    assert refusal == "server_restarting"
    kinds = {(end["type"], end.get("code")) for end in ends}
    assert kinds == {("finished", None), ("error", "server_restarting")}
    states = [row async for row in Generation.objects.values_list("status", flat=True)]
    assert sorted(states) == ["finished"] * (STREAMS // 2) + ["interrupted"] * (STREAMS // 2)


def refused(site, headers):
    """How a process that is about to stop answers a new question."""
    while True:
        try:
            call(site, headers, "/api/predict/stream", {"prompt": "One more?", "model": "echo"}).close()
        except urllib.error.HTTPError as error:
            return json.load(error)["error"]["code"]
