"""llmsite: a site that people run themselves to use, ground, watch and improve language models."""

__version__ = "0.1.0"
