"""Which addresses belong to programs; all others are pages for people."""

_API_PREFIXES = ("/api/", "/v1/", "/health/", "/metrics")


def is_api_path(path: str) -> bool:
    """True where errors are JSON, no page is rendered and no cookie is renewed on the way."""
    return path.startswith(_API_PREFIXES)


_FILES = frozenset(
    {
        "/api/documents",
        "/documents/upload/",
        "/api/training/datasets",
        "/api/training/datasets/preview",
        "/training/datasets/upload/",
        "/training/datasets/preview/",
    }
)


def takes_files(path: str) -> bool:
    """Whether a form with files may be sent there; it is read piece by piece by the code that wants them."""
    return path in _FILES
