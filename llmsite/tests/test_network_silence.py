"""Nothing calls home: a whole web process at work reaches for this machine only."""

import json

import pytest
from asgiref.sync import sync_to_async

from conftest import bearer
from inference.tests.doors import joined
from inference.tests.test_faults import call, read_events
from llmsite.testing.site import Site

pytestmark = pytest.mark.django_db(transaction=True)

# Python imports this by its name at every start, before any line of ours.
WATCHER = """
import json, os, sys

def watch(event, args):
    if event == "socket.connect":
        place = args[1]
    elif event == "socket.getaddrinfo":
        place = args[0]
    else:
        return
    with open(os.environ["REACHED"], "a") as file:
        file.write(json.dumps([event, str(place)]) + chr(10))

sys.addaudithook(watch)
"""


async def test_a_web_process_reaches_for_this_machine_only(alice, models, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(WATCHER)
    reached = tmp_path / "reached"
    reached.touch()
    headers = await sync_to_async(bearer)(alice)

    with Site(PYTHONPATH=str(tmp_path), REACHED=str(reached)) as site:
        ask = {"prompt": "Who is there?", "model": "echo"}
        events = await sync_to_async(lambda: read_events(call(site, headers, "/api/predict/stream", ask)))()
        await sync_to_async(lambda: call(site, headers, "/login/").read())()
    assert joined(events) == "Who is there?"

    places = {tuple(json.loads(line)) for line in reached.read_text().splitlines()}
    foreign = {
        (event, place)
        for event, place in places
        if "127.0.0.1" not in place and "sock" not in place and place not in ("localhost", "None", "::1")
    }
    assert not foreign
