"""Level 3 end to end: the web side, the doors of the model process, the index and the real encoder."""

import asyncio
import json
import socket

import pytest
from django.core.management import CommandError, call_command

from accounts.limits import shared_redis
from embeddings.encoder import load_encoder
from embeddings.tests.fakes import ScriptedEncoder
from embeddings.tests.serving import serving
from inference.cache import semantic


@pytest.fixture(scope="module")
def model_process():
    """A model process with the real encoder and no chat model."""
    encoder = load_encoder("all-MiniLM-L6-v2", device="cpu")
    with serving(lambda: encoder) as served:
        yield served


@pytest.fixture
def level3(model_process, settings, monkeypatch):
    settings.SEMANTIC_CACHE = True
    settings.MODEL_URL = f"http://127.0.0.1:{model_process.port}"
    # A machine that is busy with other tests may encode slowly; the limit has a test of its own.
    monkeypatch.setattr(semantic, "SECONDS", 10)
    semantic.outage.worked()
    yield model_process
    model_process.send("POST", "/semantic/forget", {})
    semantic.outage.worked()


async def test_a_question_in_other_words_finds_the_answer(level3):
    await semantic.keep("alice", "What is the capital of France?", "Paris", 60)
    hit = await semantic.find("alice", "Could you tell me what the capital of France is?")
    assert (hit.value, hit.question) == ("Paris", "What is the capital of France?")
    assert 0.8 <= hit.similarity <= 1.001


async def test_spanish_finds_spanish_and_never_english(level3):
    await semantic.keep("p", "¿Cuándo empezó la guerra?", "1914", 60)
    assert (await semantic.find("p", "¿Cuándo comenzó la guerra?")).value == "1914"
    assert await semantic.find("p", "¿Dónde comenzó la guerra?") is None
    assert await semantic.find("p", "When did the war begin?") is None


async def test_what_the_vectors_take_for_the_same_the_words_keep_apart(level3, settings):
    settings.SEMANTIC_CACHE_THRESHOLD = 0.0
    await semantic.keep("p", "How do I enable comments?", "like this", 60)
    assert await semantic.find("p", "How do I disable comments?") is None


async def test_the_words_alone_are_not_enough(level3, settings):
    await semantic.keep("p", "How do I buy a car?", "like this", 60)
    assert await semantic.find("p", "How can I purchase an automobile?")
    settings.SEMANTIC_CACHE_THRESHOLD = 1.0
    assert await semantic.find("p", "How can I purchase an automobile?") is None


async def test_another_partition_finds_nothing(level3):
    await semantic.keep("alice", "What is the capital of France?", "Paris", 60)
    assert await semantic.find("bob", "What is the capital of France?") is None


@pytest.mark.parametrize("question", ["What is the latest news?", "What is my name?", "x" * 401, ""])
async def test_what_may_not_be_kept_does_not_travel(level3, question):
    await semantic.keep("p", question, "v", 60)
    assert await semantic.find("p", question) is None
    assert await semantic.counts() == 0


async def test_forgetting_and_counting(level3):
    for partition in ("a:1", "a:2", "b:1"):
        await semantic.keep(partition, "Why is the sea salty?", "v", 60)
    assert await semantic.counts() == 3
    await semantic.forget("a:")
    assert await semantic.counts() == 1
    await semantic.clear()
    assert await semantic.counts() == 0


async def test_switched_off_nothing_is_asked(settings):
    settings.SEMANTIC_CACHE = False
    settings.MODEL_URL = "http://127.0.0.1:9"
    await semantic.keep("p", "Why is the sea salty?", "v", 60)
    assert await semantic.find("p", "Why is the sea salty?") is None
    assert await semantic.counts() == 0
    await semantic.clear()
    assert not semantic.outage.lasts


async def test_a_model_process_that_is_away_is_a_miss_and_then_left_alone(level3, settings, monkeypatch):
    monkeypatch.setattr(shared_redis, "PAUSE_SECONDS", 60)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        settings.MODEL_URL = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        assert await semantic.find("p", "Why is the sea salty?") is None
        await semantic.keep("p", "Why is the sea salty?", "v", 60)
        await semantic.clear()
        assert await semantic.counts() is None
    assert semantic.outage.lasts
    settings.MODEL_URL = f"http://127.0.0.1:{level3.port}"
    assert await semantic.counts() is None  # It is there, and not asked before the pause is over.
    semantic.outage.worked()
    assert await semantic.counts() == 0


async def test_a_model_process_that_hangs_is_given_up(level3, settings, monkeypatch):
    monkeypatch.setattr(semantic, "SECONDS", 0.05)
    accepted = []
    server = await asyncio.start_server(lambda reader, writer: accepted.append(writer), "127.0.0.1", 0)
    async with server:
        settings.MODEL_URL = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert await semantic.find("p", "Why is the sea salty?") is None
        for writer in accepted:
            writer.close()
    assert len(accepted) == 1
    assert semantic.outage.lasts


