"""The encoder's door in the model process, over a scripted encoder."""

import base64
import contextlib
import json
import socket
import threading

import numpy as np
import pytest

from embeddings.errors import EncoderError
from embeddings.server import MOST_TEXTS
from embeddings.tests.fakes import ScriptedEncoder, vector_of
from embeddings.tests.serving import serving, wait_until
from inference.tests.engine.fakes import ScriptedRunner, saying
from inference.tests.engine.serving import scripted_model


def embed(served, texts, **options):
    status, body, headers = served.send("POST", "/v1/embeddings", {"input": texts, **options})
    return status, body, headers


def test_the_answer_has_openais_shape_and_a_real_count(served):
    status, body, _ = embed(served, ["one two", "three"], model="scripted")

    assert status == 200
    assert (body["object"], body["model"]) == ("list", "scripted")
    assert [(item["object"], item["index"]) for item in body["data"]] == [("embedding", 0), ("embedding", 1)]
    assert body["usage"] == {"prompt_tokens": 3, "total_tokens": 3, "truncated_inputs": 0}
    assert np.array_equal(np.float32(body["data"][0]["embedding"]), vector_of("one two"))


def test_one_text_needs_no_list(served):
    assert len(embed(served, "one")[1]["data"]) == 1


def test_base64_carries_the_same_numbers(served):
    _, plain, _ = embed(served, ["a", "b"])
    _, coded, _ = embed(served, ["a", "b"], encoding_format="base64")

    for one, other in zip(plain["data"], coded["data"], strict=True):
        decoded = np.frombuffer(base64.b64decode(other["embedding"]), "<f4")
        assert np.array_equal(decoded, np.float32(one["embedding"]))


def test_a_text_over_the_window_is_cut_and_told(served):
    _, body, _ = embed(served, ["w " * 20, "short", "w " * 8])

    assert body["usage"] == {"prompt_tokens": 17, "total_tokens": 17, "truncated_inputs": 1}


def test_the_kind_of_text_reaches_the_model(served, encoder):
    embed(served, "a", kind="query")
    embed(served, "b")

    assert encoder.kinds == ["query", "passage"]


def test_the_most_texts_in_one_request(served):
    status, body, _ = embed(served, ["x"] * MOST_TEXTS)

    assert (status, len(body["data"])) == (200, MOST_TEXTS)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": [1, 2, 3]}, "input"),
        ({"input": [[1, 2], [3]]}, "input"),
        ({"input": {"a": 1}}, "input"),
        ({"input": [None]}, "input"),
        ({"input": "\ud800"}, "input"),
        ({"input": ["x"] * (MOST_TEXTS + 1)}, "input"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "a", "encoding_format": []}, "encoding_format"),
        ({"input": "a", "kind": "poem"}, "kind"),
        ({"input": "a", "dimensions": 3}, "dimensions"),
        ({"input": "a", "dimensions": "4"}, "dimensions"),
        ({"input": "a", "dimensions": True}, "dimensions"),
        ({"input": "a", "model": 7}, "model"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name(served, encoder, body, param):
    status, answer, _ = served.send("POST", "/v1/embeddings", body)

    assert (status, answer["error"]["code"], answer["error"]["param"]) == (400, "invalid_value", param)
    assert encoder.batches == []


def test_tokens_are_refused_with_the_reason(served):
    assert "tokens" in embed(served, [1, 2])[1]["error"]["message"]


def test_the_right_number_of_dimensions_may_be_asked_for(served):
    assert embed(served, "a", dimensions=4)[0] == 200


def test_another_model_is_not_found(served):
    status, body, _ = embed(served, "a", model="text-embedding-3-small")

    assert (status, body["error"]["code"]) == (404, "model_not_found")


def test_a_body_over_the_limit_is_refused(served):
    status, body, _ = served.send("POST", "/v1/embeddings", b" " * 4_000_001)

    assert (status, body["error"]["code"]) == (413, "request_too_large")


def test_while_it_loads_it_says_when_to_come_back():
    may_load = threading.Event()

    def load():
        assert may_load.wait(20)
        return ScriptedEncoder()

    with serving(load, ready=False) as served:
        status, body, headers = embed(served, "a")
        assert (status, body["error"]["code"], headers["retry-after"]) == (503, "embedder_loading", "2")
        assert health_of(served) == {"status": "loading", "model": "wanted", "dimensions": None}
        may_load.set()
        wait_until(lambda: health_of(served)["status"] == "ready")
        assert embed(served, "a")[0] == 200


def health_of(served):
    return served.send("GET", "/health")[1]["embedder"]


def test_health_names_the_model_and_its_dimensions(served):
    health = health_of(served)

    assert (health["status"], health["model"], health["dimensions"]) == ("ready", "scripted", 4)


@pytest.mark.parametrize("error", [EncoderError("EMBEDDING_MODEL: no."), MemoryError()])
def test_a_chat_model_goes_on_beside_an_embedder_that_cannot_load(error):
    def load():
        raise error

    model = scripted_model(ScriptedRunner(saying("Hello")))
    with serving(load, model=model) as served:
        status, body, _ = embed(served, "a")
        assert (status, body["error"]["code"]) == (503, "embedder_failed")
        assert health_of(served)["status"] == "failed"
        assert served.text("Hi") == "Hello"


def test_an_embedder_goes_on_beside_a_chat_model_that_fails(encoder):
    runner = ScriptedRunner(saying("Hello"))
    runner.fail_when = lambda _kind, _tokens: True
    with serving(lambda: encoder, model=scripted_model(runner)) as served:
        assert served.chat("Hi")[0] == 500
        assert embed(served, "a")[0] == 200


def test_without_a_chat_model_there_are_only_embeddings(served):
    assert served.send("GET", "/health")[1]["model"] is None
    assert served.send("GET", "/v1/models")[0] == 404


def test_a_batch_that_fails_is_an_error_and_the_next_one_works(served):
    status, body, _ = embed(served, "fail")

    assert (status, body["error"]["code"]) == (500, "embedder_error")
    assert embed(served, "a")[0] == 200


def test_the_server_answers_others_while_a_batch_is_computed(served, encoder):
    encoder.gated = True
    asking = threading.Thread(target=embed, args=(served, "a"))
    asking.start()
    assert encoder.started.acquire(timeout=20)

    assert health_of(served)["status"] == "ready"
    encoder.release_all()
    asking.join()


def test_a_client_that_leaves_takes_its_texts_along(served, encoder):
    encoder.gated = True
    asking = threading.Thread(target=embed, args=(served, "first"))
    asking.start()
    assert encoder.started.acquire(timeout=20)
    leave(served, "left alone")
    wait_until(lambda: health_of(served)["waiting"] == 0)
    encoder.release_all()
    asking.join()
    embed(served, "last")

    assert encoder.batches == [["first"], ["last"]]


def leave(served, text):
    """Send a request, wait until it stands in the queue, and hang up."""
    body = json.dumps({"input": text}).encode()
    head = f"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    with contextlib.closing(socket.create_connection(("127.0.0.1", served.port))) as connection:
        connection.sendall(head.encode() + body)
        wait_until(lambda: health_of(served)["waiting"] == 1)
