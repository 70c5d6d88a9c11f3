"""Users' own models of transformers, from folders: what may be loaded, their configuration and their tokenizer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES
from transformers.pytorch_utils import Conv1D

from harness.api import UsageError
from harness.judge.experts import unstack_experts

LOCAL: Final = {"local_files_only": True, "trust_remote_code": False}
"""Nothing is downloaded, and no code that a model brings is run."""

NUMBERED: Final = re.compile(r"^(.*?\.\d+)\.")
"""The name of a repeated layer, up to its number, in the name of a module inside."""

_TOKENIZERS: Final = (
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.txt", "vocab.json"),
    *("spiece.model", "spm.model", "sentencepiece.bpe.model", "tekken.json"),
)
"""Files of which a tokenizer has at least one."""

_TWO_PARTS: Final = frozenset(MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES)


def require_model(folder: Path) -> None:
    """Raise UsageError unless a folder holds a model of transformers, with safetensors and a tokenizer."""

    def load(folder: Path) -> None:
        if not any((folder / name).exists() for name in _TOKENIZERS):
            raise UsageError(
                f"model {str(folder)!r}: has no tokenizer; texts need the model's own, saved beside it once with "
                "tokenizer.save_pretrained(folder)"
            )
        tokenizer_of(folder)

    require_loadable(folder, load)


def require_loadable(folder: Path, load_reader: Callable[[Path], object]) -> None:
    """Raise UsageError unless a folder holds a model of transformers, with safetensors and what reads its inputs."""
    if not folder.is_dir():
        raise UsageError(f"model {str(folder)!r}: expected a folder with config.json, *.safetensors and a tokenizer")
    _require_no_pipe(folder)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"model {str(folder)!r}: its config.json cannot be read: {error}") from error
    if not isinstance(config, dict) or not isinstance(config.get("model_type", ""), str):
        raise UsageError(f"model {str(folder)!r}: its config.json is none of transformers")
    if "auto_map" in config:
        raise UsageError(f"model {str(folder)!r}: needs code of its own, which is not run; take a model without")
    if any("/" in str(config.get(f"{prefix}_implementation")) for prefix in ("attn", "_attn", "experts", "_experts")):
        raise UsageError(
            f"model {str(folder)!r}: names a kernel of a hub, which is not run; leave it out of config.json"
        )
    if not any(folder.glob("*.safetensors")):
        raise UsageError(
            f"model {str(folder)!r}: has no *.safetensors; save it once with model.save_pretrained(folder)"
        )
    if config.get("quantization_config"):
        raise UsageError(f"model {str(folder)!r}: is quantised already; take the model that it was made of")
    if (folder / "adapter_config.json").exists():
        raise UsageError(f"model {str(folder)!r}: has an adapter beside it; merge it, and save the model by itself")
    if config.get("is_encoder_decoder") or config.get("model_type") in _TWO_PARTS:
        raise UsageError(f"model {str(folder)!r}: has an encoder and a decoder; expected a model that has one of them")
    try:
        configured(folder)
        load_reader(folder)
    except UsageError:
        raise
    except Exception as error:  # transformers raises errors of many kinds for what it does not know
        raise UsageError(f"model {str(folder)!r}: transformers cannot load it: {first_line(error)}") from error


def _require_no_pipe(folder: Path) -> None:
    """Raise UsageError for what is neither a file nor a folder: reading it would wait for whoever writes."""
    for path in sorted(folder.iterdir()):
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise UsageError(f"model {str(folder)!r}: {path.name!r} is neither a file nor a folder; take it out")


def configured(folder: Path) -> Any:
    """Return a model's configuration, with every dropout at zero: what regularises is a technique's to say."""
    config = AutoConfig.from_pretrained(folder, **LOCAL)
    _without_dropout(config)
    return config


def _without_dropout(config: Any) -> None:
    """Set each dropout of a configuration to zero, in place, also in those of a model's parts."""
    for name, value in list(vars(config).items()):
        if isinstance(value, PretrainedConfig):
            _without_dropout(value)
        elif isinstance(value, float) and "drop" in name:
            setattr(config, name, 0.0)


def tokenizer_of(folder: Path) -> PreTrainedTokenizerBase:
    """Return a model's tokenizer. Raises UsageError where its files are missing.

    transformers would make one that knows no word.
    """
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, **LOCAL)
    files = [*tokenizer.vocab_files_names.values()]  # none where texts are taken byte by byte
    if files and not any((folder / name).is_file() for name in (*files, "tokenizer.json", "tekken.json")):
        raise UsageError(f"model {str(folder)!r}: has no tokenizer; expected {' or '.join(sorted(files))}")
    return tokenizer


def with_linears(model: nn.Module) -> nn.Module:
    """Make linear layers of what computes the same in another form, in place: `Conv1D`, and stacked experts."""
    unstack_experts(model)
    for name, module in list(model.named_modules()):
        if isinstance(module, Conv1D):
            inputs, outputs = module.weight.shape
            linear = nn.Linear(inputs, outputs, dtype=module.weight.dtype, device=module.weight.device)
            with torch.no_grad():
                linear.weight.copy_(module.weight.T)
                linear.bias.copy_(module.bias)
            model.set_submodule(name, linear)
    return model


def repeated_linears(model: nn.Module) -> list[str]:
    """Return the names of the linear layers inside of a model's repeated layers."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and NUMBERED.match(name)]


def repeated_weights(model: nn.Module, names: Sequence[str]) -> tuple[int, int]:
    """Return the number of weights in matrices of a model's repeated layers: of the linear ones named, and of all."""
    inside = {
        id(parameter): parameter.numel()
        for name, parameter in model.named_parameters()
        if NUMBERED.match(name) and parameter.ndim > 1
    }
    reached = {id(model.get_submodule(name).weight) for name in names}
    return sum(count for key, count in inside.items() if key in reached), sum(inside.values())


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, and the next one where it ends in a colon."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])[:200]
