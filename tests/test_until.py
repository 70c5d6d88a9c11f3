"""Further seeds for what is undecided: what may be asked for, and what a run then does."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import harness as product
from harness.api import UsageError
from harness.until import LOOKS, Until, further_seeds, looks_of, parse_until

TOYS = Path(__file__).parent / "toy"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("decided", Until(text="decided")),
        ("12", Until(text="12", seeds=12)),
        ("90s", Until(text="90s", seconds=90.0)),
        ("1.5 min", Until(text="1.5 min", seconds=90.0)),
        ("2h", Until(text="2h", seconds=7200.0)),
    ],
)
def test_a_number_of_seeds_a_time_or_all_decided_may_be_asked_for(text: str, expected: Until) -> None:
    assert parse_until(text) == expected


@pytest.mark.parametrize(
    "text", ["", "never", "1", "0", "-5", "1001", "0s", "10 days", "1e3", "9999999h", "nan", "\u0664"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected decided, a number of seeds"):
        parse_until(text)


@given(st.integers(1, 30), st.one_of(st.none(), st.integers(31, 60)), st.sampled_from([(), (3, 6), LOOKS]))
def test_looks_rise_from_the_first_seeds_to_the_most_that_were_asked_for(first, most, of_suite) -> None:
    looks = looks_of(first, Until(text="", seeds=most), of_suite)
    assert list(looks) == sorted(set(looks))
    last = most if most is not None else (of_suite or LOOKS)[-1]
    assert (looks[0], looks[-1]) == (first, last) if looks else first >= last


@pytest.mark.parametrize("options", [{"until": 3}, {"until": 2}, {"until": "decided", "lanes": ["memory"]}])
def test_further_seeds_that_could_decide_nothing_are_refused(noisy: str, tmp_path: Path, options) -> None:
    with pytest.raises(UsageError, match="--until"):
        ran(noisy, tmp_path, **options)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=10, unique=True), st.integers(0, 30))
def test_further_seeds_follow_the_first_and_none_comes_twice(first, count) -> None:
    seeds = further_seeds(first, count)
    assert len(set(seeds)) == len(seeds) == count
    assert seeds[: len(first)] == tuple(first[:count])


@pytest.fixture
def noisy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a suite in which one toy is better from the first, and a twin of the baseline stays undecided."""
    monkeypatch.syspath_prepend(str(TOYS))
    text = (TOYS / "toys.toml").read_text().replace("lr = [0.1, 0.2, 0.3]", "")
    text = text.replace("toy_score = 1.0", "toy_score = 0.01").replace("seeds = 4", "seeds = 3")
    path = tmp_path / "noisy.toml"
    path.write_text(text + "[sequential]\nlooks = [3, 5, 6]\n")
    return str(path)


def ran(suite: str, place: Path, **options) -> tuple[product.RunView, list[dict]]:
    """Run the accuracy lane in this process; return the view and the stored rows."""
    chosen = {"lanes": ["accuracy"], "plugins": ["harness_toy"], "executor": "inline", **options}
    view = product.run(suite, store=place / "store", cache=place / "cache", **chosen)
    return view, [json.loads(line) for line in (view.info.folder / "rows.jsonl").read_text().splitlines()]


def seeds_by_technique(rows: list[dict]) -> dict[str, list[int]]:
    names = dict.fromkeys(row["technique"] for row in rows)
    return {name: [row["seed"] for row in rows if row["technique"] == name] for name in names}


def scores(rows: Iterable[dict]) -> dict[str, dict[str, float]]:
    return {row["key"]: row["metrics"] for row in rows}


def test_only_the_undecided_and_the_baseline_get_further_seeds(noisy: str, tmp_path: Path) -> None:
    view, rows = ran(noisy, tmp_path)
    assert seeds_by_technique(rows) == {
        "toy/base": [0, 1, 2, 3, 4, 5], "toy/good": [0, 1, 2], "toy/twin": [0, 1, 2, 3, 4, 5],
    }  # fmt: skip
    of = {summary.technique: summary for summary in view.workloads[0].techniques}
    assert (of["toy/good"].verdict, of["toy/good"].look) == ("better", 3)
    assert (of["toy/twin"].verdict, of["toy/twin"].look, of["toy/twin"].comparison.n) == ("undecided", None, 6)


def test_a_resumed_run_takes_the_same_decisions_and_the_same_seeds(noisy: str, tmp_path: Path) -> None:
    view, rows = ran(noisy, tmp_path)
    file = view.info.folder / "rows.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    for kept in (2, 8, 10, 13):
        file.write_text("".join(lines[:kept]))
        host = product.host.load_host(["harness_toy"])
        with product.results.store.Store(tmp_path / "store").open_run(view.info.id) as writer:
            resources = product.execution.choices.resources_of(executor="inline", jobs=1, limits=None, cache=tmp_path)
            session = product.execution.session.resume(host, writer.info, resources)
            session.carry_out(writer, product.execution.session.Silent())
        again = [json.loads(line) for line in file.read_text().splitlines()]
        assert {(row["key"], str(row["metrics"])) for row in again} == {
            (row["key"], str(row["metrics"])) for row in rows
        }


def test_a_time_that_is_over_begins_no_further_seeds(noisy: str, tmp_path: Path) -> None:
    _, rows = ran(noisy, tmp_path, until="0.001s")
    assert len(rows) == 9


def test_seeds_that_the_user_chose_are_not_extended_unless_asked(noisy: str, tmp_path: Path) -> None:
    assert len(ran(noisy, tmp_path, seeds=2)[1]) == 6
    assert seeds_by_technique(ran(noisy, tmp_path, seeds=[7, 9], until=3)[1])["toy/base"] == [7, 9, 0]


def test_a_level_is_paid_for_each_look(noisy: str, tmp_path: Path) -> None:
    once, _ = ran(noisy, tmp_path, seeds=3)
    looked, _ = ran(noisy, tmp_path)
    (p_once, p_looked) = (
        next(summary for summary in view.workloads[0].techniques if summary.technique == "toy/good").comparison
        for view in (once, looked)
    )
    assert p_once.p == p_looked.p
    assert p_looked.p_holm > p_once.p_holm
    assert math.isfinite(p_looked.p_holm)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("looks = [3, 5, 5]", "rising"),
        ("looks = [3]", "two or more"),
        ("looks = 7", "two or more"),
        ('looks = [3, "5"]', "two or more"),
        ("looks = [2, 5]", "the first look is at 2 seeds; expected 3"),
        ("looks = [3, 100000]", "at most 1000"),
        ("look = [3, 5]", "unknown key"),
    ],
)
def test_looks_that_cannot_be_made_are_refused(noisy: str, tmp_path: Path, table: str, problem: str) -> None:
    path = Path(noisy)
    path.write_text(path.read_text().replace("looks = [3, 5, 6]", table))
    with pytest.raises(UsageError, match=problem):
        ran(noisy, tmp_path)
    assert not (tmp_path / "store" / "runs").exists()
