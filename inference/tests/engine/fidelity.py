"""How often the fast engine chooses the token that transformers would, by teacher forcing.

`python -m inference.tests.engine.fidelity` measures 50 prompts of 128 tokens (a few minutes); the
slow test measures a part. Exact equality of texts is no test: the reference has exact ties.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inference.engine.chat import Message
from inference.engine.chatml import ChatMLTokenizer
from inference.engine.load import CONTEXT, SLOTS, cores
from inference.engine.onnx_runner import OnnxRunner
from inference.engine.prepare import TOKENIZER, packaged_gguf, prepared_model, read_shape

TOPICS = (
    "the capital of France", "photosynthesis", "a dog who finds a key", "exercise", "Romeo and Juliet",
    "making tea", "viruses and bacteria", "asking for a day off", "Jane Austen", "red fruit",
    "the seasons", "learning a language", "machine learning", "the water cycle", "autumn",
    "bicycles", "boiling water", "recursion", "the colour of the sky", "packing for the beach",
    "octopuses", "how computers store numbers", "inflation", "a wooden chair", "the planets",
    "good sleep", "the rules of chess", "breakfast", "a sunset", "vaccines",
    "constitutions", "adding two numbers in Python", "high mountains", "flying", "a new job",
    "gravity", "the greenhouse effect", "baking bread", "the heart", "a cat",
    "the internet", "honeybees", "magnets", "friendship", "databases",
    "the Industrial Revolution", "growing tomatoes", "democracy", "a mystery novel", "the speed of light",
)  # fmt: skip


@dataclass(frozen=True)
class Fidelity:
    """Of `compared` tokens where the reference's margin is at least MARGIN, `equal` were the same."""

    equal: int
    compared: int
    tokens: int

    @property
    def share(self) -> float:
        return self.equal / self.compared


MARGIN = 0.1


def measure(models_root: Path, *, prompts: int, tokens: int) -> Fidelity:
    """Let transformers in bfloat16 write `tokens` tokens to each prompt, and force the engine along."""
    folder = prepared_model(models_root)
    runner = OnnxRunner(folder, read_shape(folder), slots=SLOTS, context=CONTEXT, threads=cores())
    tokenizer = ChatMLTokenizer.from_file(folder / TOKENIZER)
    texts = [Message("user", f"Tell me something about {topic}.") for topic in TOPICS[:prompts]]
    starts = [tokenizer.prompt([text])[0] for text in texts]
    written = [reference(model, start, tokens) for model in [reference_model()] for start in starts]
    equal = compared = 0
    for first in range(0, prompts, SLOTS):
        chosen = forced(
            runner, starts[first : first + SLOTS], [ids for ids, _, _ in written[first : first + SLOTS]]
        )
        for choice, (_, best, margins) in zip(chosen, written[first : first + SLOTS], strict=True):
            clear = margins >= MARGIN
            equal += int((choice == best)[clear].sum())
            compared += int(clear.sum())
    return Fidelity(equal, compared, prompts * tokens)


def reference_model():
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    gguf = packaged_gguf()
    return AutoModelForCausalLM.from_pretrained(
        str(gguf.parent),
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
    )


def reference(model, start, tokens):
    """The tokens that the reference writes, its best token at each place, and the margin there."""
    import torch

    with torch.inference_mode():
        ids = torch.tensor([start])
        options = {"max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": False}
        whole = model.generate(ids, attention_mask=torch.ones_like(ids), **options)
        logits = model(whole).logits[0, len(start) - 1 : -1].float()
        best = logits.topk(2)
    margins = (best.values[:, 0] - best.values[:, 1]).numpy()
    return whole[0, len(start) :].tolist(), best.indices[:, 0].numpy(), margins


def forced(runner, starts, continuations):
    """The engine's best token at each place of each continuation, all in one batch."""
    chosen = [[int(runner.prefill(row, start, 0).argmax())] for row, start in enumerate(starts)]
    for step in range(len(continuations[0]) - 1):
        lengths = [len(start) + step for start in starts]
        logits = runner.decode([ids[step] for ids in continuations], lengths)
        for row, best in enumerate(logits.argmax(axis=-1)):
            chosen[row].append(int(best))
    return np.array(chosen)


if __name__ == "__main__":
    result = measure(Path(sys.argv[1]), prompts=50, tokens=128)
    sys.stdout.write(f"{result.share:.4f} of {result.compared} (of {result.tokens} tokens)\n")
