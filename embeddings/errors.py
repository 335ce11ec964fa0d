"""What goes wrong in the process of the encoder."""


class EncoderError(Exception):
    """The encoder cannot be loaded; the text is one line that says what to do."""


class QueueFull(Exception):
    """As many texts wait as may wait."""


class EmbedderClosed(Exception):
    """The process is about to stop."""
