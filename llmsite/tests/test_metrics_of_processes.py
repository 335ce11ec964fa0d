"""Numbers of several processes: one sum, whoever is asked, and nothing of it is lost with a process."""

import json
import os
import subprocess
import sys
import threading
import urllib.request
from contextlib import ExitStack

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from prometheus_client import Counter, Gauge, values

from conftest import bearer
from inference.tests.test_faults import call
from inference.tests.waiting import until
from llmsite.core import shared_values
from llmsite.core.shared_values import GatheredValue, all_values, own_name, share
from llmsite.supervisor import METRICS_FOLDER, shared_metrics
from llmsite.testing.site import Site
from llmsite.tests.test_metrics import values_in

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("models")]

FINISHED = ("llmsite_generation_requests_total", "scripted", "finished", "scripted")
OPEN = ("llmsite_streams_open", "sse")
QUESTION = {"prompt": "What is a fox?", "model": "scripted", "use_cache": False}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "metrics"


@pytest.fixture
def two(folder):
    with ExitStack() as stack:
        given = {"PROMETHEUS_MULTIPROC_DIR": str(folder), "MODEL_URL": "http://127.0.0.1:9"}
        yield [stack.enter_context(Site(**given)) for _ in range(2)]


def scraped(site):
    with urllib.request.urlopen(f"{site.url}/metrics", timeout=10) as answer:
        return values_in(answer.read().decode())


async def test_either_process_tells_what_both_have_counted(two, alice):
    headers = await sync_to_async(bearer)(alice)
    for site, times in zip(two, (2, 1), strict=True):
        for _ in range(times):
            await sync_to_async(call)(site, headers, "/api/predict", QUESTION)

    for site in two:
        await until(lambda site=site: scraped(site).get(FINISHED) == 3)


async def test_a_killed_process_takes_its_streams_with_it_and_not_its_counts(two, alice):
    one, other = two
    headers = await sync_to_async(bearer)(alice)
    await sync_to_async(call)(one, headers, "/api/predict", QUESTION)
    stream = await sync_to_async(call)(
        one, headers, "/api/predict/stream", {"prompt": "Go on", "model": "endless"}
    )
    assert stream.status == 200
    await until(lambda: scraped(other).get(OPEN) == 1 and scraped(other).get(FINISHED) == 1)

    one.kill()

    told = scraped(other)
    assert told.get(OPEN, 0) == 0
    assert told[FINISHED] == 1


async def test_a_process_that_stops_sums_up_in_the_log(folder, alice, tmp_path):
    headers = await sync_to_async(bearer)(alice)
    log = tmp_path / "log"
    with (
        log.open("w") as output,
        Site(LOG_LEVEL="info", PROMETHEUS_MULTIPROC_DIR=str(folder), log=output) as site,
    ):
        await sync_to_async(call)(site, headers, "/api/predict", QUESTION)
        site.terminate()
        assert await sync_to_async(site.wait)(30) == 0

    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    [summary] = [line for line in lines if line["event"] == "metrics_summary"]
    assert summary["total_requests"] == 1
    assert summary["outcomes"] == {"finished": 1}
    assert summary["tokens"]["output"] > 0


def test_a_folder_that_cannot_be_written_stops_the_start_in_one_line(tmp_path):
    file = tmp_path / "file"
    file.touch()
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(file / "folder")}
    command = [sys.executable, "manage.py", "check"]
    ended = subprocess.run(
        command, cwd=settings.BASE_DIR, env=environment, capture_output=True, text=True, timeout=60
    )

    assert ended.returncode == 1
    [line] = ended.stderr.strip().splitlines()
    assert line.startswith("llmsite: PROMETHEUS_MULTIPROC_DIR")


def test_an_empty_setting_is_none(tmp_path):
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": "", "PYTHONPATH": str(settings.BASE_DIR)}
    command = [sys.executable, settings.BASE_DIR / "manage.py", "shell", "-v", "0", "-c", COUNTED]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)

    assert (ended.returncode, ended.stdout) == (0, "1.0\n"), ended.stderr
    assert not list(tmp_path.glob("*.db"))


COUNTED = """
from prometheus_client import Gauge
from llmsite.core.metrics import *
from llmsite.core.shared_values import all_values
Gauge("test_empty", "", multiprocess_mode="livesum").inc()
[found] = [metric for metric in all_values() if metric.name == "test_empty"]
print(found.samples[0].value)
"""


class TestOneProcess:
    @pytest.fixture
    def shared(self, folder, monkeypatch):
        """As in a process that was started with the folder."""
        monkeypatch.setenv(shared_values.SETTING, str(folder))
        monkeypatch.setattr(values, "ValueClass", values.ValueClass)
        share()
        yield folder
        GatheredValue.write()
        values.close_all_multiprocess_files()

    @pytest.fixture
    def restless(self):
        """Threads take turns all the time."""
        usual = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        yield
        sys.setswitchinterval(usual)

    def test_no_count_of_any_thread_is_lost(self, shared, restless):
        counter = Counter("test_threads", "", registry=None)
        threads = [threading.Thread(target=lambda: [counter.inc() for _ in range(2000)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            all_values()
        for thread in threads:
            thread.join()

        [metric] = [metric for metric in all_values() if metric.name == "test_threads"]
        assert [sample.value for sample in metric.samples] == [8000]

    def test_what_a_killed_predecessor_of_its_name_held_open_is_closed(self, shared):
        gauge = Gauge("test_open", "", registry=None, multiprocess_mode="livesum")
        gauge.inc()
        GatheredValue.write()
        [left] = shared.glob("gauge_live*.db")
        assert own_name() in left.name

        share()

        assert not left.exists()

    def test_counting_writes_nothing(self, shared, monkeypatch):
        """A request counts several times, and a write takes longer than all of them."""
        monkeypatch.setattr(shared_values, "WRITE_SECONDS", 1000)
        counter, written = Counter("test_writes", "", registry=None), []
        write = shared_values._Written.inc
        monkeypatch.setattr(shared_values._Written, "inc", lambda *a: (written.append(a), write(*a)))
        for _ in range(100):
            counter.inc()
        before = len(written)
        GatheredValue.write()

        assert (before, len(written)) == (0, 1)


class TestTheSupervisorsFolder:
    def test_it_is_new_and_goes_with_the_end(self, monkeypatch):
        monkeypatch.delenv(METRICS_FOLDER, raising=False)
        with shared_metrics():
            folder = os.environ[METRICS_FOLDER]
            assert os.listdir(folder) == []
            assert os.stat(folder).st_mode & 0o777 == 0o700
        assert not os.path.exists(folder)
        assert METRICS_FOLDER not in os.environ

    def test_one_that_was_named_stays(self, monkeypatch, tmp_path):
        monkeypatch.setenv(METRICS_FOLDER, str(tmp_path))
        with shared_metrics():
            assert os.environ[METRICS_FOLDER] == str(tmp_path)
        assert tmp_path.exists()

    def test_those_of_killed_supervisors_go(self, monkeypatch, tmp_path):
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        monkeypatch.setattr("llmsite.supervisor.MEMORY", tmp_path)
        monkeypatch.delenv(METRICS_FOLDER, raising=False)
        left, others = (
            tmp_path / f"llmsite-metrics-{gone.pid}-x",
            tmp_path / f"llmsite-metrics-{os.getpid()}-y",
        )
        left.mkdir()
        others.mkdir()

        with shared_metrics():
            assert not left.exists()
            assert others.exists()
