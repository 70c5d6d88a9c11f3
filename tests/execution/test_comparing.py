"""What is measured of two revisions, and how a contest's rounds add up."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from harness.api import Reply, Row
from harness.results.store import Store
from harness.revisions.asked import start_failure, too_old
from harness.revisions.commits import Installed
from harness.revisions.measure import CONFIRMED, Measured, Timing, Wanted, _add_lost, measure, timed_cases
from harness.revisions.parts import Part, stored_part
from harness.revisions.repository import Revision
from harness.revisions.rounds import BASE, HEAD, RELEASE, Contest, Turns
from tests.results.builders import make_suite, scored
from tests.tracking.test_results import run_of

from .conftest import make_case


@pytest.fixture
def timing() -> Timing:
    cases = {side: make_case("Technique", "time") for side in (HEAD, BASE, RELEASE)}
    return Timing(contest=Contest(technique="toys/a", workload="toys/w", cases=cases))


def turns(failed: tuple[str, ...] = (), **seconds: float) -> Turns:
    samples = {side: {"train": [(value, False)] * 8} for side, value in seconds.items()}
    return Turns(samples=samples, failed=dict.fromkeys(failed, "Incorrect: off"))


def test_a_round_gives_the_log_ratio_of_head_to_each_reference(timing: Timing) -> None:
    timing.take(turns(head=2.0, base=1.0, release=4.0))
    assert timing.ratios == {
        (BASE, "train"): [pytest.approx(math.log(2.0))],
        (RELEASE, "train"): [pytest.approx(math.log(0.5))],
    }
    assert not timing.over


def test_a_reference_that_fails_is_left_out_and_the_rest_goes_on(timing: Timing) -> None:
    timing.take(turns((RELEASE,), head=2.0, base=1.0))
    assert {*timing.contest.cases} == {HEAD, BASE}
    assert not timing.over
    timing.take(turns((BASE,), head=2.0))
    assert timing.over
    assert not timing.failures


def test_head_must_fail_more_than_once_where_the_reference_does_not(timing: Timing) -> None:
    timing.take(turns((HEAD,), base=1.0, release=1.0))
    assert not timing.over
    for _ in range(CONFIRMED - 1):
        timing.take(turns((HEAD,), base=1.0, release=1.0))
    assert timing.over
    assert timing.failures == {side: ["Incorrect: off"] * CONFIRMED for side in (BASE, RELEASE)}


def test_what_fails_on_both_sides_is_no_failure_of_head(timing: Timing) -> None:
    timing.take(turns((HEAD, BASE, RELEASE)))
    assert timing.over
    assert not timing.failures


@pytest.fixture
def speaking(tmp_path: Path):
    """A revision whose Python is a script."""

    def make(script: str) -> Installed:
        python = tmp_path / "venv/bin/python"
        python.parent.mkdir(parents=True)
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
        return Installed(revision=Revision(name="old", commit="0" * 40), folder=tmp_path)

    return make


def test_a_revision_without_the_options_of_tracking_is_too_old_in_one_line(speaking) -> None:
    text = too_old(speaking("echo '  --lane  --quick'"))
    assert text == "its harness run has no --track yet, so it cannot be compared"
    assert "\n" not in text


def test_a_revision_with_them_is_not(speaking) -> None:
    installed = speaking("echo '  --lane  --track'")
    assert too_old(installed) == ""
    assert start_failure(installed) == ""


def test_a_revision_that_does_not_start_says_its_last_words(speaking) -> None:
    installed = speaking("echo Traceback >&2; echo 'KeyError: 3' >&2; exit 1")
    assert start_failure(installed) == "its harness does not start: KeyError: 3"


def test_the_case_that_is_timed_worked_and_is_the_first_seed_s() -> None:
    def row(seed: int, status: str) -> Row:
        case = replace(make_case("Technique"), seed=seed, workload="w", technique="t")
        return Row(run="", case=case, reply=Reply(status=status), started="", environment={})  # type: ignore[arg-type]

    found = timed_cases([row(2, "ok"), row(1, "ok"), row(0, "error")])
    assert {key: case.seed for key, case in found.items()} == {("t", "w"): 1}


BROKEN = """
case "$4" in
run) echo "harness: error: --technique 'bias/*' matches no technique of the suite" >&2; exit 2;;
plugins) echo '[{"name": "bias", "status": "broken", "cause": "No module lib"}, {"name": "core", "status": "ok"}]';;
*) echo '[]';;
esac
"""


def test_a_suite_that_cannot_be_run_says_which_plugin_is_broken(speaking, tmp_path: Path) -> None:
    installed = speaking(BROKEN)
    wanted = Wanted(suites=("peft",), techniques=("bias/*",), rounds=3)
    measured = measure({HEAD: installed, BASE: installed}, wanted, tmp_path, lambda _: None)
    (line,) = measured.refused
    assert line.startswith("suite peft can be run at neither revision: --technique 'bias/*' matches no technique")
    assert line.endswith("; plugin 'bias' is broken: No module lib")
    assert set(measured.notes) == {"plugin 'bias' is broken at old (000000000): No module lib"}


def test_a_technique_that_neither_revision_has_leads_to_the_nearest(speaking, tmp_path: Path) -> None:
    installed = speaking("""case "$5" in techniques) echo '[{"id": "toys/steady"}]';; *) echo '[]';; esac""")
    wanted = Wanted(suites=("peft",), techniques=("stedy:depth=3",), rounds=3)
    (line,) = measure({HEAD: installed, BASE: installed}, wanted, tmp_path, lambda _: None).refused
    assert line.endswith("--technique 'stedy:depth=3' matches no technique; did you mean 'toys/steady'?")


def test_a_plugin_that_broke_is_a_failure_and_no_removal() -> None:
    broken = {HEAD: {"toys": "No module named 'lib'", "other": "a reason"}, BASE: {}}
    measured = Measured(metrics={}, broken=broken)
    for _ in range(2):  # a plugin that is missing in two suites is told once
        _add_lost({HEAD: run_of(scored("core/base", [80.0])), BASE: run_of(scored("toys/a", [90.0]))}, measured)
    (failure,) = measured.failures
    assert (failure.place.technique, failure.verdict) == ("plugin toys", "worse")
    assert failure.reason == "is broken: No module named 'lib'"
    assert not failure.since_release


@pytest.mark.parametrize("damage", ["rows.jsonl", "run.json"])
def test_a_stored_run_that_cannot_be_read_is_left_out_with_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    installed = Installed(revision=Revision(name="v1", commit="c" * 40), folder=tmp_path)
    store = Store(installed.store)
    selection = {"lanes": ["accuracy"], "seeds": [], "workloads": [], "techniques": []}
    suite = make_suite(form="track")
    made = []
    for score in (1.0, 2.0):
        with store.create_run(suite=suite, selection=selection, plugins=(), environment={}, planned=1) as writer:
            writer.append(scored("toys/base", [score])[0])
            made.append(writer.finish(0).id)
    (store.folder(made[1]) / damage).write_text('{"schema": 2}\n')
    found = stored_part(installed, Part(suite="toy", lanes=("accuracy",)))
    assert found is not None
    assert found.info.id == made[0]
    (line,) = capsys.readouterr().err.splitlines()
    assert f"run {made[1]} of v1" in line
    assert damage in line
