"""Putting peft's layers into a model, and folding them back, without renaming what the model had."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec

import torch
from peft import PeftConfig, VeraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.tuners.vera import VeraModel
from torch import nn

from harness_lora.adaptation import Adaptation, seeded

ADAPTER = "default"

if find_spec("transformers.conversion_mapping"):
    # The first injection into a model of transformers 5 compiles a table of its renamings, 0.1 s or more. Done at
    # import, it is neither part of a technique's initialisation nor done again in every process of a run.
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

    `peft.inject_adapter_in_model` keeps the model's names (a linear ``a.b`` becomes a tuner layer ``a.b`` whose
    ``base_layer`` it is) but freezes the head, which is undone here.
    """
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    with seeded(generator):
        if isinstance(config, VeraConfig):
            # its layers share two projections, for which peft refuses inject_adapter_in_model: the tuner object
            # would be lost. The layers hold the projections themselves, so nothing is.
            VeraModel(model, config, ADAPTER)
        else:
            inject_adapter_in_model(config, model, adapter_name=ADAPTER)
    for parameter, requires_grad in before:
        parameter.requires_grad_(requires_grad)


def tuner_layers(model: nn.Module) -> Iterator[tuple[str, BaseTunerLayer]]:
    """Names and tuner layers of an injected model, in the model's order."""
    for name, module in model.named_modules():
        if isinstance(module, BaseTunerLayer):
            yield name, module


def exactly(names: Iterable[str]) -> str:
    """The pattern that matches these module names and no others (a list would match suffixes too)."""
    return "|".join(re.escape(name) for name in names)
