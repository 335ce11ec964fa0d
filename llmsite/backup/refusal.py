"""Why a backup or a restore did not happen, in one line."""

from llmsite.core.logs import escaped

MOST_CHARACTERS = 1000


class Refused(Exception):
    """Nothing was written, or the site is as it was. The message is a sentence for who runs the command.

    It may quote an archive that anybody has made: it stays one line, and speaks to no terminal.
    """

    def __init__(self, message: str) -> None:
        super().__init__(escaped(message)[:MOST_CHARACTERS])
