"""Keeps what a technique has trained, in files that load without the harness: the adapter, and the task's head."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from safetensors.torch import save_file
from torch import nn

from harness.api import Json, NotApplicable
from harness.families.finetune.contract import FinetuneTechnique, Keeping, KeepingTechnique
from harness.families.finetune.problem import Problem
from harness.judge.bases import LoadableBase, PackedLinear
from harness.judge.experts import LinearExperts

HEAD_FILE: Final = "head.safetensors"
"""The parameters of the task's head by their names in the head's module, such as ``weight`` and ``bias``."""

QUANTIZATION_FILE: Final = "quantization.json"
"""The arguments of `transformers.BitsAndBytesConfig` by which a model is the one that the adapter was trained on."""

SAVED: Final = "saved: "
"""How the note begins that says what the adapter loads onto, where that is not the model as it was saved."""

NOT_SAVED: Final = "not saved: "
"""How the note begins that says why there is no adapter."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The folder of a case's files, and a function that makes the model as it was before it was adapted."""

    folder: Path
    base: Callable[[], nn.Module]


def keep(technique: FinetuneTechnique, model: nn.Module, problem: Problem, kept: Kept) -> Sequence[str]:
    """Write adapter and head into the folder; return a note that says why where there is no adapter to write."""
    root = problem.material.pretrained
    try:
        if root is None:
            raise NotApplicable("the model is the harness's own, which no library loads")
        if not isinstance(technique, KeepingTechnique):
            raise NotApplicable("no library has a format for it that loads onto the unchanged model")
        if any(isinstance(module, LinearExperts) for module in model.modules()):
            raise NotApplicable("its experts are linear layers here, and stacked in the model as it was saved")
        quantization = _quantization(problem, kept, root) if problem.task.packed else None
        kept.folder.mkdir(parents=True, exist_ok=True)
        technique.save(model, Keeping(folder=kept.folder, root=root, base=kept.base, task=problem.task))
    except NotApplicable as reason:
        return [f"{NOT_SAVED}{reason}"]
    for name in problem.task.head:
        head = {key: value.detach().cpu().contiguous() for key, value in model.get_submodule(name).state_dict().items()}
        save_file(head, kept.folder / HEAD_FILE)
    if quantization is None:
        return []
    (kept.folder / QUANTIZATION_FILE).write_text(f"{json.dumps(quantization, indent=2)}\n", encoding="utf-8")
    return [f"{SAVED}it loads onto the model that transformers packs as {QUANTIZATION_FILE} in the folder says"]


def _quantization(problem: Problem, kept: Kept, root: str) -> dict[str, Json]:
    """Return the arguments by which transformers packs the layers of a base and no others.

    Raises NotApplicable where it cannot: on the model as it was saved an adapter would predict something else.
    """
    base = problem.material.base
    if not isinstance(base, LoadableBase):
        raise NotApplicable(
            "it was trained beside packed weights that transformers does not make, and would predict something else on "
            "the model as it was saved"
        )
    linears = {
        name: type(module)
        for name, module in kept.base().get_submodule(root).named_modules()
        if isinstance(module, nn.Linear)
    }
    return {
        **base.quantization,
        "llm_int8_skip_modules": [name for name, kind in linears.items() if kind is not PackedLinear],
    }
