"""What a search found, as text and as JSON."""

from __future__ import annotations

import json
from dataclasses import replace

from harness.analysis.bisection import Commit, Found, Untold
from harness.analysis.changes import Change, Place
from harness.analysis.intervals import Estimate
from harness.report.bisected import Bisected, render_bisected

PLACE = Place(suite="toy", workload="core/alpha", technique="toys/a")
SLOW = Change(
    place=PLACE, metric="train_time", unit="s", kind="time", verdict="worse",
    difference=Estimate(value=0.302, low=0.281, high=0.323, n=8), relative=True, margin=0.05,
)  # fmt: skip
LINE = [
    Commit(commit=f"{number}" * 40, subject=f"step {number}", author="A. Person", date="2026-11-29T10:00:00+00:00")
    for number in range(6)
]
FOUND = Bisected(
    whole=replace(SLOW, difference=Estimate(value=0.31, low=0.29, high=0.33, n=4)),
    change=SLOW,
    line=LINE,
    found=Found(low=2, high=3, answers={3: "after", 2: "before"}, untold={4: Untold(reason="it does not build")}),
    error=0.05,
)
RANGE = replace(
    FOUND,
    change=None,
    error=0.0,
    found=Found(low=1, high=3, answers={3: "after", 1: "before"}, untold={2: Untold(reason="crash\x1b[2J")}),
)


def test_a_commit_is_named_with_its_subject_author_day_and_change_and_the_next_commands() -> None:
    assert render_bisected(FOUND, as_json=False, width=200).splitlines() == [
        "train_time of toys/a on alpha changed at 333333333 step 3 (A. Person, 2026-11-29)",
        "from 222222222 to 333333333: +30.2 % [+28.1, +32.3]",
        "from 000000000 to 555555555: +31.0 % [+29.0, +33.0] (worse)",
        "2 of the 4 commits between them answered, each by times in turns; at most 5 % of such searches name a wrong "
        "commit",
        "not told: 444444444 step 4: it does not build",
        "see: git show 333333333",
        "see: harness compare 222222222 333333333 --suite toy --technique toys/a --release none",
        'see: harness accept 333333333 --metric train_ratio --technique toys/a --reason "..."',
    ]


def test_where_no_commit_could_be_told_all_that_may_be_it_are_listed() -> None:
    text = render_bisected(RANGE, as_json=False)
    assert text.startswith(
        "train_time of toys/a on alpha changed at one of 2 commits, between which nothing could be told"
    )
    assert "  222222222 step 2 (A. Person, 2026-11-29)" in text.splitlines()
    assert "  333333333 step 3 (A. Person, 2026-11-29)" in text.splitlines()
    assert "\x1b" not in text
    assert "git log --first-parent 111111111..333333333" in text
    assert "harness accept" not in text


def test_a_step_that_is_less_than_half_of_the_change_is_told_with_the_next_search() -> None:
    part = replace(FOUND, change=replace(SLOW, difference=Estimate(value=0.1, low=0.09, high=0.11, n=8)))
    text = render_bisected(part, as_json=False)
    assert "less than half of the change is in this step" in text
    assert "harness compare 333333333 555555555 --suite toy --technique toys/a --bisect train_time" in text
    assert "less than half" not in render_bisected(FOUND, as_json=False)


def test_the_json_form_has_all_of_it() -> None:
    told = json.loads(render_bisected(FOUND, as_json=True))
    assert told["commit"] == told["suspects"][0]
    assert told["commit"]["commit"] == "3" * 40
    assert (told["technique"], told["metric"], told["error"]) == ("toys/a", "train_time", 0.05)
    assert told["change"]["difference"]["low"] == 0.281
    assert [(entry["subject"], entry["answer"], entry["reason"]) for entry in told["asked"]] == [
        ("step 3", "after", ""), ("step 2", "before", ""), ("step 4", "untold", "it does not build"),
    ]  # fmt: skip
    told = json.loads(render_bisected(RANGE, as_json=True))
    assert (told["commit"], told["change"], len(told["suspects"])) == (None, None, 2)
