"""The HTTP interface, over a scripted model."""

import pytest

from inference.tests.engine.fakes import ScriptedRunner, counting, saying
from inference.tests.engine.serving import chat_body, serving
from inference.tests.engine.test_scheduler import wait_until

GREETING = "Hello, world. Bye."


@pytest.fixture(scope="module")
def greeter():
    with serving(ScriptedRunner(saying(GREETING))) as served:
        yield served


@pytest.fixture
def endless():
    """Two slots, a queue of one, and a gate before every step."""
    runner = ScriptedRunner(counting, slots=2, context=4096)
    runner.gated = True
    with serving(runner, queue_limit=1) as served:
        yield runner, served


def test_a_whole_answer_has_openais_shape_and_exact_counts(greeter):
    status, body = greeter.chat("Hi", model="scripted")
    assert status == 200
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"] == {"role": "assistant", "content": GREETING, "refusal": None}
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"] == {"prompt_tokens": 4, "completion_tokens": 19, "total_tokens": 23}


def test_a_stream_has_one_id_a_role_the_pieces_a_reason_the_usage_and_done(greeter):
    *chunks, done = greeter.stream("Hi", stream_options={"include_usage": True})
    assert done == "[DONE]"
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    *pieces, end, last = chunks[1:]
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in pieces) == GREETING
    assert (end["choices"][0]["delta"], end["choices"][0]["finish_reason"]) == ({}, "stop")
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 23)


def test_a_stream_without_include_usage_has_no_usage(greeter):
    *chunks, _ = greeter.stream("Hi")
    assert all("usage" not in chunk and chunk["choices"] for chunk in chunks)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_the_limit_of_tokens_ends_with_length(greeter, name):
    _, body = greeter.chat("Hi", **{name: 5})
    assert (body["choices"][0]["finish_reason"], body["usage"]["completion_tokens"]) == ("length", 5)


@pytest.mark.parametrize("stop", ["world", ["nothing", "wor"]])
def test_stop_strings_end_the_answer_before_them(greeter, stop):
    _, body = greeter.chat("Hi", stop=stop)
    choice = body["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Hello, ", "stop")


def test_content_may_come_in_text_parts(greeter):
    parts = [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]
    _, body = greeter.chat(parts)
    assert body["usage"]["prompt_tokens"] == 4


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": [{"role": "robot", "content": "Hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages[0].content"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"stop": [""]}, "stop"),
        ({"stop": 3}, "stop"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"seed": 1.5}, "seed"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": 1}, "stream_options"),
        ({"n": 2}, "n"),
        ({"model": 7}, "model"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name(greeter, change, param):
    status, body, _ = greeter.send("POST", "/v1/chat/completions", {**chat_body("Hi"), **change})
    error = body["error"]
    assert (status, error["type"], error["code"], error["param"]) == (
        400,
        "invalid_request_error",
        "invalid_value",
        param,
    )


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff\xfe", b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_refused(greeter, body):
    status, answer, _ = greeter.send("POST", "/v1/chat/completions", body)
    assert (status, answer["error"]["code"]) == (400, "invalid_value")


def test_a_body_over_the_limit_is_refused(greeter):
    status, answer, _ = greeter.send("POST", "/v1/chat/completions", b" " * 4_000_001)
    assert (status, answer["error"]["code"]) == (413, "request_too_large")


def test_a_prompt_over_the_context_is_refused_with_both_numbers(greeter):
    status, body = greeter.chat("x" * 63)
    error = body["error"]
    assert (status, error["code"], error["tokens"], error["limit"]) == (
        400,
        "context_length_exceeded",
        65,
        64,
    )
    assert "65" in error["message"]
    assert "64" in error["message"]


def test_max_tokens_is_cut_to_what_remains_and_a_full_context_still_gives_a_token(greeter):
    for content, room in (("x" * 57, 5), ("x" * 62, 1)):
        _, body = greeter.chat(content, max_tokens=1000)
        assert body["choices"][0]["finish_reason"] == "length"
        assert body["usage"]["completion_tokens"] == room


def test_another_model_is_not_found(greeter):
    status, body = greeter.chat("Hi", model="gpt-9")
    assert (status, body["error"]["code"], body["error"]["param"]) == (404, "model_not_found", "model")


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nope", 404), ("GET", "/tokenize", 405)])
def test_other_paths_and_methods_answer_in_the_same_envelope(greeter, method, path, status):
    got, body, _ = greeter.send(method, path)
    assert got == status
    assert body["error"]["type"] == "invalid_request_error"


def test_health_and_models_describe_what_is_served(greeter):
    _, health, _ = greeter.send("GET", "/health")
    assert health == {
        "status": "ok",
        "model": "scripted",
        "device": "cpu",
        "engine": "test",
        "slots": 4,
        "slots_in_use": 0,
        "queued": 0,
    }
    _, models, _ = greeter.send("GET", "/v1/models")
    assert [(card["id"], card["max_model_len"]) for card in models["data"]] == [("scripted", 64)]


def test_tokenize_counts_a_prompt_and_the_messages(greeter):
    _, body, _ = greeter.send("POST", "/tokenize", {"prompt": "Hé"})
    assert body == {"count": 3, "max_model_len": 64, "tokens": [72, 195, 169], "per_message": [3]}
    messages = [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Hi"}]
    _, body, _ = greeter.send("POST", "/tokenize", {"messages": messages})
    assert (body["count"], body["per_message"]) == (12, [8, 4])


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_slot_within_a_step(endless, stream):
    runner, served = endless
    connection = served.open("a", stream=stream)
    runner.gate.release(5)
    wait_until(lambda: len(runner.calls) == 5)
    connection.close()
    jobs = served.model.scheduler._jobs
    wait_until(lambda: jobs and jobs[0].cancelled)
    runner.gate.release(1)  # The step that had begun when the client left.
    wait_until(lambda: served.model.scheduler.slots_in_use == 0)
    assert len(runner.calls) <= 6


def test_a_full_queue_answers_503_with_retry_after(endless):
    _, served = endless
    scheduler = served.model.scheduler
    open_ones = []
    for taken in range(3):
        open_ones.append(served.open("a"))
        wait_until(lambda taken=taken: scheduler.slots_in_use + scheduler.queued == taken + 1)
    wait_until(lambda: scheduler.queued >= 1)
    status, body, headers = served.send("POST", "/v1/chat/completions", chat_body("a"))
    assert (status, body["error"]["code"], headers["Retry-After"]) == (503, "queue_full", "1")
    for connection in open_ones:
        connection.close()


def test_a_model_that_fails_ends_a_stream_with_an_error_and_an_answer_with_500(endless):
    runner, served = endless
    runner.gated = False
    runner.fail_when = lambda kind, _tokens: kind == "decode"
    *_, piece, error = served.stream("a", max_tokens=5)
    assert piece["choices"][0]["delta"]["content"]
    assert error["error"]["code"] == "model_failed"
    status, body = served.chat("a", max_tokens=5)
    assert (status, body["error"]["code"]) == (500, "model_failed")
