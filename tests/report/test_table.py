from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from harness.analysis import RunView
from harness.report import render

ANSI = re.compile(r"\x1b\[[0-9;]*m")
NAMES = ["full", "dora", "plus", "pissa", "rs", "init-a", "init-b", "olora", "eva", "vera", "svfit", "loldu",
         "miss", "ia3", "bitfit", "norm", "houlsby", "orthogonal", "control"]  # fmt: skip


def tuned_rows(builders, rng: random.Random, index: int, workload: str):
    """A technique that is a little worse than the one before it, tuned, with memory and times."""
    name, best = f"toys/{NAMES[index]}", (0.1 if index % 3 else 1.0)
    for lr in (0.01, 0.1, 1.0):
        for seed in range(5) if lr == best else range(2):
            accuracy = 90 + rng.gauss(0, 0.3) - 2 * index - (0 if lr == best else 9)
            metrics = {"accuracy": accuracy, "val_loss": 100 - accuracy, "loss": (100 - accuracy) / 30}
            metrics |= {"trainable_parameters": 69_200 / (index + 1), "adapter_parameters": 69_000 / (index + 1)}
            yield builders.make_row(
                technique=name, workload=workload, tuned={"lr": lr}, seed=seed, metrics=metrics,
                stage="tuning" if seed < 2 else "final",
            )  # fmt: skip
    peaks = {"train_tensor_peak": 2**20 * 1.9, "infer_tensor_peak": 2**20 * 0.4, "build_tensor_peak": 5.0}
    yield builders.make_row(technique=name, workload=workload, tuned={"lr": best}, lane="memory", metrics=peaks)
    base = [0.004 * rng.lognormvariate(0, 0.03) for _ in range(20)]
    own = [second * (1 + index / 10) for second in base]
    samples = {"train": own, "baseline.train": base, "infer": own, "baseline.infer": base}
    speeds = {"train_throughput": 32 / own[0], "infer_throughput": 640 / own[0]}
    yield builders.make_row(
        technique=name, workload=workload, tuned={"lr": best}, lane="time", metrics=speeds, samples=samples
    )


def view_of(builders, rows, suite, **changes) -> RunView:
    return RunView.build(builders.make_run(suite, **changes), rows, builders.METRICS)


@pytest.fixture(scope="session")
def suite(builders):
    claims = (
        builders.make_claim(better="toys/full", than="toys/norm"),
        builders.make_claim(id="c-beats-d", better="toys/c", than="toys/d"),
    )
    return builders.make_suite(workloads=("core/alpha", "core/beta"), baseline="toys/full", claims=claims)


@pytest.fixture(scope="session")
def view(builders, suite) -> RunView:
    """Two workloads of twenty techniques, one of which timed out; one choice in three at the edge of its grid."""
    rng = random.Random(0)
    rows = [row for w in suite.workloads for index in range(len(NAMES)) for row in tuned_rows(builders, rng, index, w)]
    rows += [
        builders.make_row(
            technique="toys/slow", workload=w, status="timeout", reason="after 120 s in init",
            stage="tuning", tuned={"lr": 0.1}, seed=seed,
        )
        for w in suite.workloads
        for seed in (0, 1)
    ]  # fmt: skip
    environment = {"cpu": {"flags": ["avx2", "avx512f"]}}
    return view_of(builders, rows, suite, environment=environment, planned=len(rows))


def tables(text: str) -> list[list[str]]:
    """The rows of each table: from its heading's first word to the first line that is no row of it."""
    found = []
    for block in text.split("\n\n"):
        lines = block.splitlines()
        if len(lines) > 3 and any(line.startswith("technique") for line in lines):
            start = next(i for i, line in enumerate(lines) if line.startswith("technique"))
            found.append([line for line in lines[start + 2 :] if line.startswith("toys/")])
    return found


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_every_line_fits_the_width(view: RunView, width: int) -> None:
    assert max(map(len, render(view, "table", width=width).splitlines())) <= width


@pytest.mark.parametrize("width", [80, 120])
def test_each_workload_has_every_technique_once_best_first_and_failures_last(view: RunView, width: int) -> None:
    found = tables(render(view, "table", width=width))
    assert len(found) == 2
    for rows in found:
        assert [row.split()[0] for row in rows] == [f"toys/{name}" for name in NAMES] + ["toys/slow"]


