"""The log: one line a request, one id on all of its way, no more of a prompt than allowed, and plain text."""

import atexit
import json
import logging
import logging.config
import sys
import threading
from io import StringIO

import pytest
import structlog
from asgiref.sync import async_to_sync
from django.test import AsyncClient, Client

from conftest import bearer, sign_in_client
from embeddings.client import embed
from embeddings.tests.fakes import ScriptedEncoder
from embeddings.tests.serving import serving
from inference.models import ChatModelConfig
from inference.tests.doors import post
from inference.tests.engine.fakes import ScriptedRunner, saying
from inference.tests.engine.serving import scripted_model
from inference.tests.waiting import until
from llmsite.core import logs
from llmsite.core.logs import escaped, logging_config, read_request_id, request_id, shortened
from llmsite.core.worker import Worker
from llmsite.tests import tasks

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("settled")]

ID = "browser-4711"


class Lines(list):
    """What was logged since, as the JSON that the log has."""

    def named(self, event):
        return [line for line in self if line["event"] == event]


@pytest.fixture
def lines(monkeypatch):
    """Reads each line as it would be written to a file."""
    config, found = logging_config("INFO"), Lines()
    formatter = config["formatters"]["site"]
    formatter = formatter.pop("()")(**formatter)

    class Keep(logging.Handler):
        def emit(self, record):
            found.append(json.loads(formatter.format(record)))

    root, handler = logging.getLogger(), Keep(level=logging.INFO)
    root.addHandler(handler)
    level = root.level
    root.setLevel(logging.INFO)
    yield found
    root.removeHandler(handler)
    root.setLevel(level)


class TestTheIdOfARequest:
    @pytest.fixture
    def model_process(self, settings):
        """The application of the model process, with a chat model and an encoder that are quick."""
        model = scripted_model(ScriptedRunner(saying("Hi.")))
        with serving(lambda: ScriptedEncoder(), model=model) as served:
            settings.MODEL_URL = f"http://127.0.0.1:{served.port}"
            ChatModelConfig.objects.all().delete()
            ChatModelConfig.objects.create(
                alias="local", provider="local", provider_model="scripted", is_default=True
            )
            yield served

    @pytest.fixture
    def headers(self, alice):
        return {**bearer(alice), "X-Request-ID": ID}

    def test_a_page_a_script_and_a_socket_have_one_line_each(self, alice, client, lines, models):
        sign_in_client(client, alice)
        client.get("/chat/", headers={"X-Request-ID": ID})
        [line] = lines.named("request")

        assert (line["request_id"], line["route"], line["status"]) == (ID, "/chat/", 200)
        assert line["user_id"] == alice.pk
        assert line["latency_ms"] > 0

    async def test_a_question_has_it_in_the_model_process(self, model_process, headers, lines):
        answer = await AsyncClient().post(
            "/api/predict", {"prompt": "Hello"}, content_type="application/json", headers=headers
        )

        assert answer.status_code == 200, answer.content
        await until(lambda: lines.named("answer"))
        [line] = lines.named("answer")
        assert line["request_id"] == ID
        [own] = [line for line in lines.named("request") if "route" in line]
        assert own["request_id"] == ID

    async def test_texts_to_embed_have_it_too(self, model_process, headers, lines):
        answer = await AsyncClient().post(
            "/api/embed", {"input": "A fox"}, content_type="application/json", headers=headers
        )

        assert answer.status_code == 200, answer.content
        # The model process writes its line a moment after its answer has gone.
        await until(lambda: [line for line in lines.named("request") if "path" in line])
        [line] = [line for line in lines.named("request") if "path" in line]
        assert (line["path"], line["status"], line["request_id"]) == ("/v1/embeddings", 200, ID)

    def test_a_task_runs_under_it_and_what_the_task_asks_for_too(self, model_process, lines):
        token = request_id.set(ID)
        tasks.plain.enqueue("reads")
        request_id.reset(token)
        tasks.calls.clear()
        tasks.does["reads"] = lambda: async_to_sync(embed)(["A fox"])
        try:
            [ended] = Worker(beats=False).run_ready()
        finally:
            tasks.does.clear()

        assert ended.how == "done"
        async_to_sync(until)(lambda: lines.named("request"))
        [task] = lines.named("task_run")
        [asked] = lines.named("request")
        assert task["request_id"] == asked["request_id"] == ID
        assert asked["path"] == "/v1/embeddings"
        assert request_id.get() is None

    def test_a_task_of_nobody_has_none(self, lines):
        tasks.plain.enqueue("one")
        Worker(beats=False).run_ready()

        [line] = lines.named("task_run")
        assert line.get("request_id") is None

    def test_a_document_is_read_under_the_id_of_its_upload(self, alice, lines):
        from django.core.files.uploadedfile import SimpleUploadedFile
        from django_tasks_db.models import DBTaskResult

        upload = {"file": SimpleUploadedFile("fox.txt", b"A fox is an animal.", "text/plain")}
        answer = Client().post("/api/documents", upload, headers={**bearer(alice), "X-Request-ID": ID})

        assert answer.status_code == 202, answer.content
        assert {row.args_kwargs["request_id"] for row in DBTaskResult.objects.all()} == {ID}

    @pytest.mark.parametrize(
        "sent", ["x", "a b" * 5, "a" * 200, "trace-0123456789\n", "trace\x1b[31m-012345", ""]
    )
    def test_what_is_no_id_is_replaced(self, sent):
        assert read_request_id(sent) != sent
        assert len(read_request_id(sent)) == 32


