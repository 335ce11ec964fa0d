"""`python -m llmsite.alive [URL]`: ends with 0 where a process answers, for the health checks of containers.

Without URL it asks the web process of this machine. It uses nothing beyond Python, because it runs every few
seconds beside what it asks.
"""

import http.client
import os
import sys
from urllib.parse import urlsplit

SECONDS = 4.0


def answers(url: str) -> bool:
    """Whether `url` answers well. Raises nothing."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=SECONDS)
    try:
        # By one of its own names, whichever the site goes by.
        connection.request("GET", parts.path, headers={"Host": _own_name()})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _own_name() -> str:
    """The first name that the site goes by; a pattern such as `.example.org` stands for `example.org` too."""
    first = os.environ.get("ALLOWED_HOSTS", "").split(",")[0].strip()
    return first.lstrip(".") if first not in ("", "*") else "localhost"


def main() -> int:
    own = f"http://127.0.0.1:{os.environ.get('PORT') or 8000}/health/live"
    return 0 if answers(sys.argv[1] if len(sys.argv) > 1 else own) else 1


if __name__ == "__main__":
    sys.exit(main())
