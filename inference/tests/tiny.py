"""Tiny random models, and adapters for them as a training leaves them."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inference.tests.engine.test_torch_runner import make_model

__all__ = ["make_adapter", "make_model", "written_by_peft"]


@contextmanager
def peft_s_warnings() -> Iterator[None]:
    """peft 0.21 still asks transformers by a name that goes in its next version."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        yield


@peft_s_warnings()
def make_adapter(folder: Path, base: Path, *, seed: int = 1, **config: Any) -> Path:
    """An adapter of random numbers, large enough to change every answer, saved by peft into `folder`."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    wanted = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"], **config}
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base), LoraConfig(task_type="CAUSAL_LM", **wanted)
    )
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "lora_" in name:
                weights.normal_(std=0.5)
    model.save_pretrained(folder, save_embedding_layers=False)
    return folder


@peft_s_warnings()
def written_by_peft(base: Path, adapter: Path, prompt: list[int], *, tokens: int) -> list[int]:
    """What peft's model writes greedily after `prompt`."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)
    ids = torch.tensor([prompt])
    options = {"max_new_tokens": tokens, "do_sample": False, "attention_mask": torch.ones_like(ids)}
    return model.generate(input_ids=ids, **options)[0][len(prompt) :].tolist()