def test_at_120_columns_all_that_was_measured_is_there_with_its_unit(view: RunView) -> None:
    lines = render(view, "table", width=120).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("technique"))
    titles = "technique accuracy vs toys/full trainable train train/s loss infer infer/s verdict"
    assert lines[at].split() == titles.split()
    assert lines[at + 1].split() == ["%", "points", "parameters", "MiB", "nats", "MiB"]
    second = lines[at + 3].split()
    assert second[0] == "toys/dora"
    assert re.fullmatch(r"\d\d\.\d", second[1])
    assert re.fullmatch(r"±\d\.\d", second[2])
    assert second[5:8] == ["34.6k", "1.9", "x0.91"]
    assert second[-4:] == ["0.4", "x0.91", "worse", "*"]
    baseline = lines[at + 2].split()
    assert baseline[5].isdigit(), "the baseline has its own samples a second"


def test_the_heading_says_what_was_run_on_what_and_when(view: RunView) -> None:
    heading = render(view, "table", width=200).splitlines()[0]
    assert heading.split(" · ") == [
        "toy", "alpha", "5 seeds", "lr tuned over 3 values on val loss", "cpu AVX512", "2026-01-01", "run abcd",
    ]  # fmt: skip


def test_few_columns_that_are_left_out_are_named(view: RunView) -> None:
    assert re.search(r"^not shown at this width: infer/s, tuned$", render(view, "table", width=105), re.MULTILINE)


def test_at_80_columns_the_verdict_stays_and_how_to_see_the_other_columns_is_said(view: RunView) -> None:
    text = " ".join(render(view, "table", width=80).split())
    found = re.search(r"(\d) more columns do not fit; to see them: (.*?), or a terminal (\d+) characters wide", text)
    assert found
    assert found[2] == "harness report abcd, harness show run abcd --format json"
    assert "more columns" not in render(view, "table", width=int(found[3]))
    assert "not shown" in render(view, "table", width=int(found[3]) - 1)
    text = render(view, "table", width=80)
    verdicts = [re.search(r"  (baseline|worse|timeout)", row) for row in tables(text)[0]]
    assert [found and found[1] for found in verdicts] == ["baseline", *["worse"] * 18, "timeout"]


def test_failures_are_told_with_the_command_that_shows_them(view: RunView) -> None:
    text = render(view, "table", width=200)
    assert "! toys/slow: 2 of 2 cases failed: timeout after 120 s in init · harness show row abcd/toys/slow" in text
    row = next(row for row in tables(text)[0] if row.startswith("toys/slow"))
    assert row.split()[-2:] == ["timeout", "!"]


def test_marks_are_explained_and_only_where_they_occur(builders, view: RunView) -> None:
    text = render(view, "table", width=200)
    assert "^ tuning chose the smallest or largest value tried, a better one may lie outside: lr 1.0: toys/full" in text
    assert re.search(r"^\^ .* · harness show tuning abcd$", render(view, "table", width=1000), re.MULTILINE)
    assert "* on the Pareto front of accuracy and adapter parameters" in text
    bare = render(view_of(builders, builders.scored("toys/a", [90.0, 91.0]), builders.make_suite()), "table")
    assert not re.search(r"^[*^!~x] ", bare, re.MULTILINE)


def test_the_legend_says_nothing_of_differences_looks_or_ratios_that_no_table_has(builders) -> None:
    alone = builders.scored("toys/full", [90.0, 91.0])
    suite = builders.make_suite(baseline="toys/full", looks=(2, 4))
    text = render(view_of(builders, alone, suite), "table", width=300)
    assert "± 95 % t interval over seeds\n" in text
    assert "paired by seed" not in text
    assert "looks after" not in text
    both = [*alone, *builders.scored("toys/a", [80.0, 82.0])]
    text = render(view_of(builders, both, suite), "table", width=300)
    assert "± 95 % t interval over seeds; differences are paired by seed, with the interval of their test\n" in text
    assert "looks after 2 and 4 seeds" in text
    speed = {"train_throughput": 320.0, "train_time": 0.1}
    timed = builders.make_row(technique="toys/full", lane="time", metrics=speed, samples={"train": (0.1,) * 9})
    judged = builders.make_suite(baseline="toys/full", judge="train_throughput", tuning={})
    text = render(view_of(builders, [timed], judged), "table", width=300)
    assert "samples a second relative" not in text


