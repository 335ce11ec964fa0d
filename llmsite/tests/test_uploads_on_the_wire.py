"""Bodies as they come over the wire: what nobody wants is not written down, whatever its client says."""

import http.client
import json
import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.conf import settings

from conftest import bearer
from embeddings.models import Document, DocumentVersion
from llmsite.testing.site import Site

BOUNDARY = "a-boundary"
HEAD = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="fox.txt"\r\n'
    "Content-Type: text/plain\r\n\r\n"
).encode()
TAIL = f"\r\n--{BOUNDARY}--\r\n".encode()
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


@pytest.fixture
def site(transactional_db):
    with Site(MAX_UPLOAD_MB="1") as running:
        yield running


def uploads():
    folder = settings.FILE_UPLOAD_TEMP_DIR
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def stored():
    folder = settings.MEDIA_ROOT / "documents"
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def post(site, body, headers, path="/api/documents"):
    """The status, and the JSON. An iterable body is sent in chunks, without a length."""
    connection = http.client.HTTPConnection(urlsplit(site.url).netloc, timeout=30)
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    except (BrokenPipeError, ConnectionResetError):
        return None, None  # It was refused before all of it was sent.
    finally:
        connection.close()


def pieces(count, size=65_536):
    yield HEAD
    for _ in range(count):
        yield b"x " * (size // 2)
    yield TAIL


def until(is_so):
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.django_db(transaction=True)
def test_bodies_are_taken_refused_and_forgotten(site, alice):
    """One site for all: starting it takes longer than the rest."""
    known = {**FORM, **bearer(alice)}
    before = stored()

    # With a length and in chunks: it arrives whole.
    assert post(site, HEAD + b"The fox." + TAIL, known)[0] == 202
    assert post(site, iter([HEAD, b"The ", b"wolf.", TAIL]), known)[0] == 202
    assert len(stored() - before) == 2

    # Nobody, and nobody who lies about the length, makes the site write.
    assert post(site, HEAD + b"x" * 100 + TAIL, FORM)[0] == 401
    assert post(site, pieces(20), FORM)[0] in (401, None)
    status, body = post(site, pieces(40), known)
    assert status in (413, None)
    assert body is None or body["error"]["code"] == "too_large"

    # A boundary of a megabyte, and a body that is no form.
    assert (
        post(site, b"x", {**known, "Content-Type": "multipart/form-data; boundary=" + "b" * 1_000_000})[0]
        == 400
    )
    assert post(site, HEAD + b"no end", known)[0] == 400

    # Other bodies: no more is read than any view takes, with a length or without.
    plain = {"Content-Type": "application/json", **bearer(alice)}
    assert post(site, iter([b" " * 65_536] * 60), plain, "/api/embed")[0] in (413, None)
    assert post(site, iter([b'{"input": ', b'""}']), plain, "/api/embed")[0] == 400

    until(lambda: uploads() == [])
    versions = DocumentVersion.objects.values_list("file", flat=True)
    assert set(versions) == {f"documents/{name}" for name in stored() - before}


@pytest.mark.django_db(transaction=True)
def test_an_upload_that_breaks_off_leaves_nothing_and_the_site_goes_on(site, alice):
    address = urlsplit(site.url)
    headers = "".join(f"{name}: {value}\r\n" for name, value in {**FORM, **bearer(alice)}.items())
    with socket.create_connection((address.hostname, address.port)) as client:
        client.sendall(f"POST /api/documents HTTP/1.1\r\nHost: localhost\r\n{headers}".encode())
        client.sendall(b"Content-Length: 900000\r\n\r\n" + HEAD + b"x" * 200_000)
        until(lambda: len(uploads()) == 1)

    until(lambda: uploads() == [])
    assert not Document.objects.exists()
    answers = []
    sent = {**FORM, **bearer(alice)}
    threads = [
        threading.Thread(
            target=lambda n=n: answers.append(post(site, HEAD + f"Fox {n}.".encode() + TAIL, sent)[0])
        )
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # The same name each time: one document in four versions.
    assert answers == [202] * 4
    assert Document.objects.get().versions.count() == 4


@pytest.mark.django_db(transaction=True)
def test_the_form_of_a_stranger_that_does_not_come_to_its_end_holds_no_thread(site):
    threads = Path(f"/proc/{site.process.pid}/task")
    nobody = {"Content-Type": "application/json"}
    assert post(site, b"{}", nobody, "/api/search")[0] == 401
    before = len(list(threads.iterdir()))
    address, lines = urlsplit(site.url), "".join(f"{name}: {value}\r\n" for name, value in FORM.items())
    with ExitStack() as open_ones:
        for path in ("/login/", "/documents/upload/", "/api/documents") * 20:
            client = open_ones.enter_context(socket.create_connection((address.hostname, address.port)))
            client.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{lines}".encode())
            client.sendall(b"Content-Length: 900000\r\n\r\n" + HEAD)
        assert post(site, b"{}", nobody, "/api/search")[0] == 401
        # Each is given one for a moment, and stays without.
        until(lambda: len(list(threads.iterdir())) < before + 8)
