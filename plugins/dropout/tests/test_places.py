"""Techniques of feature maps, branches and recurrences, against NumPy and torch with the same draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from harness_dropout.branches import DropPathLayer, LayerDropLayer
from harness_dropout.maps import DropBlockLayer, SpatialLayer
from harness_dropout.recurrent import StepMask, ZoneoutCarry
from hypothesis import given
from hypothesis import strategies as st

RATES = st.floats(0.01, 0.95)
SEEDS = st.integers(0, 2**31)
MAPS = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(2, 9), st.integers(2, 9))


def drawn(seed):
    return torch.Generator().manual_seed(seed)


def positive(shape, seed):
    return torch.rand(shape, generator=drawn(seed + 1), dtype=torch.float64) + 0.5


class TestSpatial:
    @given(rate=RATES, shape=MAPS, seed=SEEDS)
    def test_keeps_or_drops_whole_channels(self, rate, shape, seed) -> None:
        x = positive(shape, seed)
        found = SpatialLayer(rate, drawn(seed))(x)
        mask = (torch.rand((*shape[:2], 1, 1), generator=drawn(seed)) < 1 - rate).double()
        torch.testing.assert_close(found, x * mask / (1 - rate))

    def test_is_torchs_dropout2d_where_the_masks_agree(self) -> None:
        x = positive((40, 30, 2, 2), 1)
        both = [torch.nn.Dropout2d(0.3)(x), SpatialLayer(0.3, drawn(1))(x)]
        kept = (both[0] != 0) & (both[1] != 0)
        torch.testing.assert_close(both[0][kept], both[1][kept])


class TestDropBlock:
    @given(rate=st.floats(0.01, 0.5), shape=MAPS, block=st.integers(1, 9), seed=SEEDS)
    def test_zeroes_squares_and_rescales_by_the_kept_share(self, rate, shape, block, seed) -> None:
        x = positive(shape, seed)
        height, width = shape[2:]
        side = min(block, height, width)
        rows, columns = height - side + 1, width - side + 1
        gamma = rate / side**2 * height * width / (rows * columns)
        corners = torch.rand((*shape[:2], rows, columns), generator=drawn(seed)).double().numpy() >= 1 - gamma
        mask = np.ones(shape)
        for n, c, i, j in np.argwhere(corners):
            mask[n, c, i : i + side, j : j + side] = 0
        expected = x.numpy() * mask * mask.size / max(1, mask.sum())
        np.testing.assert_allclose(DropBlockLayer(rate, block, drawn(seed))(x).numpy(), expected)

    @given(rate=RATES, shape=MAPS, seed=SEEDS)
    def test_of_single_units_is_dropout_but_for_the_scale(self, rate, shape, seed) -> None:
        x = positive(shape, seed)
        kept = DropBlockLayer(rate, 1, drawn(seed))(x) != 0
        assert torch.equal(kept, torch.rand(shape, generator=drawn(seed)) < 1 - rate)

    @pytest.mark.parametrize("block", [1, 3])
    def test_drops_about_the_share_it_was_asked_for(self, block) -> None:
        dropped = DropBlockLayer(0.1, block, drawn(1))(torch.ones(200, 10, 12, 12)) == 0
        assert 0.085 < dropped.double().mean() < 0.105  # overlaps make it a little less

    def test_its_rate_is_ramped_up(self, problem, build) -> None:
        technique = build("dropblock", rate=0.2)
        one = problem("conv")
        model = one.attached(technique)
        rates = [technique.layers[0].rate]
        for step in range(one.task.steps):
            technique.after_update(model, step)
            rates.append(technique.layers[0].rate)
        np.testing.assert_allclose(rates, np.linspace(0, 0.2, one.task.steps + 1))


class TestBranches:
    @given(rate=RATES, shape=st.lists(st.integers(1, 5), min_size=1, max_size=4), seed=SEEDS)
    def test_drop_path_drops_by_example(self, rate, shape, seed) -> None:
        x = positive(shape, seed)
        mask = torch.rand((shape[0], *[1] * (len(shape) - 1)), generator=drawn(seed)) < 1 - rate
        torch.testing.assert_close(DropPathLayer(rate, drawn(seed))(x), x * mask / (1 - rate))

    def test_drop_path_grows_linearly_with_depth(self, problem, build) -> None:
        technique = build("droppath", rate=0.4)
        problem("conv").attached(technique)
        assert [layer.rate for layer in technique.layers] == [0.2, 0.4]

    def test_layer_drop_computes_no_layer_that_it_skips(self) -> None:
        calls = []

        class Counting(torch.nn.Module):
            def forward(self, x):
                calls.append(1)
                return x + 1

        layer = LayerDropLayer(Counting(), 0.3, drawn(4))
        outputs = torch.stack([layer(torch.zeros(())) for _ in range(2000)])
        assert outputs.sum() == len(calls)
        assert abs(len(calls) / 2000 - 0.7) < 4 * math.sqrt(0.21 / 2000)

    def test_layer_drop_computes_all_in_evaluation(self) -> None:
        layer = LayerDropLayer(torch.nn.Linear(3, 3), 0.9, drawn(4)).eval()
        x = torch.ones(2, 3)
        assert torch.equal(layer(x), layer.inner(x))


class TestRecurrence:
    @given(rate=RATES, seed=SEEDS, steps=st.integers(1, 6), width=st.integers(1, 8))
    def test_one_mask_lasts_a_sequence(self, rate, seed, steps, width) -> None:
        x, draw = torch.ones(4, width), drawn(seed)
        layer = StepMask(rate, drawn(seed), fresh=False)
        for _ in range(3):
            expected = (torch.rand(x.shape, generator=draw) < 1 - rate) / (1 - rate)
            for step in range(steps):
                torch.testing.assert_close(layer(x, step), expected)

    @given(rate=RATES, seed=SEEDS, steps=st.integers(1, 6))
    def test_the_control_draws_at_every_step(self, rate, seed, steps) -> None:
        x, draw = torch.ones(4, 5), drawn(seed)
        layer = StepMask(rate, drawn(seed), fresh=True)
        for step in range(steps):
            torch.testing.assert_close(layer(x, step), (torch.rand(x.shape, generator=draw) < 1 - rate) / (1 - rate))

    @given(rate=RATES, seed=SEEDS)
    def test_zoneout_keeps_units_of_the_state_before(self, rate, seed) -> None:
        previous, new = positive((5, 9), seed), -positive((5, 9), seed + 7)
        layer = ZoneoutCarry(rate, drawn(seed))
        renewed = torch.rand((5, 9), generator=drawn(seed)) < 1 - rate
        assert torch.equal(layer(previous, new, 0), torch.where(renewed, new, previous))
        expected = rate * previous + (1 - rate) * new
        torch.testing.assert_close(layer.eval()(previous, new, 0), expected)

    def test_zoneout_keeps_the_cell_more_than_the_hidden_state(self, problem, build) -> None:
        model = problem("rnn").attached(build("zoneout", rate=0.5))
        assert (model.recurrent.carry_cell.rate, model.recurrent.carry_hidden.rate) == (0.5, 0.05)

    @pytest.mark.parametrize("name", ["rnn-variational", "rnn-fresh"])
    def test_inputs_and_states_are_masked(self, problem, build, name) -> None:
        model = problem("rnn").attached(build(name))
        assert isinstance(model.recurrent.on_input, StepMask)
        assert isinstance(model.recurrent.on_state, StepMask)
