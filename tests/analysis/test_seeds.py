"""What a comparison tells of the seeds that only one of two runs has."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.analysis.changes import Pairing
from harness.analysis.seeds import seeds_left_out
from harness.results.store import StoredRun

Told = Callable[..., list[str]]


@pytest.fixture
def told(builders) -> Told:
    """Return what is told of two runs, each with the seeds of its techniques."""

    def run(seeds: dict[str, list[int]], lost: tuple[str, int] | None) -> StoredRun:
        rows = [
            builders.make_row(technique=f"toys/{name}", seed=seed, metrics={"accuracy": 90.0 + seed, "loss": 1.0})
            for name, own in seeds.items() for seed in own if (name, seed) != lost
        ]  # fmt: skip
        if lost is not None:
            name, seed = lost
            rows.append(builders.make_row(technique=f"toys/{name}", seed=seed, metrics={"loss": 1.0}))
        return StoredRun(info=builders.make_run(), rows=tuple(rows))

    def tell(base: dict, head: dict, *, lost: tuple[str, int] | None = None, since_release: bool = False) -> list[str]:
        pairing = Pairing(reference=run(base, None), head=run(head, lost), since_release=since_release)
        return seeds_left_out([pairing], builders.METRICS)

    return tell


def test_the_same_seeds_on_both_sides_need_no_line(told: Told) -> None:
    assert told({"base": [0, 1, 2], "a": [0, 1]}, {"base": [0, 1, 2], "a": [0, 1]}) == []


def test_all_techniques_of_other_seeds_are_told_in_one_line(told: Told) -> None:
    assert told({"base": [0, 1, 2], "a": [0, 1, 2]}, {"base": [1, 2, 7, 8], "a": [1, 2, 7, 8]}) == [
        "quality is compared on the 2 seeds of both sides, without seeds 0 of base and 7, 8 of head"
    ]


def test_techniques_whose_seeds_differ_are_named(told: Told) -> None:
    same = {"base": [0, 1], "z": [0, 1]}
    assert told(same | {"a": [0, 1]}, same | {"a": [0]}) == [
        "quality is compared on the 1 seed of both sides, without seed 1 of base: toys/a on core/alpha"
    ]


def test_a_seed_that_lacks_one_metric_is_told_with_the_metric(told: Told) -> None:
    seeds = {"base": [0, 1], "a": [0, 1]}
    assert told(seeds, seeds, lost=("a", 1)) == [
        "quality is compared on the 1 seed of both sides, without seed 1 of base: toys/a on core/alpha (accuracy)"
    ]


def test_no_common_seed_a_release_and_many_seeds_are_told(told: Told) -> None:
    assert told({"base": [*range(8)]}, {"base": [9]}, since_release=True) == [
        "quality is not compared, as no seed is on both sides: the release has 0, 1, 2, 3, 4 and 3 more; head has 9"
    ]
