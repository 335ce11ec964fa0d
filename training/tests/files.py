"""Small data sets of every shape and format, and how they are sent."""

import csv
import io
import json
from typing import Any

from django.core.files.uploadedfile import SimpleUploadedFile

PAIRS = [
    ("What is a fox?", "An animal."),
    ("Where do owls live?", "In the forest."),
    ("Who sings?", "The wren."),
]


def turn(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def human(value: str) -> dict[str, str]:
    return {"from": "human", "value": value}


def gpt(value: str) -> dict[str, str]:
    return {"from": "gpt", "value": value}


def typed(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]


def json_lines(records: list[Any]) -> bytes:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


def json_list(records: list[Any]) -> bytes:
    return json.dumps(records, indent=2).encode()


def as_csv(records: list[dict[str, Any]], delimiter: str = ",") -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), delimiter=delimiter)
    writer.writeheader()
    for record in records:
        writer.writerow(
            {
                name: value if isinstance(value, str | bool) else json.dumps(value)
                for name, value in record.items()
            }
        )
    return text.getvalue().encode()


def as_parquet(records: list[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records), file)
    return file.getvalue()


WRITERS = {"json": json_list, "jsonl": json_lines, "csv": as_csv, "parquet": as_parquet}


def upload(client: Any, content: bytes | str, file: str = "set.jsonl", **fields: Any) -> Any:
    data = content.encode() if isinstance(content, str) else content
    form = {"name": "Animals", **fields, "file": SimpleUploadedFile(file, data)}
    return client.post("/api/training/datasets", form)


def look(client: Any, content: bytes | str, file: str = "set.jsonl", **fields: Any) -> Any:
    data = content.encode() if isinstance(content, str) else content
    return client.post("/api/training/datasets/preview", {**fields, "file": SimpleUploadedFile(file, data)})


SFT = [{"prompt": asked, "completion": said} for asked, said in PAIRS]
