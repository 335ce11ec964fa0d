"""`manage.py doctor`: what it finds, what it says to do, and how it ends."""

import asyncio
import json
import os
import shutil
import threading
from contextlib import contextmanager
from datetime import timedelta
from io import StringIO
from types import SimpleNamespace

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

from accounts.tests.redis_servers import own_redis
from embeddings.parsing import ParsingFailed, Reason
from embeddings.tests.fakes import ScriptedEncoder
from embeddings.tests.serving import serving
from inference.tests.engine.fakes import ScriptedRunner, saying
from inference.tests.engine.serving import scripted_model
from llmsite.doctor import machine, processes
from llmsite.doctor.findings import examine
from llmsite.health import TICK_SECONDS, TICKS
from llmsite.testing.site import free_port
from llmsite.tests import tasks
from training.tests.making import make_run

pytestmark = pytest.mark.django_db(transaction=True)

HELD = {"network": True, "fork": True}


def ending(ends):
    """A function that ends as `ends` says, one after the other: it raises what is an exception."""

    def call():
        end = next(ends)
        if isinstance(end, Exception):
            raise end
        return end

    return call


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """What children are kept from is tried where they are tested; it takes seconds."""
    monkeypatch.setattr(machine, "limits_in_force", lambda: HELD)
    monkeypatch.setattr(machine.process, "limits_in_force", lambda: HELD)


@pytest.fixture
def model_process(settings):
    with serving(lambda: ScriptedEncoder(), model=scripted_model(ScriptedRunner(saying("Hi.")))) as served:
        settings.MODEL_URL = f"http://127.0.0.1:{served.port}"
        yield served


def findings(*options):
    """All findings as JSON, and the last line where the command fails."""
    out = StringIO()
    try:
        call_command("doctor", "--json", *options, stdout=out)
    except CommandError as error:
        return json.loads(out.getvalue()), str(error)
    return json.loads(out.getvalue()), None


def of(part, found):
    return [one for one in found if one["part"] == part]


def wrong(found):
    return {one["part"] for one in found if one["state"] == "failed"}


class TestAWholeSite:
    def test_all_is_well_and_it_ends_well(self, model_process, site):
        found, error = findings("--url", site.url)

        assert error is None, found
        assert {one["part"] for one in found} == {
            "settings",
            "database",
            "migrations",
            "redis",
            "model files",
            "disk",
            "document limits",
            "training limits",
            "model process",
            "worker",
            "trainer",
            "proxy",
        }
        [proxy] = of("proxy", found)
        assert "Streams pass" in proxy["text"]

    def test_people_read_a_line_for_each_and_what_to_do(self, settings):
        settings.MODEL_URL = "http://127.0.0.1:9"
        out = StringIO()
        with pytest.raises(CommandError, match="findings need work"):
            call_command("doctor", "--url", f"http://127.0.0.1:{free_port()}", stdout=out)

        lines = out.getvalue().splitlines()
        at = next(at for at, line in enumerate(lines) if line.startswith("failed   model process:"))
        assert "Nothing answers at http://127.0.0.1:9" in lines[at]
        assert "→ Start it" in lines[at + 1]
        assert "the same PORT" in lines[at + 1]
        at = next(at for at, line in enumerate(lines) if line.startswith("failed   proxy:"))
        assert "the same PORT" in lines[at + 1]


