"""Shares of what a machine's memory allows: beyond all noise they mean that nothing was computed."""

from __future__ import annotations

import pytest

from harness.api import Incorrect
from harness.judge.machine import require_possible


def test_a_share_that_no_memory_allows_is_incorrect_and_one_within_noise_is_not() -> None:
    require_possible({"linear1_share": 57.6, "long_row_share": 110.0})
    with pytest.raises(Incorrect, match=r"^linear1_share is 4151 %: faster than this machine"):
        require_possible({"linear1_share": 4151.0})
