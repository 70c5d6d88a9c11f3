"""Injects peft's layers into a model and folds them back, without renaming the model's own modules."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType
from typing import Final

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from harness.families.finetune.contract import Keeping
from harness.judge.bases import PackedLinear
from harness_lora.adaptation import Adaptation, seeded
from harness_lora.library import BaseTunerLayer, PeftConfig, VeraConfig, VeraModel, inject_adapter_in_model

ADAPTER = "default"

if find_spec("transformers.conversion_mapping"):
    # The first injection into a model of transformers 5 compiles a table of its renamings, 0.1 s or more. Compiled
    # at import, the table is neither part of a technique's initialisation nor compiled in every process of a run.
    import_module("transformers.conversion_mapping").get_checkpoint_conversion_mapping("vit")


class Injected(Adaptation):
    """A technique made of peft's tuner layers: ``merge`` folds them and restores the plain layers."""

    def merge(self, model: nn.Module) -> nn.Module:
        """Fold every tuner layer into its base layer, in place, and return the model of the original shape.

        Tuner layers stay beside packed weights.
        """
        kept = False
        for name, layer in list(tuner_layers(model)):
            if isinstance(layer.get_base_layer(), PackedLinear):
                kept = True
                continue
            layer.merge()
            model.set_submodule(name, layer.get_base_layer())
        if not kept:
            del model.peft_config
        return model

    def save(self, model: nn.Module, keeping: Keeping) -> None:
        """Write adapter_config.json and adapter_model.safetensors, which `peft.PeftModel.from_pretrained` loads."""
        save_adapter(model, self.saved_config(model), keeping)

    def saved_config(self, model: nn.Module) -> PeftConfig:
        """Return the configuration to load the adapter by: with plain initialisations, as loading replaces them."""
        config: PeftConfig = copy.deepcopy(vars(model)["peft_config"][ADAPTER])
        if hasattr(config, "init_lora_weights"):
            config.init_lora_weights = True
        return config


def inject(model: nn.Module, config: PeftConfig, generator: torch.Generator) -> None:
    """Replace the config's target modules by tuner layers, in place, initialised from ``generator``.

    `peft.inject_adapter_in_model` keeps the model's names (a linear ``a.b`` becomes the ``base_layer`` of a tuner
    layer ``a.b``) but freezes the head; this function restores the head's ``requires_grad``.
    """
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    with seeded(generator):
        if isinstance(config, VeraConfig):
            # VeRA's layers share two projections, so peft refuses inject_adapter_in_model, which would lose the tuner
            # object that owns them. The layers hold references to the projections, so the object is not needed.
            VeraModel(model, config, ADAPTER)
        else:
            inject_adapter_in_model(config, model, adapter_name=ADAPTER)
    for parameter, requires_grad in before:
        parameter.requires_grad_(requires_grad)


def save_adapter(
    model: nn.Module, config: PeftConfig, keeping: Keeping, changed: Mapping[str, Tensor] = MappingProxyType({})
) -> None:
    """Write an adapter in peft's format; ``changed`` replaces tensors by their names in the file."""
    root = model.get_submodule(keeping.root)
    prefix = f"{keeping.root}." if keeping.root else ""
    for name in ("target_modules", "feedforward_modules"):
        if (pattern := getattr(config, name, None)) is not None:
            setattr(config, name, inside(pattern, prefix))
    for name in ("rank_pattern", "alpha_pattern"):
        if found := getattr(config, name, None):
            setattr(config, name, {inside(pattern, prefix): value for pattern, value in found.items()})
    config.inference_mode = True
    config.base_model_name_or_path = getattr(getattr(root, "config", None), "_name_or_path", None)
    tensors = {name: value for name, value in root.state_dict().items() if f".{ADAPTER}" in name}
    named = {f"{BASE}{name}".replace(f".{ADAPTER}", ""): value for name, value in tensors.items()}
    named = {name.replace("lora_magnitude_vector.weight", "lora_magnitude_vector"): named[name] for name in named}
    saved = {name: value.detach().cpu().contiguous().clone() for name, value in {**named, **changed}.items()}
    save_file(saved, keeping.folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(str(keeping.folder))


def inside(pattern: str, prefix: str) -> str:
    """Return a pattern of `exactly` for the names within the module that a prefix of them names."""
    return pattern.replace(re.escape(prefix), "") if prefix else pattern


BASE: Final = "base_model.model."
"""How the names of an adapter's tensors begin in a file of peft."""


def tuner_layers(model: nn.Module) -> Iterator[tuple[str, BaseTunerLayer]]:
    """Yield name and layer of each tuner layer of an injected model, in the model's order."""
    for name, module in model.named_modules():
        if isinstance(module, BaseTunerLayer):
            yield name, module


def exactly(names: Iterable[str]) -> str:
    """Return the pattern that matches these module names and no others (peft matches a list by suffix too)."""
    return "|".join(re.escape(name) for name in names)
