"""The places of keys and values in fused projections, held against what transformers' own models compute by them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModel

from harness.families.finetune.anatomy import projections
from harness.families.finetune.projections import rows_of
from harness.judge.pretrained import repeated_linears, with_linears
from tests.families.finetune.tiny import WIDTH, configuration

FALCON = {"num_hidden_layers": 1, "alibi": False}
KINDS: Mapping[str, Mapping[str, Any]] = {
    "modernbert": {"global_attn_every_n_layers": 1, "num_hidden_layers": 1, "pad_token_id": 0},
    "gpt2": {"n_embd": WIDTH, "n_layer": 1, "n_head": 2},
    "gpt_neox": {"num_hidden_layers": 1},
    "bloom": {"n_layer": 1, "n_head": 2},
    "phi3": {"num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2},
    "falcon": {**FALCON, "multi_query": True, "new_decoder_architecture": False},
    "falcon, by head": {**FALCON, "multi_query": False, "new_decoder_architecture": False},
    "falcon, new": {**FALCON, "new_decoder_architecture": True, "num_attention_heads": 4, "num_kv_heads": 2},
}
"""Models of one layer, in each of the orders that are known."""


@pytest.mark.parametrize("kind", KINDS)
def test_queries_keys_and_values_are_told_apart(kind: str) -> None:
    torch.manual_seed(0)
    config = configuration(kind.partition(",")[0], **{"initializer_range": 0.5, **KINDS[kind]})
    model = with_linears(AutoModel.from_config(config)).eval()
    name = projections(repeated_linears(model))["fused"][0]
    linear, rows = model.get_submodule(name), rows_of(model, [name])[name]
    asked = torch.ones(linear.out_features, dtype=torch.bool)
    asked[torch.cat([rows.keys, rows.values])] = False
    queries = asked.nonzero().flatten()
    assert len(rows.keys) == len(rows.values)

    def hidden(change: Callable[[Tensor], Tensor] = lambda outputs: outputs) -> Tensor:
        hook = linear.register_forward_hook(lambda _, __, outputs: change(outputs.clone()))
        with torch.no_grad():
            states: Tensor = model(input_ids=torch.arange(4, 10)[None]).last_hidden_state[0]
        hook.remove()
        return states

    def scaled(factors: Mapping[float, Tensor]) -> Callable[[Tensor], Tensor]:
        def change(outputs: Tensor) -> Tensor:
            for factor, places in factors.items():
                outputs[..., places] *= factor
            return outputs

        return change

    def moved_at_first(places: Tensor) -> Callable[[Tensor], Tensor]:
        def change(outputs: Tensor) -> Tensor:
            outputs[:, 0, places] += 3 * torch.randn(len(places), generator=torch.Generator().manual_seed(1))
            return outputs

        return change

    usual = hidden()
    # scores are products of queries and keys, and of nothing else
    assert torch.allclose(hidden(scaled({2.0: queries, 0.5: rows.keys})), usual, atol=1e-4)
    assert not torch.allclose(hidden(scaled({2.0: rows.values})), usual, atol=1e-3)
    # the query of the first place is asked by that place alone, its key by all that follow
    assert torch.allclose(hidden(moved_at_first(queries))[1:], usual[1:], atol=1e-4)
    assert not torch.allclose(hidden(moved_at_first(rows.keys))[1:], usual[1:], atol=1e-3)


def test_an_order_that_is_not_known_is_left_out() -> None:
    model = with_linears(AutoModel.from_config(configuration("gpt2", **KINDS["gpt2"])))
    model.config.model_type = "another"
    name = projections(repeated_linears(model))["fused"][0]
    assert rows_of(model, [name]) == {}
    assert rows_of(nn.Sequential(nn.Linear(3, 9)), ["0"]) == {}
