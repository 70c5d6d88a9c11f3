"""Experts as linear layers compute what transformers computes from their stacked weights."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AutoModelForCausalLM, MixtralConfig, Qwen3MoeConfig

from harness.judge.experts import LinearExperts, UsedExperts, unstack_experts

TINY = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
}
CONFIGS = {
    "mixtral": lambda experts, chosen: MixtralConfig(**TINY, num_local_experts=experts, num_experts_per_tok=chosen),
    "qwen3_moe": lambda experts, chosen: Qwen3MoeConfig(
        **TINY, num_experts=experts, num_experts_per_tok=chosen, moe_intermediate_size=12
    ),
}


def pair(kind: str, experts: int, chosen: int) -> tuple[nn.Module, nn.Module]:
    """Return a model in float64 as transformers makes it, and one with linear experts."""
    torch.manual_seed(experts)
    model = (
        AutoModelForCausalLM.from_config(CONFIGS[kind](experts, chosen), experts_implementation="eager").double().eval()
    )
    linear = copy.deepcopy(model)
    unstack_experts(linear)
    return model, linear


@settings(max_examples=12, deadline=None)
@given(
    kind=st.sampled_from(sorted(CONFIGS)), experts=st.integers(1, 6), chosen=st.integers(1, 6), tokens=st.integers(1, 9)
)
def test_outputs_and_gradients_are_those_of_the_stacked_experts(
    kind: str, experts: int, chosen: int, tokens: int
) -> None:
    model, linear = pair(kind, experts, min(chosen, experts))
    ids = torch.randint(50, (2, tokens))
    outputs = [each(input_ids=ids).logits for each in (model, linear)]
    assert torch.allclose(*outputs, rtol=1e-12, atol=1e-12)
    embedded = [each.get_input_embeddings().weight for each in (model, linear)]
    found = [torch.autograd.grad(out.square().sum(), weight)[0] for out, weight in zip(outputs, embedded, strict=True)]
    assert torch.allclose(*found, rtol=1e-9, atol=1e-9)


def test_the_weights_are_views_and_every_expert_is_reached() -> None:
    model, _ = pair("mixtral", 4, 2)
    stacked = model.get_submodule("model.layers.0.mlp.experts").down_proj
    unstack_experts(model)
    experts = model.get_submodule("model.layers.0.mlp.experts")
    assert isinstance(experts, LinearExperts)
    assert [expert.down_proj.weight.data_ptr() for expert in experts] == [part.data_ptr() for part in stacked]


def test_experts_that_few_steps_depend_on_are_known_by_their_parameters() -> None:
    _, linear = pair("mixtral", 5, 1)
    used = UsedExperts(linear)
    for _ in range(2):
        linear(input_ids=torch.tensor([[7, 7]])).logits.sum().backward()  # equal tokens have one expert in each layer
    linear(input_ids=torch.arange(50)[None])  # without a step
    experts = [module for module in linear.modules() if isinstance(module, LinearExperts)]
    assert len(used.seldom()) == sum(len(list(module.parameters())) for module in experts) - 2 * 2


@pytest.mark.parametrize("change", ["has_bias", "is_transposed"])
def test_experts_of_another_form_stay_as_they_are(change: str) -> None:
    model, _ = pair("mixtral", 3, 1)
    for layer in range(2):
        setattr(model.get_submodule(f"model.layers.{layer}.mlp.experts"), change, True)
    unstack_experts(model)
    assert not any(isinstance(module, LinearExperts) for module in model.modules())
