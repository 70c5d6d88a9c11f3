"""``kill -9`` at random moments: nothing is lost, torn or doubled, and a resumed run equals the undisturbed one."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.kills import kill_at_random


@pytest.mark.thorough
def test_a_run_that_is_killed_three_times_and_resumed_equals_the_undisturbed_run(tmp_path: Path) -> None:
    print("\n".join(kill_at_random(tmp_path, 3, seed=20261)))  # noqa: T201  what a person sees of a failure


@pytest.mark.exhaustive
def test_runs_that_are_killed_fifty_times_and_resumed_equal_the_undisturbed_run(tmp_path: Path) -> None:
    seed = int(os.environ.get("HARNESS_SEED") or random.randrange(1 << 32))
    print("\n".join(kill_at_random(tmp_path, 50, seed)))  # noqa: T201
