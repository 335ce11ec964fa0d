"""The way of the child: import, take in the document, give up all rights, read it, answer in JSON."""

import codecs
import json
import os
import sys
from importlib import import_module
from typing import Any

from .lockdown import lock_down
from .text import MOST_CHARACTERS, Content, Unreadable, clean, has_text, one_line

FORMATS = {
    "application/pdf": "pdf",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "text/html": "html",
    "text/markdown": "markdown",
    "text/plain": "plain",
    "text/csv": "table",
    "probe": "probe",
}
# The others may hold pictures of text, and so are worth recognising where they have none.
NOTHING_BUT_TEXT = ("text/plain", "text/markdown", "text/csv")
# Codecs are modules too, which are found only as long as files can be opened.
CODECS = (
    "ascii",
    "cp437",
    "cp1252",
    "latin-1",
    "utf-8-sig",
    "utf-16",
    "utf-16-le",
    "utf-16-be",
    "utf-32",
    "idna",
)


def main() -> None:
    """The arguments are this folder, the job and its options; the document is the standard input."""
    _, _, job, options = sys.argv
    answer = _do(job, parent=os.getppid(), **json.loads(options))
    sys.stdout.buffer.write(json.dumps(answer, ensure_ascii=False).encode())
    sys.stdout.flush()


def _do(job: str, *, parent: int, memory: int, cpu: int, **options: Any) -> dict[str, Any]:
    if job not in FORMATS:
        return {"failed": "unsupported"}
    reader = import_module(f".{FORMATS[job]}", __package__)
    for name in CODECS:
        codecs.lookup(name)
    data = sys.stdin.buffer.read()
    if hasattr(reader, "prepare"):
        reader.prepare(data)
    lock_down(memory=memory, cpu=cpu, parent=parent)
    without_text = "blank" if job in NOTHING_BUT_TEXT else "empty"
    try:
        return _as_json(reader.read(data, **options), without_text)
    except Unreadable as error:
        return {"failed": error.args[0]}
    except MemoryError:
        return {"failed": "out_of_memory"}
    except Exception as error:  # Each library has its own words for a file it cannot make sense of.
        return {"failed": "damaged", "detail": type(error).__name__}


def _as_json(content: Content | dict[str, Any], without_text: str) -> dict[str, Any]:
    if isinstance(content, dict):
        return content
    if sum(len(page.text) for page in content.pages) > MOST_CHARACTERS:
        raise Unreadable("too_large")
    if not any(has_text(page.text) for page in content.pages):
        raise Unreadable(without_text)
    pages = [{"number": page.number, "text": page.text, "headings": page.headings} for page in content.pages]
    return {"title": one_line(clean(content.title)), "is_paged": content.is_paged, "pages": pages}
