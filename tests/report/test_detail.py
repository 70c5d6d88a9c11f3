from __future__ import annotations

import re
from dataclasses import replace

import pytest

from harness.analysis import RunView
from harness.api import UsageError
from harness.report.detail import find_rows, show_row, show_rows, show_run, show_tuning
from harness.results.schema import metric_to_json


@pytest.fixture
def rows(builders):
    return [
        *builders.scored("toys/a", [90.0, 91.0], workload="core/alpha"),
        *builders.scored("toys/a", [80.0], workload="core/beta"),
        *builders.scored("other/a-b", [70.0]),
        builders.make_row(
            technique="toys/slow", status="timeout", reason="after 120 s in init", detail="last words\nof the case\n",
            params={"rank": 4}, settings={"steps": 100}, tuned={"lr": 0.1},
        ),
    ]  # fmt: skip


def test_rows_are_found_by_technique_short_name_workload_or_key(rows) -> None:
    assert find_rows(rows, "toys/a") == find_rows(rows, "a") == rows[:3]
    assert find_rows(rows, "toys/a@beta") == find_rows(rows, "a@core/beta") == [rows[2]]
    assert find_rows(rows, rows[1].case.key[:8]) == [rows[1]]
    assert find_rows(rows, rows[1].case.key) == [rows[1]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("toys/slw", "no technique or key 'toys/slw' in this run; did you mean 'toys/slow'"),
        ("toys/a@alfa", "no workload 'alfa' in this run; did you mean 'core/alpha'"),
        ("zzz", "there are other/a-b, toys/a, toys/slow"),
    ],
)
def test_what_is_not_there_is_a_usage_error_with_the_nearest_name(rows, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        find_rows(rows, text)


def test_a_name_that_is_nearly_right_gets_its_hint_and_no_list_of_all(rows) -> None:
    with pytest.raises(UsageError) as refused:
        find_rows(rows, "toys/slw")
    assert len(refused.value.problems) == 1


def test_a_row_is_shown_with_all_that_is_known_of_it(rows) -> None:
    text = show_row(rows[-1])
    for expected in (
        "timeout: after 120 s in init",
        "toys/slow on core/alpha, seed 0, lane accuracy",
        "lr 0.1",
        "rank 4",
        "steps 100",
        "c0de",
        rows[-1].case.key,
        "environment threads  1",
    ):
        assert expected in text
    assert text.endswith("\n\nlast words\nof the case")
    assert re.search(r"^accuracy +90\.0000$", show_row(rows[0]), re.MULTILINE)


def test_each_figure_of_a_row_has_its_unit(builders, rows) -> None:
    kept = [metric_to_json(builders.METRICS["accuracy"])]
    text = show_rows(rows[:1], builders.make_run(plugins=[{"name": "toys", "metrics": kept}]))
    assert re.search(r"^accuracy +90\.0000 %$", text, re.MULTILINE)


def test_several_rows_are_listed_failures_first_and_each_different_failure_once_in_full(builders, rows) -> None:
    again = builders.make_row(technique="toys/slow", seed=3, status="timeout", reason="after 120 s in init")
    fine = builders.scored("toys/slow", [50.0])
    text = show_rows([*fine, rows[-1], again], builders.make_run())
    statuses = [re.search(r"  (timeout|ok)  ", line) for line in text.splitlines()[1:4]]
    assert [found and found[1] for found in statuses] == ["timeout", "timeout", "ok"]
    assert "2 timeout, 1 ok" in text
    assert text.count("status ") == 1 + 1  # the list's heading, and one failure in full
    assert "last words" in text


def test_rows_that_all_worked_are_listed_with_the_command_that_shows_one(builders, rows) -> None:
    text = show_rows(rows[:2], builders.make_run())
    assert "2 ok" in text
    assert text.endswith(f"the first of them in full: harness show row abcd/{rows[0].case.key[:10]}")
    assert rows[0].case.key[:10] in text


def view_of(builders, rows, **changes) -> RunView:
    return RunView.build(
        builders.make_run(builders.make_suite(workloads=("core/alpha", "core/beta")), **changes), rows, builders.METRICS
    )


def test_a_run_is_shown_with_how_it_began_and_ended_and_what_failed(builders, rows) -> None:
    text = show_run(
        view_of(
            builders, rows, exit_code=1, planned=9, selection={"device": "cpu", "params": {}},
            plugins=(
                {"name": "toys", "version": "1.0", "status": "ok"},
                {"name": "bad", "status": "broken", "cause": "no x"},
            ),
        )
    )  # fmt: skip
    for expected in (
        "20260101-000000-abcd",
        "some cases failed",
        "5 of 9 planned, 1 failed",
        "device cpu",
        "bad   -  broken: no x",
        "toys/slow on alpha: 1 of 1 cases failed: timeout after 120 s in init",
    ):
        assert expected in text
    assert "params" not in text


def test_the_facts_of_a_run_and_of_a_row_are_wrapped_and_digests_short(builders) -> None:
    digest = "0123456789ab" + "c" * 52
    environment = {"code": {name: {"commit": "f" * 40, "digest": digest} for name in ("harness", "harness_toys")}}
    row = builders.make_row(technique="toys/slow", status="error", reason="many words " * 12)
    row = replace(row, environment=environment)
    view = view_of(builders, [row], environment=environment)
    for text in (show_run(view, width=80), show_rows([row], view.info, width=80)):
        assert max(map(len, text.splitlines())) <= 80
        assert "0123456789ab" in text
        assert digest not in text
    assert digest in show_run(view)


def sweep(builders, technique, by_lr):
    """Tuning rows: {lr: validation loss by seed}, None for a failed case."""
    given = {"technique": technique, "stage": "tuning"}
    return [
        builders.make_row(tuned={"lr": lr}, seed=seed, status="error", reason="nan", **given)
        if loss is None
        else builders.make_row(tuned={"lr": lr}, seed=seed, metrics={"val_loss": loss, "accuracy": 1.0}, **given)
        for lr, losses in by_lr.items()
        for seed, loss in enumerate(losses)
    ]


def test_sweeps_stand_side_by_side_with_the_choice_and_its_edge_marked(builders) -> None:
    rows = [
        *sweep(builders, "toys/a", {0.01: [0.5, 0.7], 0.1: [0.3, 0.3], 1.0: [None, 0.9]}),
        *sweep(builders, "toys/b", {0.01: [0.1, 0.1], 0.1: [0.3, 0.3], 1.0: [0.4, 0.4]}),
        *sweep(builders, "toys/c", {0.1: [None, None]}),
    ]
    lines = show_tuning(view_of(builders, rows)).splitlines()
    assert lines[0] == "toy · alpha · val_loss, mean over 2 seeds (lower is better)"
    assert re.split(r"  +", lines[1]) == ["technique", "lr 0.01", "lr 0.1", "lr 1.0"]
    cells = {line.split()[0]: re.split(r"  +", line)[1:] for line in lines[2:5]}
    assert cells["toys/a"] == ["0.6000", "0.3000*", "0.9000 (1 failed)"]
    assert cells["toys/b"] == ["0.1000*^", "0.3000", "0.4000"]
    assert cells["toys/c"] == ["failed"]
    assert lines[-1].startswith("^ chosen, and the smallest or largest value tried")


def test_one_techniques_sweep_is_listed_trial_by_trial_and_seed_by_seed(builders) -> None:
    rows = [
        *sweep(builders, "toys/a", {0.1: [0.5, 0.7], 1.0: [None, 0.9]}),
        *sweep(builders, "toys/b", {0.1: [0.1, 0.1]}),
    ]
    text = show_tuning(view_of(builders, rows), "a")
    assert re.search(r"toys/a +lr 0\.1 +0\.5000 +0\.7000 +0\.6000\*\^", text)
    assert re.search(r"toys/a +lr 1\.0 +- +0\.9000 +0\.9000 \(1 failed\) +nan", text)
    assert "toys/b" not in text


def test_grids_of_many_different_trials_are_listed(builders) -> None:
    rows = [row for i in range(9) for row in sweep(builders, f"toys/{i}", {0.1 + i: [0.5, 0.5]})]
    text = show_tuning(view_of(builders, rows))
    assert text.splitlines()[1].split() == ["technique", "trial", "seed", "0", "seed", "1", "mean"]


def test_an_untuned_run_says_so(builders, rows) -> None:
    assert show_tuning(view_of(builders, rows)) == "nothing was tuned in run 20260101-000000-abcd"


def test_a_sweep_of_an_unknown_technique_is_a_usage_error(builders, rows) -> None:
    with pytest.raises(UsageError, match="did you mean 'toys/slow'"):
        show_tuning(view_of(builders, rows), "toys/slw")
