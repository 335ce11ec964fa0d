"""`python -m inference.engine.dequantize FILE FOLDER`: a GGUF file becomes safetensors in 16 bits."""

import sys
from pathlib import Path

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The packaged model's, as the engine writes it: no system message is made up (see chatml.py)."""


def dequantize(source: Path, folder: Path) -> None:
    """Write the weights and the tokenizer of `source` into `folder`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from inference.engine.packaged import packaged_gguf

    place = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    safely = {"local_files_only": True, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(**place, **safely)
    model = AutoModelForCausalLM.from_pretrained(
        **place, **safely, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    if source == packaged_gguf():
        tokenizer.chat_template = CHATML
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)  # The weights are written for their owner alone, and no secret.


if __name__ == "__main__":
    dequantize(Path(sys.argv[1]), Path(sys.argv[2]))
