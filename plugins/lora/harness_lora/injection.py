"""Injects peft's layers into a model and folds them back, without renaming the model's own modules."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec

import torch
from torch import nn

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
        """Fold every tuner layer into its base layer, in place, and return the model of the original shape."""
        for name, layer in list(tuner_layers(model)):
            layer.merge()
            model.set_submodule(name, layer.get_base_layer())
        del model.peft_config
        return model


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


def tuner_layers(model: nn.Module) -> Iterator[tuple[str, BaseTunerLayer]]:
    """Yield name and layer of each tuner layer of an injected model, in the model's order."""
    for name, module in model.named_modules():
        if isinstance(module, BaseTunerLayer):
            yield name, module


def exactly(names: Iterable[str]) -> str:
    """Return the pattern that matches these module names and no others (peft matches a list by suffix too)."""
    return "|".join(re.escape(name) for name in names)