class TestWhatIsWrong:
    """Each fault is found, in the part where it is, with what to do about it."""

    @pytest.fixture
    def look(self, monkeypatch, settings):
        """The findings of one look, without the others."""
        settings.MODEL_URL = "http://127.0.0.1:9"
        return lambda part, look: [one for one in examine(part, look) if one.state != "ok"]

    def test_a_database_that_is_away(self, look, monkeypatch):
        from django.db import OperationalError

        def away():
            raise OperationalError("password=secret")

        monkeypatch.setattr(connection, "cursor", away)
        [found] = look("database", machine.look_at_database)
        assert found.state == "failed"
        assert "DATABASE_URL" in found.todo
        assert "secret" not in found.text

    def test_missing_migrations_end_the_look_at_what_needs_them(self, monkeypatch, settings):
        settings.MODEL_URL = "http://127.0.0.1:9"
        last = MigrationRecorder.Migration.objects.filter(app="training").latest("name")
        MigrationRecorder(connection).record_unapplied(last.app, last.name)
        try:
            found, error = findings()
        finally:
            MigrationRecorder(connection).record_applied(last.app, last.name)

        assert error
        [one] = of("migrations", found)
        assert (one["state"], one["todo"]) == ("failed", "Run: python manage.py migrate")
        assert not of("worker", found)

    def test_a_redis_that_is_away(self, look, settings):
        settings.REDIS_URL = "redis://:secret@127.0.0.1:9/0"
        [found] = look("redis", machine.look_at_redis)
        assert found.state == "failed"
        assert "secret" not in found.text + found.todo

    def test_a_redis_that_forgets(self, look, settings):
        import redis

        with own_redis() as server:
            settings.REDIS_URL = server.url
            store = redis.Redis.from_url(server.url)
            store.config_set("maxmemory", "10mb")
            store.config_set("maxmemory-policy", "allkeys-lru")
            store.close()
            [found] = look("redis", machine.look_at_redis)
        assert found.state == "warning"
        assert "noeviction" in found.todo

    def test_a_model_that_is_not_there(self, look, settings, tmp_path):
        settings.LOCAL_MODEL_PATH = str(tmp_path / "nothing")
        [found] = look("model files", machine.look_at_model_files)
        assert found.state == "failed"
        assert "LOCAL_MODEL_PATH" in found.todo

    def test_a_packaged_model_that_is_not_ready(self, look, settings, tmp_path):
        settings.MODELS_ROOT = tmp_path
        [found] = look("model files", machine.look_at_model_files)
        assert found.todo == "Run: python manage.py prepare_model"

    def test_an_encoder_that_is_broken(self, look, settings, tmp_path):
        settings.EMBEDDING_MODEL = str(tmp_path)
        settings.LOCAL_BASE_URL = "http://127.0.0.1:9/v1"
        [found] = look("model files", machine.look_at_model_files)
        assert "EMBEDDING_MODEL" in found.todo

    def test_a_disk_with_little_space(self, look, monkeypatch):
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**8))
        found = look("disk", machine.look_at_disk)
        assert {one.state for one in found} == {"warning"}
        assert found[0].text.startswith("100 MB are free for MEDIA_ROOT")

    @pytest.mark.parametrize("free", [0, 10**8 - 1])
    def test_a_disk_that_is_full(self, look, monkeypatch, free):
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
        found = look("disk", machine.look_at_disk)
        assert {one.state for one in found} == {"failed"}
        assert (
            found[0].text
            == f"Only {free // 10**6} MB are free for MEDIA_ROOT: nothing can be relied on to be kept."
        )
        assert "Make room below" in found[0].todo

    def test_a_folder_that_cannot_be_written(self, look, monkeypatch, settings, tmp_path):
        settings.MEDIA_ROOT = tmp_path
        monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)
        [found] = look("disk", machine.look_at_disk)
        assert (found.state, found.text) == ("failed", "MEDIA_ROOT cannot be written.")

    def test_a_folder_that_is_only_read_here(self, look, monkeypatch, settings, tmp_path):
        settings.MEDIA_ROOT = tmp_path
        real = os.statvfs

        def read_only(path):
            told = real(path)
            free = {"f_frsize": told.f_frsize, "f_blocks": told.f_blocks, "f_bfree": told.f_bfree}
            flag = os.ST_RDONLY if path == tmp_path else 0
            return SimpleNamespace(**free, f_bavail=told.f_bavail, f_flag=flag)

        monkeypatch.setattr(os, "statvfs", read_only)
        [found] = look("disk", machine.look_at_disk)
        assert (found.state, found.text) == (
            "warning",
            "MEDIA_ROOT is on a file system that is read-only here.",
        )

    def test_an_env_file_that_others_can_read(self, look, monkeypatch, tmp_path):
        file = tmp_path / ".env"
        file.write_text("SECRET_KEY=x")
        file.chmod(0o644)
        monkeypatch.setenv("ENV_FILE", str(file))
        [found] = look("settings", machine.look_at_settings)
        assert found.todo == f"chmod 600 {file}"

    def test_debug_in_production(self, look, settings):
        settings.PRODUCTION = settings.DEBUG = True
        assert "Set DEBUG=false." in [one.todo for one in look("settings", machine.look_at_settings)]

    def test_limits_that_do_not_hold(self, look, monkeypatch):
        monkeypatch.setattr(machine, "limits_in_force", lambda: {"network": False, "fork": True})
        [found] = look("document limits", machine.look_at_limits)
        assert "from: network." in found.text

    def test_limits_that_could_not_be_tried_are_tried_once_more(self, look, monkeypatch):
        ends = iter([ParsingFailed(Reason.TOO_SLOW), HELD])
        monkeypatch.setattr(machine, "limits_in_force", ending(ends))
        assert look("document limits", machine.look_at_limits) == []

    def test_limits_that_cannot_be_tried(self, look, monkeypatch):
        ends = iter([ParsingFailed(Reason.TOO_SLOW, "secret"), ParsingFailed(Reason.CRASHED, "secret"), HELD])
        monkeypatch.setattr(machine, "limits_in_force", ending(ends))
        [found] = look("document limits", machine.look_at_limits)
        assert (found.state, found.text) == ("failed", "They could not be tried, twice (too_slow, crashed).")
        assert "has less to do" in found.todo
        assert next(ends) == HELD

    def test_limits_of_trainings_that_do_not_hold(self, look, monkeypatch):
        held = {"network": True, "programs": False, "another user": False}
        monkeypatch.setattr(machine.process, "limits_in_force", lambda: held)
        [found] = look("training limits", machine.look_at_training_limits)
        assert "trainings from: programs." in found.text

    def test_an_encoder_that_does_not_load(self, look, settings):
        def fail():
            raise RuntimeError

        with serving(fail) as served:
            settings.MODEL_URL = f"http://127.0.0.1:{served.port}"
            [found] = look("model process", processes.look_at_model_process)
        assert "documents cannot be searched" in found.text

    def test_tasks_and_trainings_that_wait(self, look):
        tasks.plain.enqueue("one")
        DBTaskResult.objects.update(enqueued_at=timezone.now() - timedelta(hours=1))
        make_run(status="queued", created_at=timezone.now() - timedelta(hours=1))
        [worker], [trainer] = (
            look("worker", processes.look_at_worker),
            look("trainer", processes.look_at_trainer),
        )
        assert (worker.state, trainer.state) == ("failed", "failed")
        assert "Start the process trainer" in trainer.todo

    def test_a_look_that_breaks_is_a_finding_without_its_words(self, look):
        def breaks():
            raise RuntimeError("secret words")
            yield

        [found] = look("disk", breaks)
        assert found.state == "failed"
        assert found.text == "Looking at it failed (RuntimeError)."


