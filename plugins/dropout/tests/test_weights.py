"""Linear layers with dropped, companded or sampled weights, against NumPy, SciPy and PyTorch's optimiser."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from harness_dropout.learned import ConcreteLinear, VariationalLinear
from harness_dropout.weights import CompanderLinear, DropConnectLinear
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special, stats
from torch import nn

from harness.api import UsageError

RATES = st.floats(0.02, 0.9)
SEEDS = st.integers(0, 2**31)
SIZES = st.tuples(st.integers(1, 9), st.integers(1, 6), st.integers(1, 5))


def drawn(seed):
    return torch.Generator().manual_seed(seed)


def linear(inputs, outputs, seed, *, bias=True):
    made = nn.Linear(inputs, outputs, bias=bias, dtype=torch.float64)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=drawn(seed), dtype=torch.float64))
    return made


def values(shape, seed):
    return torch.randn(shape, generator=drawn(seed + 1), dtype=torch.float64)


def dropconnect(made, rate, seed=0, masks=0, *, moments=False):
    return DropConnectLinear(made, rate, masks, drawn(seed), moments=moments)


class TestDropConnect:
    @given(rate=RATES, sizes=SIZES, seed=SEEDS, bias=st.booleans())
    def test_every_example_has_a_mask_of_its_own(self, rate, sizes, seed, bias) -> None:
        n, inputs, outputs = sizes
        made, x = linear(inputs, outputs, seed, bias=bias), values((n, inputs), seed)
        masks = torch.rand((n, outputs, inputs), generator=drawn(seed)) < 1 - rate
        expected = np.stack([x[k].numpy() @ (made.weight.detach() * masks[k]).numpy().T for k in range(n)]) / (1 - rate)
        if bias:
            expected = expected + made.bias.detach().numpy()
        np.testing.assert_allclose(dropconnect(made, rate, seed)(x).detach().numpy(), expected, rtol=1e-9, atol=1e-12)

    @given(n=st.integers(1, 13), masks=st.integers(1, 6), seed=SEEDS)
    def test_neighbours_share_one_of_few_masks(self, n, masks, seed) -> None:
        made = linear(20, 20, seed, bias=False)
        found = dropconnect(made, 0.5, seed, masks)(torch.ones(n, 20, dtype=torch.float64))
        groups, counts = found.detach().round(decimals=9).unique_consecutive(dim=0, return_counts=True)
        assert len(groups) <= masks
        assert counts.max() == math.ceil(n / min(masks, n))

    @given(seed=SEEDS, time=st.integers(1, 4))
    def test_positions_of_a_sequence_share_their_examples_mask(self, seed, time) -> None:
        made = linear(3, 2, seed)
        x = values((5, 1, 3), seed).expand(5, time, 3)
        found = dropconnect(made, 0.5, seed)(x)
        assert found.shape == (5, time, 2)
        torch.testing.assert_close(found, found[:, :1].expand_as(found))

    def test_the_mean_over_masks_is_the_plain_layer(self) -> None:
        made, x = linear(6, 3, 1), values((1, 6), 1).expand(20_000, 6)
        found = dropconnect(made, 0.4)(x).detach()
        error = found.std(0) / math.sqrt(len(x))
        assert ((found.mean(0) - made(x[0]).detach()).abs() < 4 * error).all()
        assert torch.equal(dropconnect(made, 0.4).eval()(x), made(x))

    def test_inference_is_the_mean_of_a_rectified_normal_of_the_masks_moments(self) -> None:
        made, x, rate = linear(5, 4, 2), values((3, 5), 2), 0.3
        found = dropconnect(made, rate, moments=True).eval()(x).detach().numpy()
        weight = made.weight.detach().numpy()
        mean = made(x).detach().numpy()
        deviation = np.sqrt(rate / (1 - rate) * (x.numpy() ** 2 @ weight.T**2))
        for at in np.ndindex(found.shape):
            normal = stats.norm(mean[at], deviation[at])
            expected, _ = integrate.quad(lambda u, n=normal: u * n.pdf(u), 0, mean[at] + 12 * deviation[at] + 1)
            assert found[at] == pytest.approx(expected, abs=1e-6)

    def test_moments_are_those_of_the_masks(self) -> None:
        made, x, rate = linear(40, 1, 3, bias=False), values((1, 40), 3).expand(20_000, 40), 0.5
        sampled = dropconnect(made, rate)(x).detach()
        matched = dropconnect(made, rate, moments=True).eval()(x[:1]).item()
        assert sampled.relu().mean().item() == pytest.approx(matched, abs=0.05 * sampled.std().item())

    def test_no_spread_leaves_the_rectified_mean(self) -> None:
        made = linear(4, 3, 4)
        x = torch.zeros(1, 4, dtype=torch.float64)
        found = dropconnect(made, 0.5, moments=True).eval()(x)
        torch.testing.assert_close(found, made.bias.relu()[None])

    def test_an_unknown_inference_is_a_usage_error(self, build) -> None:
        with pytest.raises(UsageError, match="inference = 'best'"):
            build("dropconnect", inference="best")


class TestCompander:
    @given(headroom=st.floats(1.01, 8), slope=st.floats(0.2, 5), seed=SEEDS)
    def test_starts_at_the_weights_it_is_given(self, headroom, slope, seed) -> None:
        made = linear(5, 4, seed)
        torch.testing.assert_close(CompanderLinear(made, headroom, slope).weight, made.weight)

    @given(headroom=st.floats(1.01, 8), slope=st.floats(0.2, 5), seed=SEEDS)
    def test_weights_are_a_arctan_of_v_over_b(self, headroom, slope, seed) -> None:
        made = linear(5, 4, seed)
        layer = CompanderLinear(made, headroom, slope)
        latent = 10 * values((4, 5), seed)
        with torch.no_grad():
            layer.latent.copy_(latent)
        largest = np.abs(made.weight.detach().numpy()).max()
        a = headroom * largest * 2 / np.pi
        b = a / slope
        np.testing.assert_allclose(layer.weight.detach().numpy(), a * np.arctan(latent.numpy() / b))
        assert layer.weight.abs().max() <= headroom * largest

    def test_moves_fastest_around_zero(self) -> None:
        layer = CompanderLinear(linear(5, 4, 1), 2.0, 3.0)
        with torch.no_grad():
            layer.latent[0, 0] = 0.0
        (gradient,) = torch.autograd.grad(layer.weight.sum(), layer.latent)
        assert gradient[0, 0].item() == pytest.approx(3.0)
        assert gradient.max() == gradient[0, 0]

    @pytest.mark.parametrize(("name", "value"), [("headroom", 1.0), ("slope", 0.0), ("headroom", 0.5)])
    def test_a_value_without_a_start_is_refused(self, build, name, value) -> None:
        with pytest.raises(UsageError, match=name):
            build("weight-compander", **{name: value})


class TestVariational:
    @given(rate=st.floats(0.02, 0.5), sizes=SIZES, seed=SEEDS)
    def test_samples_outputs_by_local_reparameterisation(self, rate, sizes, seed) -> None:
        n, inputs, outputs = sizes
        made, x = linear(inputs, outputs, seed), values((n, inputs), seed)
        noise = torch.randn((n, outputs), generator=drawn(seed)).double().numpy()
        spread = rate / (1 - rate) * (x.numpy() ** 2 @ made.weight.detach().numpy().T ** 2)
        expected = made(x).detach().numpy() + np.sqrt(spread) * noise
        found = VariationalLinear(made, rate, drawn(seed))
        np.testing.assert_allclose(found(x).detach().numpy(), expected, rtol=1e-6, atol=1e-9)
        assert torch.equal(found.eval()(x), made(x))

    def test_the_outputs_have_the_moments_of_noisy_weights(self) -> None:
        made, x, rate, count = linear(4, 3, 1), values((1, 4), 1), 0.3, 40_000
        noisy = made.weight * (1 + math.sqrt(rate / (1 - rate)) * torch.randn(count, 3, 4, generator=drawn(9)))
        expected = (noisy @ x[0]).detach() + made.bias.detach()
        found = VariationalLinear(made, rate, drawn(1))(x.expand(count, 4)).detach()
        torch.testing.assert_close(found.mean(0), expected.mean(0), rtol=0, atol=0.05)
        torch.testing.assert_close(found.var(0), expected.var(0), rtol=0.05, atol=0)

    @pytest.mark.parametrize("alpha", [0.05, 0.3, 0.6, 1.0])
    def test_the_divergence_is_that_from_the_log_uniform_prior(self, alpha) -> None:
        def exact(a):
            normal = stats.norm(1, math.sqrt(a))
            log = integrate.quad(lambda e: math.log(abs(e)) * normal.pdf(e), -12, 14, points=[0.0], limit=400)[0]
            return log - 0.5 * math.log(a)

        def cubic(a):
            layer = VariationalLinear(linear(3, 2, 1), 0.5, drawn(0))
            with torch.no_grad():
                layer.log_alpha.fill_(math.log(a))
            return layer.divergence().item() / 6

        # the paper's polynomial is good to about a hundredth of a nat a weight
        assert cubic(alpha) - cubic(0.1) == pytest.approx(exact(alpha) - exact(0.1), abs=0.02)

    def test_alpha_is_learned_and_stays_at_most_one(self, problem, build) -> None:
        technique = build("variational", rate=0.49, kl=100.0)
        problem("mlp").train(technique)
        for curve in technique.curves.values():
            assert curve[-1] == 1.0
            assert len(curve) == 4

    def test_zeros_give_no_undefined_gradient(self) -> None:
        layer = VariationalLinear(linear(4, 3, 1, bias=False), 0.3, drawn(1))
        x = torch.zeros(2, 4, dtype=torch.float64, requires_grad=True)
        layer(x).sum().backward()
        assert all(torch.isfinite(gradient).all() for gradient in (x.grad, layer.weight.grad, layer.log_alpha.grad))


class TestConcrete:
    @given(rate=RATES, sizes=SIZES, seed=SEEDS, temperature=st.floats(0.05, 2))
    def test_multiplies_inputs_by_a_relaxed_mask(self, rate, sizes, seed, temperature) -> None:
        n, inputs, outputs = sizes
        made, x = linear(inputs, outputs, seed), values((n, inputs), seed)
        uniform = torch.rand((n, inputs), generator=drawn(seed)).clamp(1e-7, 1 - 1e-7).double().numpy()
        z = special.expit((special.logit(rate) + special.logit(uniform)) / temperature)
        expected = (x.numpy() * (1 - z) / (1 - rate)) @ made.weight.detach().numpy().T + made.bias.detach().numpy()
        found = ConcreteLinear(made, rate, temperature, drawn(seed))
        np.testing.assert_allclose(found(x).detach().numpy(), expected, rtol=1e-3, atol=1e-3)
        assert torch.equal(found.eval()(x), made(x))

    @given(rate=RATES, seed=SEEDS)
    def test_a_cold_mask_is_bernoulli(self, rate, seed) -> None:
        layer = ConcreteLinear(linear(200, 1, seed), rate, 1e-3, drawn(seed))
        found = layer.disturb(torch.ones(50, 200, dtype=torch.float64)).detach() * (1 - rate)
        hard = (torch.rand(50, 200, generator=drawn(seed)) < 1 - rate).double()
        assert ((found - hard).abs() > 1e-6).double().mean() < 0.02

    @given(rate=RATES, length=st.floats(0, 3), seed=SEEDS)
    def test_the_divergence_is_the_papers(self, rate, length, seed) -> None:
        made = linear(6, 3, seed)
        entropy = stats.bernoulli(rate).entropy()
        squares = (made.weight.detach().numpy() / (1 - rate)) ** 2  # the paper's M
        expected = length**2 * (1 - rate) / 2 * squares.sum() - 6 * entropy
        found = ConcreteLinear(made, rate, 0.1, drawn(seed)).divergence(length).item()
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-9)

    def test_the_rates_move(self, problem, build) -> None:
        technique = build("concrete", rate=0.2)
        problem("mlp").train(technique)
        for curve in technique.curves.values():
            assert len(curve) == 4
            assert abs(curve[-1] - 0.2) > 0.01

    def test_the_rates_learn_at_their_own_speed(self, problem, build) -> None:
        technique = build("concrete", speed=7.0)
        _, own = technique.parameter_groups(problem("mlp").attached(technique), 0.01)
        assert own["lr"] == pytest.approx(0.07)
        assert len(own["params"]) == 3
