"""A timed step of a random technique is not condemned for one draw that is rare."""

from __future__ import annotations

import pytest
from torch import Tensor

from tests.judge.test_timed import OwnRandomness, found_in


class RarelyLarge(OwnRandomness):
    """Has a few draws that are many times as large as the others, as a mixture of examples may."""

    drawn = 0
    every = 1

    def hidden(self, x: Tensor) -> Tensor:
        RarelyLarge.drawn += 1  # of all copies together, as with a generator of a module
        return super().hidden(x) * (8 if RarelyLarge.drawn % RarelyLarge.every == 0 else 1)


@pytest.mark.parametrize("every", [13, 16, 20, 26])
def test_a_rare_large_draw_is_no_cheat(every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RarelyLarge, "drawn", 0)
    monkeypatch.setattr(RarelyLarge, "every", every)
    assert found_in(RarelyLarge()) == ""