async def test_an_answer_of_another_shape_is_a_miss(level3, settings):
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        body = json.dumps({"matches": [{"text": 1}, None]}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        settings.MODEL_URL = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert await semantic.find("p", "Why is the sea salty?") is None


FIND = {"partition": "p", "text": "t", "threshold": 0.5}
KEEP = {"partition": "p", "text": "t", "value": "v", "ttl": 9}


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/semantic/find", {**FIND, "partition": ""}, "partition"),
        ("/semantic/find", {**FIND, "partition": "p" * 201}, "partition"),
        ("/semantic/find", {**FIND, "text": 3}, "text"),
        ("/semantic/find", {**FIND, "text": "\ud800"}, "text"),
        ("/semantic/find", {**FIND, "threshold": 2}, "threshold"),
        ("/semantic/find", {**FIND, "threshold": True}, "threshold"),
        ("/semantic/find", {**FIND, "threshold": float("nan")}, "threshold"),
        ("/semantic/keep", {**KEEP, "value": {}}, "value"),
        ("/semantic/keep", {**KEEP, "value": "v" * 1_000_001}, "value"),
        ("/semantic/keep", {**KEEP, "ttl": -1}, "ttl"),
        ("/semantic/forget", {"partition_prefix": ""}, "partition_prefix"),
        ("/semantic/forget", {"prefix": "p"}, "partition_prefix"),
    ],
)
def test_the_doors_refuse_a_wrong_value_by_its_name(model_process, path, body, param):
    status, answer, _ = model_process.send("POST", path, body)
    assert (status, answer["error"]["param"]) == (400, param)


def test_while_the_encoder_loads_the_doors_say_so():
    import threading

    gate = threading.Event()

    def load():
        assert gate.wait(20)
        return ScriptedEncoder()

    with serving(load, ready=False) as served:
        try:
            status, answer, _ = served.send("POST", "/semantic/find", FIND)
            assert (status, answer["error"]["code"]) == (503, "embedder_loading")
        finally:
            gate.set()


@pytest.fixture
def pairs_file(tmp_path):
    def write(*lines):
        path = tmp_path / "pairs.jsonl"
        path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
        return str(path)

    return write


PAIRS = [
    {"a": "What is the capital of Peru?", "b": "what's the capital of Peru", "label": 1},
    {"a": "How do I lose weight?", "b": "What helps to get thinner?", "label": 1},
    {"a": "Can I cancel?", "b": "Can't I cancel?", "label": 0},
    {"a": "Where is Rome?", "b": "Why do cats purr?", "label": 0},
    {"a": "How do I boil an egg?", "b": "How to boil an egg?", "label": None},
]


def test_pairs_are_evaluated_with_the_vectors_of_the_model_process(level3, pairs_file, capsys):
    path = pairs_file(*PAIRS)
    call_command("evaluate_cache", "--pairs", path, "--json")
    found = json.loads(capsys.readouterr().out)
    report = found["files"][path]
    assert found["threshold"] == 0.8
    assert (report["positives"], report["true_hits"], report["true_hit_rate"]) == (2, 1, 0.5)
    assert (report["negatives"], report["false_hits"], report["false_hit_rate"]) == (2, 0, 0.0)
    assert (report["unclear"], report["unclear_hits"]) == (1, 1)
    assert report["false_hits_by_cosine_alone"] == 1
    assert report["nearest_negatives"][0]["refused_for"] == "negation"


def test_without_a_model_process_the_encoder_is_loaded(settings, pairs_file, capsys, monkeypatch):
    settings.MODEL_URL = "http://127.0.0.1:9"
    monkeypatch.setattr("embeddings.encoder.load_encoder", lambda name, *, device: ScriptedEncoder())
    call_command("evaluate_cache", "--pairs", pairs_file(*PAIRS), "--threshold", "-1")
    out = capsys.readouterr().out
    assert "true hits    1 of 2 (50.0%)" in out
    assert "false hits   0 of 2 (0.0%); by the cosine alone 2" in out


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "line 2: not valid JSON"),
        ("[]", "line 2: must be an object"),
        ({"a": "x"}, "line 2: must be an object"),
        ({"a": "x", "b": " "}, "line 2: must be an object"),
        ({"a": "x", "b": "y", "label": 2}, "line 2: label"),
        ({"a": "x", "b": "y", "label": [1]}, "line 2: label"),
    ],
)
def test_a_wrong_line_is_named(pairs_file, line, reason):
    with pytest.raises(CommandError, match=reason):
        call_command("evaluate_cache", "--pairs", pairs_file(PAIRS[0], line))


def test_a_file_that_is_missing_or_empty_is_named(tmp_path, pairs_file):
    with pytest.raises(CommandError, match="No such file"):
        call_command("evaluate_cache", "--pairs", str(tmp_path / "none.jsonl"))
    with pytest.raises(CommandError, match="no pairs"):
        call_command("evaluate_cache", "--pairs", pairs_file(""))


def test_a_question_that_was_not_found_is_encoded_once():
    encoder = ScriptedEncoder()
    find = {"partition": "p", "text": "what is new", "threshold": 0.8}
    keep = {"partition": "p", "text": "what is new", "value": "this", "ttl": 60}
    with serving(lambda: encoder) as served:
        assert served.send("POST", "/semantic/find", find)[1] == {"matches": []}
        served.send("POST", "/semantic/keep", keep)
        assert encoder.batches == [["what is new"]]
        assert served.send("POST", "/semantic/find", find)[1]["matches"][0]["value"] == "this"
        served.send("POST", "/semantic/find", {**find, "text": "what is old"})
        served.send("POST", "/semantic/forget", {})
        served.send("POST", "/semantic/keep", {**keep, "text": "what is old"})
        assert encoder.batches[2:] == [["what is old"], ["what is old"]]