class TestPrompts:
    PROMPT = "My canary is called Tweety, and it sings from dawn to dusk on each of its 4711 perches."

    async def ask(self, alice):
        answer = await post(alice, "/api/predict", {"prompt": self.PROMPT, "model": "scripted"})
        assert answer.status_code == 200

    async def test_they_are_not_in_the_log(self, alice, models, lines):
        await self.ask(alice)

        assert lines.named("request")
        assert "Tweety" not in json.dumps(lines)

    async def test_with_the_setting_their_beginning_is(self, alice, models, lines, settings):
        settings.LOG_PROMPTS = True
        await self.ask(alice)

        [line] = lines.named("question")
        assert line["prompt"] == self.PROMPT[:50] + "…"
        assert self.PROMPT[:51] not in json.dumps(lines)

    def test_a_short_one_is_whole(self):
        assert shortened("a" * 50) == "a" * 50


class TestPlainText:
    HOSTILE = "one\r\ntwo\x1b[31mred\x9b2J\x07\u202eback\u2028"

    def written(self, monkeypatch, *, terminal):
        monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
        config = logging_config("INFO")["formatters"]["site"]
        formatter = config.pop("()")(**config)
        try:
            raise ValueError(self.HOSTILE)
        except ValueError:
            record = logging.getLogger("test").makeRecord(
                "test", logging.INFO, __file__, 1, self.HOSTILE, (), sys.exc_info()
            )
        structured = logging.getLogger("test").makeRecord("test", logging.INFO, __file__, 1, "", (), None)
        structured.msg = {"event": self.HOSTILE, "said": self.HOSTILE, "list": [self.HOSTILE]}
        structured._from_structlog = True
        structured._logger = structured._name = "test"
        return [formatter.format(one) for one in (record, structured)]

    @pytest.mark.parametrize("terminal", [False, True])
    def test_nothing_that_is_logged_breaks_its_line_or_speaks_to_the_terminal(self, monkeypatch, terminal):
        foreign, structured = self.written(monkeypatch, terminal=terminal)
        ours = structlog.dev.ConsoleRenderer()(None, "", {"event": ""}) if terminal else ""

        assert "\n" not in structured
        for text in (foreign, structured):
            assert "\x1b[31m" not in text.replace(ours, "")
            assert not set(text) & {"\r", "\x9b", "\x07", "\u202e", "\u2028"}
        # The traceback alone has lines of its own, none of which begins like one of the log's.
        assert all(line.startswith("  ") for line in foreign.splitlines()[1:])

    def test_what_is_escaped_can_be_read(self):
        assert escaped("one\r\ntwo\x1b[31m") == "one\\r\\ntwo\\x1b[31m"
        assert escaped("Zorro, el niño 🦊") == "Zorro, el niño 🦊"

    def test_the_quick_line_of_a_request_is_escaped_as_well(self, monkeypatch):
        class Busy:
            is_plain_json = True
            written: list[str] = []

            def add(self, line):
                self.written.append(line)

        monkeypatch.setattr(logs.GatheredLines, "active", Busy())
        logging.getLogger("llmsite.request").setLevel(logging.INFO)
        logs.log_request(route=self.HOSTILE)
        logging.getLogger("llmsite.request").setLevel(logging.NOTSET)

        [line] = Busy.written
        assert not set(line) & {"\r", "\n", "\x1b", "\x07"}
        assert json.loads(line)["route"] == self.HOSTILE


class TestGatheredLines:
    @pytest.fixture
    def gathering(self, monkeypatch):
        """A handler whose own thread writes nothing, and what was written."""
        monkeypatch.setattr(logs.GatheredLines, "SECONDS", 1000)
        monkeypatch.setattr(logs.GatheredLines, "active", None)
        handler = logs.GatheredLines()
        handler.setStream(StringIO())
        yield handler
        handler.close()
        atexit.unregister(handler.flush)

    @staticmethod
    def record(text, level=logging.INFO):
        return logging.getLogger("test").makeRecord("test", level, __file__, 1, text, (), None)

    def test_a_warning_takes_with_it_what_waits(self, gathering):
        gathering.handle(self.record("first"))
        assert gathering.stream.getvalue() == ""

        gathering.handle(self.record("second", logging.WARNING))
        assert gathering.stream.getvalue() == "first\nsecond\n"

    def test_lines_keep_their_order_where_two_write_at_once(self, gathering):
        begun, go_on, written = threading.Event(), threading.Event(), []

        class Slow:
            def write(self, text):
                if not begun.is_set():
                    begun.set()
                    go_on.wait(10)
                written.append(text)

            def flush(self):
                pass

        gathering.setStream(Slow())
        gathering.add("first")
        other = threading.Thread(target=gathering.flush)
        other.start()
        begun.wait(10)
        last = threading.Thread(target=gathering.handle, args=[self.record("second", logging.WARNING)])
        last.start()
        last.join(0.1)
        go_on.set()
        other.join()
        last.join()

        assert "".join(written) == "first\nsecond\n"
