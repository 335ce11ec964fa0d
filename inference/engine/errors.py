"""What can go wrong with the local model. In a module of its own, which loads in any process in no time."""


class EngineError(Exception):
    """The local model cannot be served; the message is one sentence for the operator."""
