"""What the tests of documents share: small files, uploads, and a worker that works at once."""

from django.core.files.uploadedfile import SimpleUploadedFile

from llmsite.core.worker import Worker

TEXT = (
    "The fox lives in the wood.\n\nIt hunts at night, and sleeps through the day under the roots of a tree."
)


def upload(client, content=TEXT, *, name="fox.txt", collection=None, **headers):
    """Send one file as a form."""
    data = {"file": SimpleUploadedFile(name, content.encode() if isinstance(content, str) else content)}
    if collection is not None:
        data["collection"] = str(collection)
    return client.post("/api/documents", data, headers=headers)


def work():
    """Do all that waits, as the process `worker` would."""
    return Worker(beats=False).run_ready()
