"""Users' own models in few bits: loading, packing the linear layers, and what the rest of the model weighs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification
from transformers.utils import logging

from harness.api import WARNING, NotApplicable
from harness.families.quantize.contract import Packed, QuantizedLinear, QuantizeTechnique, kept_bytes, stored_bytes
from harness.families.quantize.settings import OnModel
from harness.judge.pretrained import configured, repeated_linears, repeated_weights, tokenizer_of, with_linears
from harness.judge.whole import WEIGHTS, padding_of, require_finite, require_found

LEAST_SHARE: Final = 95.0
"""A warning tells where less of the weights in the model's layers, in per cent, is quantised."""


@dataclass(frozen=True, kw_only=True)
class QuantizedModel:
    """A model with the layers of a technique in the place of its linear ones.

    ``layers`` are those by name, ``left`` the names of linear layers that stay as they are by the technique's reason,
    ``share`` the per cent of the weights in the model's repeated layers that are quantised.
    """

    model: Any
    technique: QuantizeTechnique
    layers: Mapping[str, QuantizedLinear]
    left: Mapping[str, Sequence[str]]
    share: float

    @property
    def linear_bytes(self) -> int:
        """The bytes of all packed weights."""
        return sum(stored_bytes(layer.packed) for layer in self.layers.values())

    @property
    def model_bytes(self) -> int:
        """The bytes of all that the model and the technique keep in memory, each tensor once."""
        return kept_bytes(self.technique, chain(self.model.parameters(), self.model.buffers()))

    def notes(self) -> list[str]:
        """Return what is quantised and what is not."""
        told = f"{self.share:.1f} % of the weights in the model's layers are quantised"
        notes = [f"{WARNING}only {told}" if self.share < LEAST_SHARE else told]
        total = len(self.layers) + sum(map(len, self.left.values()))
        return notes + [
            f"{WARNING}{len(names)} of {total} linear layers stay as they are: {reason}"
            for reason, names in self.left.items()
        ]


def dtype_of(settings: OnModel, technique: QuantizeTechnique) -> torch.dtype:
    """Return the dtype of all in a model that is not quantised."""
    if settings.activations != "auto":
        dtype: torch.dtype = getattr(torch, settings.activations)
        return dtype
    scheme = technique.scheme
    return torch.float32 if scheme.kind == "cast" and scheme.dtype == torch.float32 else torch.bfloat16


def loaded(kind: Any, folder: Path, dtype: torch.dtype, device: str) -> Any:
    """Return a model of a class of transformers, such as ``AutoModelForCausalLM``, in evaluation mode.

    Raises UsageError where the files lack a part of it, which transformers would draw at random.
    """
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model, found = kind.from_pretrained(
        folder, config=configured(folder), dtype=dtype, output_loading_info=True, **WEIGHTS
    )
    require_found(folder, model, found)
    require_finite(folder, model)
    if kind is AutoModelForSequenceClassification:  # a decoder looks for the last token that is not this one
        filler = padding_of(folder, tokenizer_of(folder))
        model.config.pad_token_id = model.config.get_text_config().pad_token_id = filler
    return with_linears(model).requires_grad_(False).eval().to(device)


def quantized(
    model: Any,
    technique: QuantizeTechnique,
    settings: OnModel,
    require: Callable[[str, Tensor, Packed], None] = lambda *_: None,
) -> QuantizedModel:
    """Pack every linear layer of the repeated layers, and the head where the settings say so, in place.

    ``require`` is called with the name, the weight and the packed weight of each layer. A layer that the technique does
    not take stays as it is. Raises NotApplicable where it takes none.
    """
    names = repeated_linears(model)
    layers: dict[str, QuantizedLinear] = {}
    left: dict[str, list[str]] = {}
    counts = {name: repeated_weights(model, [name])[0] for name in names}
    _, all_weights = repeated_weights(model, [])
    for name in [*names, *(_head_of(model) if settings.head == "quantized" else [])]:
        linear = model.get_submodule(name)
        weight = linear.weight.detach().contiguous()
        try:
            packed = technique.quantize(weight)
        except NotApplicable as error:
            left.setdefault(str(error), []).append(name)
            continue
        require(name, weight, packed)
        layers[name] = QuantizedLinear(technique, packed, linear.bias).eval()
        model.set_submodule(name, layers[name])
    if not layers:
        raise NotApplicable("; ".join(left) or "the model has no linear layers inside of repeated ones")
    share = 100 * sum(counts.get(name, 0) for name in layers) / max(1, all_weights)
    return QuantizedModel(model=model, technique=technique, layers=layers, left=left, share=share)


def takes(model: nn.Module, argument: str) -> bool:
    """Return whether a model's forward pass has an argument of this name."""
    return argument in inspect.signature(model.forward).parameters


def _head_of(model: Any) -> list[str]:
    head = model.get_output_embeddings()
    return [name for name, module in model.named_modules() if module is head and isinstance(module, nn.Linear)]
