"""What holds for every technique, on a perceptron, a convolutional and a recurrent network."""

from __future__ import annotations

import pytest
import torch
from harness_dropout import register_techniques

from harness.api import NotApplicable

TECHNIQUES = [technique.id for technique in register_techniques()]
MODELS = {"mlp", "conv", "rnn"}
ELSEWHERE = {
    "spatial": {"conv"},
    "dropblock": {"conv"},
    "droppath": {"conv"},
    "layerdrop": {"conv"},
    "rnn-variational": {"rnn"},
    "rnn-fresh": {"rnn"},
    "zoneout": {"rnn"},
    "alpha": {"mlp", "conv"},
    "dropconnect": {"mlp", "conv"},
    "ghost-batchnorm": {"mlp", "conv"},
}
CASES = [(name, kind) for name in TECHNIQUES for kind in sorted(MODELS) if kind in ELSEWHERE.get(name, MODELS)]
NOTHING = [(name, kind) for name, kinds in ELSEWHERE.items() for kind in sorted(MODELS) if kind not in kinds]
OWN_START = {"alpha", "weight-compander"}
BY_DATA = {"none", "early-stopping", "max-norm"}
"""Whether these act, if they ever do, depends on how training goes."""


@pytest.mark.parametrize(("name", "kind"), NOTHING)
def test_says_that_it_has_nothing_to_act_on(problem, build, name, kind) -> None:
    with pytest.raises(NotApplicable, match="the model has no"):
        problem(kind).attached(build(name))


@pytest.mark.parametrize(("name", "kind"), CASES)
class TestEvery:
    def test_gives_the_same_numbers_for_the_same_seed(self, problem, build, trained, name, kind) -> None:
        first, _ = trained(name, kind)
        torch.manual_seed(99)  # whatever the global generator holds
        again, technique = problem(kind), build(name)
        assert again.train(technique) == first.losses
        assert torch.equal(again.predicted(technique), first.prediction)

    def test_draws_from_its_own_generator_only(self, trained, name, kind) -> None:
        one, _ = trained(name, kind)
        assert not one.drew_elsewhere

    def test_is_plain_training_where_it_is_neutral(self, problem, build, name, kind) -> None:
        neutral = build(name).neutral()
        if neutral is None:
            pytest.skip("no setting of it is the identity")
        plain, one = problem(kind), problem(kind)
        none = build("none")
        assert one.train(neutral) == plain.train(none)
        assert torch.equal(one.predicted(neutral), plain.predicted(none))
        assert not neutral.acted

    def test_says_that_it_acted(self, trained, name, kind) -> None:
        _, technique = trained(name, kind)
        assert technique.acted or name in BY_DATA

    def test_predicts_the_same_probabilities_every_time(self, trained, name, kind) -> None:
        one, technique = trained(name, kind)
        assert torch.equal(one.prediction, one.predicted(technique))
        torch.testing.assert_close(one.prediction.exp().sum(1), torch.ones(len(one.prediction)))

    def test_evaluates_without_drawing(self, trained, name, kind) -> None:
        one, _ = trained(name, kind)
        with torch.no_grad():
            assert torch.equal(one.model(one.inputs), one.model(one.inputs))

    def test_lists_every_trained_parameter_once(self, problem, build, name, kind) -> None:
        technique = build(name)
        model = problem(kind).attached(technique)
        listed = [id(parameter) for group in technique.parameter_groups(model, 1e-2) for parameter in group["params"]]
        assert len(listed) == len(set(listed))
        assert set(listed) == {id(parameter) for parameter in model.parameters() if parameter.requires_grad}

    def test_leaves_the_judges_start_alone(self, problem, build, name, kind) -> None:
        expected = [parameter.detach() for parameter in problem(kind).model.parameters()]
        model = problem(kind).attached(build(name))
        present = [parameter.detach() for parameter in model.parameters()]
        found = [
            any(parameter.shape == other.shape and torch.equal(parameter, other) for other in present)
            for parameter in expected
        ]
        assert all(found) or name in OWN_START

    def test_reports_curves_of_numbers(self, trained, name, kind) -> None:
        _, technique = trained(name, kind)
        assert all(isinstance(value, float) for curve in technique.curves.values() for value in curve)