def test_the_legend_says_which_test_decided_over_how_many_comparisons_at_which_margin(view: RunView) -> None:
    text = render(view, "table", width=300)
    assert (
        "verdicts: a margin of 1 point, Holm's correction over 18 comparisons, by the moderated paired t test "
        "(variances shrunk towards their common one)"
    ) in text
    assert "sign-flip" not in text


def test_the_legend_has_the_sign_flip_test_beside_the_one_that_decided_from_ten_seeds_on(builders) -> None:
    own = [90 + 0.1 * seed for seed in range(10)]
    rows = [*builders.scored("toys/full", [80.0, 80.5] * 5), *builders.scored("toys/a", own)]
    text = render(view_of(builders, rows, builders.make_suite(baseline="toys/full")), "table", width=300)
    assert "Holm's correction over 1 comparison, by the paired t test" in text
    assert "a sign-flip test, which assumes no normal noise, gives p < .05 for 1 of 1 better or worse" in text


def test_claims_iqm_and_next_steps_stand_below_the_tables(view: RunView) -> None:
    text = render(view, "table", width=300)
    assert re.search(
        r"claim a-beats-b on alpha: reproduced: accuracy of toys/full - toys/norm \+\d+\.\d ±\d\.\d "
        r"\(5 seeds\) · arXiv:0000\.00000", text,
    )  # fmt: skip
    assert "claims not tested in this run: c-beats-d" in text
    assert re.search(r"interquartile mean of accuracy over 2 workloads: toys/full \d\d\.\d, toys/dora", text)
    assert text.splitlines()[-1].startswith("next: harness show tuning abcd · ")


def test_a_quick_run_is_labelled_in_every_format(builders) -> None:
    quick = builders.make_suite(form="quick")
    view = view_of(builders, builders.scored("toys/a", [90.0, 91.0]), quick)
    for name in ("table", "github", "html", "json"):
        assert "quick" in render(view, name)


def test_an_unfinished_run_says_how_to_go_on(builders) -> None:
    rows = builders.scored("toys/a", [90.0, 91.0])
    view = view_of(builders, rows, builders.make_suite(), planned=10, finished="", exit_code=None)
    assert "unfinished: 2 of 10 cases are done; go on: harness run --resume 20260101-000000-abcd" in render(
        view, "table", width=200
    )


def test_missing_baselines_identical_and_lonely_results_are_explained_together(builders) -> None:
    base = builders.scored("toys/base", [90.0, 91.0, 92.0])
    twin = builders.scored("toys/twin", [90.0, 91.0, 92.0])
    lone = [*builders.scored("toys/one", [90.0]), *builders.scored("toys/two", [80.0])]
    text = render(view_of(builders, [*base, *twin, *lone], builders.make_suite()), "table", width=200)
    assert "the same accuracy as the baseline on every seed: toys/twin" in text
    assert "undecided, one seed: toys/one, toys/two" in text
    assert "only 1 of 3 seeds yet: toys/one, toys/two" in text
    alone = render(view_of(builders, twin, builders.make_suite()), "table", width=200)
    assert "not compared, as the baseline has no result: toys/base" in alone


def test_an_undecided_verdict_says_how_many_seeds_would_do(builders) -> None:
    base = builders.scored("toys/base", [90.0, 91.0, 92.0, 90.0, 89.0])
    noisy = builders.scored("toys/a", [94.0, 89.0, 95.0, 89.0, 92.0])
    text = render(view_of(builders, [*base, *noisy], builders.make_suite()), "table")
    found = re.search(r"undecided n~(\d+)", text)
    assert found
    assert f"n~{found[1]}: about {found[1]} seeds would decide" in text


