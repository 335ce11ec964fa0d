"""Why a backup or a restore did not happen, in one line."""


class Refused(Exception):
    """Nothing was written, or the site is as it was. The message is a sentence for who runs the command."""
