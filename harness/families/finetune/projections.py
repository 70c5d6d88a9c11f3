"""Which outputs of a fused projection are keys, and which values: transformers puts them together in several ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from harness.judge.architectures import Rows

_THIRDS: Final = frozenset({"modernbert", "gpt2"})
"""Kinds of models whose projections have all queries, then all keys, then all values, of one size each."""

_BY_HEAD: Final = frozenset({"gpt_neox", "bloom"})
"""Kinds of models whose projections have for each head its queries, its keys and its values."""


def rows_of(model: nn.Module, fused: Sequence[str]) -> dict[str, Rows]:
    """Return the outputs that are keys and values, by the names of fused projections; a layout not known is left out.

    The layout follows from the kind of the model, as its configuration says it.
    """
    inner = next((module for module in model.modules() if isinstance(module, PreTrainedModel)), None)
    if inner is None:
        return {}
    found = {}
    for name in fused:
        outputs = model.get_submodule(name).out_features
        assert isinstance(outputs, int)
        if (layout := _layout(inner.config, outputs)) is not None:
            found[name] = _rows(outputs, *layout)
    return found


def _layout(config: Any, outputs: int) -> tuple[int, int] | None:
    """Return the number of groups, and how many queries each has for every key; None where neither is known."""
    kind, heads = config.model_type, getattr(config, "num_attention_heads", 0)
    if kind in _THIRDS:
        groups, queries = 1, 1
    elif kind in _BY_HEAD:
        groups, queries = heads, 1
    elif kind == "phi3" and heads % config.num_key_value_heads == 0:  # all queries, then all keys, then all values
        groups, queries = 1, heads // config.num_key_value_heads
    elif kind == "falcon" and config.new_decoder_architecture:
        groups, queries = config.num_kv_heads, heads // config.num_kv_heads
    elif kind == "falcon":
        groups, queries = (1, heads) if config.multi_query else (heads, 1)
    else:
        return None
    return (groups, queries) if groups and outputs % (groups * (queries + 2)) == 0 else None


def _rows(outputs: int, groups: int, queries: int) -> Rows:
    """Return the places of keys and values in groups of queries, keys and values."""
    places: Tensor = torch.arange(outputs).view(groups, queries + 2, -1)
    return Rows(keys=places[:, -2].flatten(), values=places[:, -1].flatten())
