"""Workloads of rounded inputs: planted outliers change nothing, networks are what they say, faults are caught."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from harness.api import Incorrect
from harness.families.quantize_activations.workloads import (
    OutlierChannels,
    ResidualActivations,
    ResidualAdam,
    ResidualMuon,
    kurtosis,
)
from harness.judge.trained_digits import trained_digits
from tests.declared import specs
from tests.families.conftest import Context

SPECS = specs("quantize-activations")


class Same:
    def layer(self, linear: nn.Linear, inputs: Tensor) -> nn.Module:
        return linear

    def unrounded(self, linear: nn.Linear, inputs: Tensor) -> nn.Module:
        return linear


class Coarse(Same):
    """Inputs in steps of a hundredth of the largest."""

    def layer(self, linear: nn.Linear, inputs: Tensor) -> nn.Module:
        step = inputs.abs().max() / 100
        made = nn.Module()
        made.forward = lambda x: linear((x / step).round() * step)  # type: ignore[method-assign]
        return made


def test_planted_outliers_change_no_output_but_what_has_to_be_rounded(context: Context) -> None:
    case = context("outlier-channels")
    plain, subject = trained_digits(0, case.cache), OutlierChannels().subject(0, case.cache)
    torch.testing.assert_close(subject.model(plain.inputs), plain.logits(), rtol=1e-4, atol=1e-4)
    found = OutlierChannels().evaluate(Same(), case).metrics
    assert set(found) == set(SPECS["outlier-channels"].metrics)
    assert found["accuracy_drop"] == found["output_error"] == 0
    assert found["activation_kurtosis"] > 50
    hidden = kurtosis(plain.model(plain.inputs))
    assert hidden < 10


def test_rounding_costs_more_where_outliers_are(context: Context) -> None:
    case = context("outlier-channels")
    found = OutlierChannels().evaluate(Coarse(), case).metrics
    plain = trained_digits(0, case.cache)
    assert found["output_error"] > 0.1
    assert found == OutlierChannels().evaluate(Coarse(), case).metrics
    assert plain.accuracy(plain.logits()) > 93


@pytest.mark.parametrize(("workload", "gains"), [(ResidualAdam, 64), (ResidualMuon, 1)])
def test_residual_networks_learn_the_digits_with_the_norms_of_their_recipe(
    workload: type[ResidualActivations], gains: int, context: Context
) -> None:
    subject = workload().subject(0, context("residual-adam").cache)
    logits = subject.model(subject.inputs)
    assert (logits.argmax(1) == subject.labels).float().mean() > 0.93
    assert subject.model.get_parameter("norm.gain").numel() == gains
    assert len(subject.linears) == 2 + 2 * 2


def test_phases_are_the_declared_ones(context: Context) -> None:
    trial = OutlierChannels().open(Same(), context("outlier-channels"))
    assert tuple(trial.phases) == tuple(SPECS["outlier-channels"].phases)
    _, found = trial.phases["infer"].run()  # type: ignore[misc]  # a batch and its outputs
    assert isinstance(found, Tensor)
    assert found.shape == (trial.phases["infer"].samples, 5)


@pytest.mark.parametrize("values", [torch.randn(200_000, generator=torch.Generator().manual_seed(0)) * 3 + 5])
def test_kurtosis_is_3_for_normal_values_and_scipy_s_for_any(values: Tensor) -> None:
    from scipy import stats

    assert kurtosis(values) == pytest.approx(3, abs=0.05)
    assert kurtosis(values.exp().clamp(max=1e6)) == pytest.approx(
        stats.kurtosis(values.exp().clamp(max=1e6).double().numpy(), fisher=False)
    )


class Unfaithful(Same):
    def unrounded(self, linear: nn.Linear, inputs: Tensor) -> nn.Module:
        made = nn.Module()
        made.forward = lambda x: linear(x) * 1.001  # type: ignore[method-assign]
        return made


class Random(Same):
    def layer(self, linear: nn.Linear, inputs: Tensor) -> nn.Module:
        made = nn.Module()
        made.forward = lambda x: linear(x + torch.randn_like(x))  # type: ignore[method-assign]
        return made


class Careless(Same):
    def layer(self, linear: nn.Linear, inputs: Tensor) -> nn.Module:
        linear.weight.data.mul_(2)
        return linear


class Viewing(Same):
    """Reads numbers from where the inputs begin, whatever their strides."""

    def layer(self, linear: nn.Linear, inputs: Tensor) -> nn.Module:
        made = nn.Module()
        made.forward = lambda x: linear(x.as_strided(x.shape, (x.shape[1], 1)))  # type: ignore[method-assign]
        return made


class Overwriting(Same):
    """Uses inputs that are no contiguous ones as memory for its own."""

    def layer(self, linear: nn.Linear, inputs: Tensor) -> nn.Module:
        def forward(x: Tensor) -> Tensor:
            found: Tensor = linear(x)
            if not x.is_contiguous():
                x.zero_()
            return found

        made = nn.Module()
        made.forward = forward  # type: ignore[method-assign]
        return made


class Factor(nn.Module):
    """A layer times a number that its copies forget."""

    def __init__(self, linear: nn.Linear, factor: float) -> None:
        super().__init__()
        self.linear, self.factor = linear, factor

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.linear(x) * self.factor
        return found

    def __deepcopy__(self, memo: dict[int, object]) -> Factor:
        return Factor(self.linear, 1.0)


class Forgetful(Same):
    def layer(self, linear: nn.Linear, inputs: Tensor) -> nn.Module:
        return Factor(linear, 1.001)


class Unloadable(Same):
    """Has a tensor of another length each time that it is made."""

    made = 0

    def layer(self, linear: nn.Linear, inputs: Tensor) -> nn.Module:
        self.made += 1
        layer = nn.Linear(linear.in_features, linear.out_features).requires_grad_(False)
        layer.load_state_dict(linear.state_dict())
        layer.register_buffer("seen", torch.zeros(self.made))
        return layer


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        (Unfaithful, "without rounding"),
        (Random, "another output"),
        (Careless, "was changed"),
        (Viewing, r"off by .* where its inputs lie otherwise in memory: columns of a wider matrix"),
        (Overwriting, "changes its inputs"),
        (Forgetful, "another output in a copy"),
        (Unloadable, "does not load the state of a layer made alike"),
    ],
)
def test_faults_are_caught(fault: type[Same], found: str, context: Context) -> None:
    with pytest.raises(Incorrect, match=found):
        OutlierChannels().check(fault(), context("outlier-channels"))
