"""The table [comparison] of a suite is read, and each mistake in it is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.api import UsageError
from harness.host import Host, load_host
from harness.plan import Identity, Plan
from harness.selection import Selection
from harness.suite import read_suite
from harness.until import parse_until

TOYS = Path(__file__).parent / "toy"


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.syspath_prepend(TOYS)
    return load_host(["harness_toy"], entry_points=False)


def written(tmp_path: Path, *lines: str) -> str:
    """Write the toy suite with a table of these lines; return its path."""
    path = tmp_path / "mine.toml"
    path.write_text("\n".join([(TOYS / "toys.toml").read_text(), "[comparison]", *lines]))
    return str(path)


def test_what_a_suite_states_is_read_and_the_rest_has_defaults(tmp_path: Path, host: Host) -> None:
    stated = read_suite(written(tmp_path, 'judge = "infer_throughput"', 'unchanged = ["toy_score"]'), host)
    assert (stated.judge, stated.judged, stated.judged_phase) == ("infer_throughput", "infer_throughput", "infer")
    assert stated.unchanged == ("toy_score",)
    plain = read_suite(str(TOYS / "toys.toml"), host)
    assert (plain.judge, plain.judged, plain.judged_phase, plain.unchanged) == ("", "toy_score", "", ())


def test_what_is_asked_beside_may_be_of_any_lane(tmp_path: Path, host: Host) -> None:
    suite = read_suite(written(tmp_path, 'beside = ["toy_score", "train_tensor_peak"]'), host)
    assert suite.beside == ("toy_score", "train_tensor_peak")


def test_references_are_techniques_and_may_have_short_names(tmp_path: Path, host: Host) -> None:
    suite = read_suite(written(tmp_path, 'equal = "toy_score"', 'references = ["good"]'), host)
    assert (suite.equal, suite.references) == ("toy_score", ("toy/good",))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (['judeg = "toy_score"'], "comparison.judeg: unknown key; did you mean 'judge'?"),
        (["judge = 3"], "comparison.judge: 3: expected a string"),
        (['unchanged = "toy_score"'], "comparison.unchanged: 'toy_score': expected a list of at least one string"),
        (["unchanged = []"], "comparison.unchanged: []: expected a list of at least one string"),
        (['judge = "toy_scor"'], "comparison.judge: no metric 'toy_scor'; did you mean 'toy_score'?"),
        (['judge = "init_time"'], "comparison.judge: init_time has one value in a run"),
        (['unchanged = ["infer_throughput"]'], "comparison.unchanged: infer_throughput has one value in a run"),
        (['equal = "toy_score"'], "comparison.references: missing"),
        (['references = ["good"]'], "comparison.equal: missing"),
        (['beside = ["toy_scor"]'], "comparison.beside: no metric 'toy_scor'; did you mean 'toy_score'?"),
        (['beside = ["weight_error"]'], "comparison.beside: no workload emits 'weight_error'; they emit"),
        (['equal = "toy_score"', 'references = ["god"]'], "comparison.references: unknown technique 'god'"),
        (['judge = "infer_throughput"', "[sequential]", "looks = [4, 8]"], "sequential: has no effect on verdicts"),
    ],
)
def test_a_mistake_is_named_with_its_key(tmp_path: Path, host: Host, lines: list[str], expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_suite(written(tmp_path, *lines), host)
    assert any(expected in problem for problem in caught.value.problems), caught.value.problems


def test_further_seeds_are_refused_where_they_decide_nothing(tmp_path: Path, host: Host) -> None:
    suite = read_suite(written(tmp_path, 'judge = "infer_throughput"'), host)
    with pytest.raises(UsageError, match="--until: further seeds decide nothing in mine"):
        Plan(suite, host, Selection(until=parse_until("decided")), Identity(code={}, packages={}))