@contextmanager
def relay(port, *, gathers=False, compresses=False):
    """A proxy in front of the site, on a port of its own, which is given."""

    async def serve(reader, writer):
        request = await reader.readuntil(b"\r\n\r\n")
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)
        up_writer.write(request)
        pieces = b""
        while piece := await up_reader.read(65536):
            if compresses:
                piece = piece.replace(b"X-Accel-Buffering: no", b"Content-Encoding: br ").replace(
                    b"x-accel-buffering: no", b"content-encoding: br "
                )
            if gathers:
                pieces += piece
            else:
                writer.write(piece)
                await writer.drain()
        writer.write(pieces)
        await writer.drain()
        for one in (up_writer, writer):
            one.close()

    started, loop = threading.Event(), asyncio.new_event_loop()
    place = []

    def run():
        asyncio.set_event_loop(loop)
        server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
        place.append(server.sockets[0].getsockname()[1])
        started.set()
        loop.run_forever()
        server.close()
        loop.run_until_complete(server.wait_closed())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    started.wait(10)
    try:
        yield f"http://127.0.0.1:{place[0]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


class TestTheProxy:
    def seen_through(self, url):
        [found] = processes.look_at_proxy(url)()
        return found

    def test_one_that_passes_streams_is_told_from_one_that_gathers_them(self, site):
        with relay(site.port) as honest, relay(site.port, gathers=True) as gathering:
            passes, gathers = self.seen_through(honest), self.seen_through(gathering)

        assert passes.state == "ok", passes
        assert gathers.state == "failed", gathers
        assert "proxy_buffering off" in gathers.todo

    def test_one_that_compresses(self, site):
        with relay(site.port, compresses=True) as url:
            found = self.seen_through(url)
        assert "compress" in found.text

    def test_what_the_moments_say(self):
        whole = (TICKS - 1) * TICK_SECONDS
        one_by_one = [at * TICK_SECONDS for at in range(TICKS)]
        states = {
            "one by one": processes.judge("u", 200, {}, one_by_one).state,
            "late, but one by one": processes.judge("u", 200, {}, [at + 5 for at in one_by_one]).state,
            "in two lumps": processes.judge("u", 200, {}, [0, whole * 0.4]).state,
            "in one": processes.judge("u", 200, {}, [whole]).state,
            "nothing": processes.judge("u", 200, {}, []).state,
        }
        assert states == {
            "one by one": "ok",
            "late, but one by one": "ok",
            "in two lumps": "failed",
            "in one": "failed",
            "nothing": "failed",
        }
        assert "ALLOWED_HOSTS" in processes.judge("u", 400, {}, []).todo
        assert processes.judge("u", 502, {}, []).state == "failed"

    def test_the_public_address_is_what_the_settings_say(self, settings):
        settings.CSRF_TRUSTED_ORIGINS = []
        settings.HOST, settings.PORT = "0.0.0.0", 8000
        assert processes.public_url() == "http://127.0.0.1:8000"
        settings.HOST = "::"
        assert processes.public_url() == "http://[::1]:8000"
        settings.CSRF_TRUSTED_ORIGINS = ["https://llm.example.org"]
        assert processes.public_url() == "https://llm.example.org"


def test_it_tells_no_secret(settings, monkeypatch):
    settings.MODEL_URL = "http://127.0.0.1:9"
    secrets = {
        "METRICS_TOKEN": "canary-metrics",
        "OPENAI_API_KEY": "sk-canary",
        "ANTHROPIC_API_KEY": "sk-other",
    }
    for name, value in secrets.items():
        setattr(settings, name, value)
    found, _ = findings()

    told = json.dumps(found)
    assert "METRICS_TOKEN is short" in told
    for value in (*secrets.values(), settings.SECRET_KEY, settings.REDIS_URL or "none at all"):
        assert value not in told
