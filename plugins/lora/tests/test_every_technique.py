"""What holds for every technique, on a transformer and on a perceptron."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from harness_lora import register_techniques

from harness.api import NotApplicable

IDS = [technique.id for technique in register_techniques()]
UNFOLDABLE = {"houlsby"}
NOTHING_TO_ACT_ON = {("norm", "mlp")}
CASES = [(name, on) for on in ("vit", "mlp") for name in IDS if (name, on) not in NOTHING_TO_ACT_ON]


@pytest.fixture
def problem(request, on):
    return request.getfixturevalue(on)


@pytest.fixture
def technique(build, name):
    # the perceptron of the tests is too narrow for the eight components that EVA looks at by default
    return build(name, rank=2) if name == "eva" else build(name)


@pytest.mark.parametrize(("name", "on"), CASES)
class TestEvery:
    def test_starts_as_the_base_model_if_it_says_so(self, problem, technique) -> None:
        expected = problem.logits(problem.fresh())
        actual = problem.logits(problem.adapted(technique))
        assert technique.exact_at_start
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=2e-5)

    def test_leaves_the_head_to_the_judge(self, problem, technique) -> None:
        model = problem.adapted(technique)
        head = list(model.get_submodule(problem.head).parameters())
        assert all(parameter.requires_grad for parameter in head)
        listed = {id(p) for group in technique.parameter_groups(model, 1e-2) for p in group["params"]}
        assert not listed & {id(parameter) for parameter in head}

    def test_changes_what_it_lists_and_nothing_else(self, problem, technique) -> None:
        model = problem.adapted(technique)
        listed = {id(p) for group in technique.parameter_groups(model, 1e-2) for p in group["params"]}
        before = {name: value.clone() for name, value in model.state_dict().items()}
        problem.train(technique, model)
        after = model.state_dict()
        named = dict(model.named_parameters())
        for name, old in before.items():
            moves = name in named and (id(named[name]) in listed or name.startswith(f"{problem.head}."))
            assert moves or torch.equal(old, after[name]), name
        moved = {id(p) for name, p in named.items() if not torch.equal(before[name], after[name])}
        # the key's bias does not change a softmax, so its gradient may be exactly zero
        assert len(listed - moved) <= 2

    def test_trains_every_parameter_it_lists(self, problem, technique) -> None:
        model = problem.adapted(technique)
        problem.train(technique, model, steps=1)
        problem.loss(model, problem.batches[1]).backward()
        listed = [p for group in technique.parameter_groups(model, 1e-2) for p in group["params"]]
        assert all(parameter.grad is not None for parameter in listed)

    def test_merges_into_the_same_function(self, problem, technique) -> None:
        model = problem.adapted(technique)
        before = problem.logits(model)
        problem.train(technique, model)
        expected = problem.logits(model)
        assert (expected - before).abs().max() > 1e-3
        torch.testing.assert_close(problem.logits(technique.merge(model)), expected, rtol=1e-3, atol=1e-4)

    def test_merges_into_the_shape_of_the_base_model(self, problem, technique, name) -> None:
        model = problem.adapted(technique)
        problem.train(technique, model, steps=1)
        names = technique.merge(model).state_dict().keys()
        assert (names == problem.base.state_dict().keys()) == (name not in UNFOLDABLE)

    def test_keeps_the_names_of_the_modules(self, problem, technique) -> None:
        model = problem.adapted(technique)
        kept = {name for name, _ in model.named_modules()}
        assert kept >= {name for name, _ in problem.base.named_modules()}

    def test_the_same_seed_gives_the_same_start(self, problem, technique) -> None:
        torch.manual_seed(1)
        first = problem.adapted(technique, seed=7).state_dict()
        torch.manual_seed(2)
        second = problem.adapted(technique, seed=7).state_dict()
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_leaves_the_global_generator_alone(self, problem, technique) -> None:
        state = torch.get_rng_state()
        problem.adapted(technique)
        assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ["lora", "init-a", "init-b", "dora", "orthogonal", "eva-control", "vera", "houlsby"])
def test_another_seed_gives_another_start(vit, build, name) -> None:
    first = vit.adapted(build(name), seed=1).state_dict()
    second = vit.adapted(build(name), seed=2).state_dict()
    assert any(not torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("name", "params", "problem"), [
    ("norm", {}, "mlp"),
    ("pissa", {"rank": 17}, "mlp"),
    ("milora", {"rank": 17}, "mlp"),
    ("eva", {"rank": 16}, "mlp"),
    ("miss", {"rank": 17}, "mlp"),
    ("bone", {"rank": 3}, "mlp"),
])  # fmt: skip
def test_says_when_it_does_not_apply(build, request, name, params, problem) -> None:
    with pytest.raises(NotApplicable):
        request.getfixturevalue(problem).adapted(build(name, **params))


def row_of_zeros(weight: torch.Tensor) -> None:
    weight[0] = 0


def layer_of_zeros(weight: torch.Tensor) -> None:
    weight.zero_()


def row_of_almost_zeros(weight: torch.Tensor) -> None:
    weight[0] = 1e-30


@pytest.mark.parametrize("change", [row_of_zeros, layer_of_zeros, row_of_almost_zeros])
@pytest.mark.parametrize("name", [name for name in IDS if (name, "mlp") not in NOTHING_TO_ACT_ON])
def test_rows_without_a_direction_are_adapted_or_refused(mlp, build, name, change) -> None:
    base = copy.deepcopy(mlp.base)
    with torch.no_grad():
        change(base.layers[0].weight)
    problem = replace(mlp, base=base)
    technique = build(name, rank=2) if name == "eva" else build(name)
    try:
        model = problem.adapted(technique)
    except NotApplicable:
        return
    torch.testing.assert_close(problem.logits(model), problem.logits(problem.fresh()), rtol=1e-4, atol=2e-5)
    problem.train(technique, model)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    expected = problem.logits(model)
    assert expected.isfinite().all()
    assert expected.abs().max() < 100
    torch.testing.assert_close(problem.logits(technique.merge(model)), expected, rtol=1e-3, atol=1e-4)
