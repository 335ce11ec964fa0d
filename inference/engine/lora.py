"""An adapter is added to the weights of a model, so that its answers cost what the model's alone do."""

from typing import Any

import torch
from safetensors.torch import load
from torch import nn

from inference.adapter_files import AdapterRefused, LoraFiles

PREFIX = "base_model.model."
FIRST, SECOND = ".lora_A.weight", ".lora_B.weight"


def merge(model: nn.Module, files: LoraFiles) -> None:
    """Add the product of each pair of matrices to its layer of `model`. Raises AdapterRefused.

    Where it does, `model` may be half changed and is not to be used. In 32 bits, rounded once at the end.
    """
    tensors = load(files.weights)
    for name, first in tensors.items():
        if name.endswith(FIRST):
            layer = _layer(model, name.removeprefix(PREFIX).removesuffix(FIRST))
            second = tensors[name.removesuffix(FIRST) + SECOND]
            _add(layer, first, second, files.scaling, name)


def _layer(model: nn.Module, name: str) -> nn.Linear:
    try:
        layer: Any = model.get_submodule(name)
    except AttributeError:
        layer = None
    if not isinstance(layer, nn.Linear):
        raise AdapterRefused("architecture", f"It changes {name}, which is no linear layer of this model.")
    if any(layer.weight is weight for weight in _embeddings(model)):
        # Adding to the one would change the other, which was never trained so.
        raise AdapterRefused("architecture", f"It changes {name}, which is the embedding too.")
    return layer


def _embeddings(model: nn.Module) -> list[nn.Parameter]:
    return [module.weight for module in model.modules() if isinstance(module, nn.Embedding)]


@torch.no_grad()
def _add(layer: nn.Linear, first: torch.Tensor, second: torch.Tensor, scaling: float, name: str) -> None:
    weight = layer.weight
    if (second.shape[0], first.shape[1]) != tuple(weight.shape):
        raise AdapterRefused("architecture", f"{name} is for a layer of another size than this model has.")
    place = {"device": weight.device, "dtype": torch.float32}
    change = scaling * (second.to(**place) @ first.to(**place))
    if not bool(torch.isfinite(change).all()):
        raise AdapterRefused("broken", f"{name} holds values that are no numbers: its training went astray.")
    weight.copy_(weight.to(torch.float32) + change)
