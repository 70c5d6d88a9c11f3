"""The gate of ``softmax`` lets a right one through and catches every kind of wrong one, with what shows it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from harness.api import Incorrect
from harness.families.softmax.checks import EPSILON, HOSTILE, defined, relative_error, require_correct
from tests.families.softmax import softmaxes
from tests.families.softmax.softmaxes import Right

FAULTS = {
    softmaxes.WithoutMaximum: "whose exponentials overflow: nan where the definition has",
    softmaxes.Clamped: "overflow: .* where the definition has",
    softmaxes.WrongTail: r"shape \(3, 17\): 0 where the definition has",
    softmaxes.WrongOnLongRows: r"shape \(1, 16385\): .* off by 1.0e-04 of it",
    softmaxes.Coarse: "off by .* of it; 1e-05 is allowed",
    softmaxes.Half: "off by .*e-03 of it",
    softmaxes.Unnormalised: "off by 3.0e-05 of it",
    softmaxes.StagnatingSum: "of one large number among small ones: .* where the definition has",
    softmaxes.Uniform: "of a row of -infinity: 0.00769231 where the definition has nan",
    softmaxes.SwallowingNan: "of a NaN: .* where the definition has nan",
    softmaxes.SwallowingInfinity: "of an infinity: .* where the definition has nan",
    softmaxes.MaskedBecomesNan: "of a causal mask: nan where the definition has",
    softmaxes.LeakingNan: "of a NaN: nan where the definition has",
    softmaxes.OverOtherDimension: r"shape \(3, 1\): .* where the definition has 1",
    softmaxes.InPlace: "changes its input",
    softmaxes.Overrunning: "writes beyond its output",
    softmaxes.Lazy: r"shape \(1, 1\): 7 where the definition has 1",
    softmaxes.Changing: "gives another result in a second call",
}


def test_a_right_one_passes() -> None:
    require_correct(Right())


@pytest.mark.parametrize(("fault", "found"), FAULTS.items(), ids=[fault.__name__ for fault in FAULTS])
def test_a_fault_is_caught_and_named(fault: type[Right], found: str) -> None:
    with pytest.raises(Incorrect, match=found):
        require_correct(fault())


def test_numbers_that_shift_what_they_should_not_are_caught() -> None:
    class Shifting(Right):
        def of(self, x: torch.Tensor) -> torch.Tensor:
            found = super().of(x)
            return found * (1 + 1e-4 * (x.mean() > 500)) if x.shape == (3, 1000) else found

    with pytest.raises(Incorrect, match=r"changes by 1\.0e-04 where 512 is added to all numbers"):
        require_correct(Shifting())


def test_a_report_holds_code_that_says_what_is_expected_without_this_project() -> None:
    with pytest.raises(Incorrect) as caught:
        require_correct(softmaxes.WrongTail())
    code = str(caught.value).partition("\n\n")[2]
    assert "harness" not in code
    printed: list[float] = []
    exec(code, {"print": printed.append})
    (value,) = printed
    assert 0 < value < 1


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    rows=st.integers(1, 4),
    columns=st.integers(1, 40),
    size=st.sampled_from([1e-3, 1.0, 30.0, 1e5, 1e30]),
    mask=st.floats(0, 0.9),
)
def test_the_definition_is_scipy_s(seed: int, rows: int, columns: int, size: float, mask: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    x = size * torch.randn(rows, columns, generator=draw)
    x[torch.rand(rows, columns, generator=draw) < mask] = -torch.inf
    alone = (x == -torch.inf).all(1)
    found = defined(x)
    with np.errstate(invalid="ignore"):
        expected = torch.from_numpy(special.softmax(x.double().numpy(), axis=1))
    torch.testing.assert_close(found[~alone], expected[~alone], rtol=1e-13, atol=0)
    assert found[alone].isnan().all()


@pytest.mark.parametrize("code", HOSTILE.values(), ids=HOSTILE)
def test_hostile_rows_are_what_torch_says_too(code: str) -> None:
    x = eval(code, {"torch": torch})
    torch.testing.assert_close(torch.softmax(x.double(), 1), defined(x), rtol=1e-12, atol=1e-300, equal_nan=True)


def test_the_relative_error_is_in_epsilons_and_leaves_denormal_probabilities_out() -> None:
    exact = torch.tensor([[0.5, 0.25, 1e-42]], dtype=torch.float64)
    found = torch.tensor([[0.5, 0.25 * (1 + 3 * EPSILON), 0.0]])
    assert relative_error(found, exact) == pytest.approx(3)
