"""The child that reads files: what a file can do to the site, and what a child that lies can."""

import io
import json
import os
import signal

import pytest

from llmsite.core.errors import DatasetUnreadable, TooLarge
from training import reading
from training.tests.files import SFT, as_parquet, json_lines

ROW = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
LINE = json.dumps(ROW, sort_keys=True, separators=(",", ":"))
META = json.dumps({"line": 1, "tokens": 1, "tools": False, "question": "00", "content": "00", "earlier": []})
HEAD = json.dumps({"layout": "sft", "shape": "messages", "mapping": {}})


@pytest.fixture
def read(tmp_path):
    def read(content: bytes = json_lines(SFT), kind: str = "jsonl", **values):
        path = tmp_path / "upload"
        path.write_bytes(content)
        kept = []
        found = reading.read(
            path, kind, **{"columns": {}, "most_tokens": None, "keep": kept.append, **values}
        )
        return found, kept

    return read


@pytest.fixture
def child_runs(monkeypatch):
    """A child that runs some other code instead of reading."""
    return lambda code: monkeypatch.setattr(reading, "START", f"import sys, os\n{code}")


def says(*lines: str) -> str:
    said = "".join(line + "\n" for line in lines)
    return f"sys.stdout.write({said!r})"


def test_rows_come_as_they_are_kept(read):
    found, kept = read()
    assert (found.facts.count, found.bad, len(kept)) == (3, 0, 3)
    assert all(line.endswith(b"\n") for line in kept)


class TestBombs:
    def test_a_file_that_unpacks_to_more_memory_than_there_is(self, read, monkeypatch):
        import pyarrow as pa
        import pyarrow.parquet as pq

        monkeypatch.setattr(reading, "MOST_MEMORY", 300 * reading.MEBIBYTE)
        file = io.BytesIO()
        texts = pa.DictionaryArray.from_arrays([0] * 300, ["x" * 900_000])
        pq.write_table(pa.table({"prompt": texts, "completion": texts}), file, store_schema=False)
        assert len(file.getvalue()) < 1_000_000

        with pytest.raises(DatasetUnreadable, match="too much memory"):
            read(file.getvalue(), "parquet")

    def test_one_that_takes_too_long(self, read, monkeypatch):
        monkeypatch.setattr(reading, "MOST_CPU", 1)
        with pytest.raises(DatasetUnreadable, match="too long"):
            read(json_lines(SFT * 100_000))

    def test_one_that_says_more_than_is_read(self, read, monkeypatch):
        monkeypatch.setattr(reading, "MOST_OUTPUT", 100)
        with pytest.raises(TooLarge):
            read()


def test_the_child_reaches_nothing_but_its_file(read, child_runs, tmp_path):
    """The lock is the parser's (embeddings/tests/parsing); here, that it is on before a file is looked at."""
    canary = tmp_path / "canary"
    canary.write_text("secret")
    canary.chmod(0o644)
    tries = f"""
sys.path[:0] = sys.argv[1:3]
import socket
from training.formats import child
def read(kind, data, *, columns):
    held = []
    for attempt in (
        lambda: open({str(canary)!r}),
        lambda: open('/etc/passwd'),
        lambda: open('new', 'w'),
        lambda: os.fork(),
        lambda: socket.socket(),
    ):
        try:
            attempt()
        except OSError:
            held.append(True)
    yield child.Head("text", f"held {{len(held)}} {{sorted(os.environ)}}", {{}})
child.read = read
child.main()
"""
    child_runs(tries)
    found, _ = read()
    assert found.shape == "held 5 ['LC_CTYPE', 'TOKENIZERS_PARALLELISM']"


class TestAChildThatLies:
    @pytest.mark.parametrize(
        "code",
        [
            "pass",
            says("nonsense"),
            says("E{}"),
            says("H" + HEAD),
            says("H" + HEAD, f"R{META}\t{LINE}"),
            says("H{}", "E{}"),
            says('H{"layout":"other","shape":"","mapping":{}}', "E{}"),
            says("H" + HEAD, f"R{META}\t{{}}", "E{}"),
            says("H" + HEAD, f"R{META}\t{LINE.replace('user', 'root')}", "E{}"),
            says("H" + HEAD, f"R{META}\t {LINE}", "E{}"),
            says("H" + HEAD, f'R{{"line":"x"}}\t{LINE}', "E{}"),
            says("H" + HEAD, 'B{"line":1,"code":"made up","data":{}}', "E{}"),
            says("H" + HEAD, 'B{"line":1,"code":"cells","data":{}}', "E{}"),
            "sys.stdout.write('H')",
            "sys.exit(3)",
        ],
    )
    def test_is_not_believed(self, read, child_runs, code):
        child_runs(code)
        with pytest.raises(DatasetUnreadable, match="could not be read to its end"):
            read()

    def test_the_same_words_are_taken_where_they_are_right(self, read, child_runs):
        child_runs(says("H" + HEAD, f"R{META}\t{LINE}", "E{}"))
        assert read()[1] == [LINE.encode() + b"\n"]

    def test_one_that_was_killed_had_too_little_memory(self, read, child_runs):
        child_runs(f"os.kill(os.getpid(), {signal.SIGKILL.value})")
        with pytest.raises(DatasetUnreadable, match="too much memory"):
            read()

    def test_one_that_hangs_is_ended(self, read, child_runs, monkeypatch, tmp_path):
        monkeypatch.setattr(reading, "MOST_TIME", 1)
        child_runs(
            f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\nimport time; time.sleep(60)"
        )
        with pytest.raises(DatasetUnreadable):
            read()
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), 0)


def test_parquet_is_read_under_the_lock(read):
    assert read(as_parquet(SFT), "parquet")[0].facts.count == 3