def test_an_unstable_time_is_marked(builders) -> None:
    rng = random.Random(0)
    base, own = ([rng.lognormvariate(-5, 0.6) for _ in range(20)] for _ in range(2))
    rows = [*builders.scored("toys/base", [90.0, 91.0]), *builders.scored("toys/a", [90.0, 91.0])]
    text = render(view_of(builders, [*rows, builders.timed("toys/a", base, own)], builders.make_suite()), "table")
    assert re.search(r" ~x\d\.\d\d ", text)
    assert "~ unstable: the interval of this ratio reaches further than 10 %" in text


def test_colour_is_for_terminals_and_changes_nothing_else(view: RunView) -> None:
    plain, coloured = (render(view, "table", color=color, width=120) for color in (False, True))
    assert not ANSI.search(plain)
    assert ANSI.search(coloured)
    assert [line.rstrip() for line in ANSI.sub("", coloured).splitlines()] == plain.splitlines()


def test_a_very_long_name_keeps_both_its_ends(builders) -> None:
    name = "some-plugin-of-mine/a-technique-with-a-very-long-name-variant-b"
    text = render(view_of(builders, builders.scored(name, [90.0, 91.0]), builders.make_suite()), "table", width=80)
    row = next(line for line in text.splitlines() if line.startswith("some-plugin"))
    assert re.match(r"some-plugin-of\S*…\S*variant-b ", row)


def test_a_loss_is_shown_with_the_digits_that_its_spread_needs(builders) -> None:
    rows = [
        builders.make_row(technique=name, seed=seed, metrics={"loss": loss + seed / 1000})
        for name, loss in (("toys/base", 0.3), ("toys/a", 0.2))
        for seed in range(3)
    ]
    text = render(view_of(builders, rows, builders.make_suite(metrics=("loss",))), "table")
    assert re.search(r"toys/a +0\.2010 ±0\.0025", text)
    assert "vs toys/base" in text
    assert "nats" in text


def test_a_run_without_rows_says_so(builders) -> None:
    assert render(view_of(builders, [], builders.make_suite()), "table") == "run 20260101-000000-abcd has no rows yet"


def test_a_warning_of_the_judge_stands_below_the_table_with_how_many_seeds_it_was_given_on(builders) -> None:
    rows = [
        builders.make_row(technique=name, seed=seed, metrics={"accuracy": 90.0 + seed}, notes=notes)
        for name in ("toys/full", "toys/a")
        for seed in range(3)
        for notes in [("warning: nothing to gain",) if (name, seed) in {("toys/full", 0), ("toys/full", 2)} else ()]
    ]
    text = render(view_of(builders, rows, builders.make_suite(baseline="toys/full")), "table", width=120)
    assert "warning: nothing to gain (2 of 3 seeds): toys/full" in text
    assert "the same accuracy as the baseline on every seed: toys/a" in text


def test_an_advised_command_finds_the_run_and_its_plugin(builders, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("HARNESS_STORE", raising=False)
    monkeypatch.chdir(tmp_path)
    plugins = ({"name": "toys", "distribution": "", "version": "", "status": "ok", "cause": ""},)
    rows = [*builders.scored("toys/base", [90.0, 91.0]), builders.make_row(technique="toys/a b", status="error")]

    def text(folder: Path, **changes) -> str:
        return render(view_of(builders, rows, builders.make_suite(), folder=folder, **changes), "table", width=1000)

    others = ({**plugins[0], "name": "tool", "module": "my.tool"}, {**plugins[0], "name": "off", "status": "broken"})
    assert "harness -p harness_toys -p my.tool report abcd" in text(tmp_path / "s/runs/x", plugins=plugins + others)
    elsewhere = text(tmp_path / "my store/runs/x", plugins=plugins)
    assert "harness -p harness_toys export csv abcd --store 'my store'" in elsewhere
    assert "harness -p harness_toys show row 'abcd/toys/a b' --store 'my store'" in elsewhere
    assert f"harness export csv abcd --store {tmp_path.parent}/s\n" in text(tmp_path.parent / "s/runs/x") + "\n"
    assert "--store" not in text(tmp_path / ".harness/runs/x")
    monkeypatch.setenv("HARNESS_STORE", str(tmp_path / "s"))
    assert "--store" not in text(tmp_path / "s/runs/x")
