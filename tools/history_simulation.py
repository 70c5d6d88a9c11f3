"""Simulates how early changes over a history are found and how often nothing is flagged, on recorded noise.

Run ``python tools/history_simulation.py``; it takes about ten minutes and writes the figures into ``docs/history.md``.
A point of a history is a round of ``tests/data/gate_noise.json``: the log ratio of two fresh processes of one commit,
as a tracked run has one process of the technique and one of the baseline. Rounds are drawn in blocks of neighbours,
with all series of a round together. A detection is asked anew after every commit, and all that it ever flagged counts.

asv's and Otava's detections are asked on the same series: ``pip install asv``, and
``pip install --no-deps apache-otava`` in a folder on PYTHONPATH, since Otava pins other versions of NumPy.
``--choose`` prints the table from which the test and its level were chosen, and ``--calibrate`` how often the others'
settings flag still histories, both on seeds that the figures do not use.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from harness.analysis.divisive import Rules, Shift, best_split, shifts
from harness.analysis.times import TIME_MARGIN
from harness.history.judging import TIMES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]

ROOT = Path(__file__).parents[1]
NOISE = ROOT / "tests/data/gate_noise.json"
PAGE = ROOT / "docs/history.md"
BLOCK = 2
"""The number of consecutive rounds that are drawn together, since neighbours may be correlated."""

LENGTH: Final = 50
"""The number of commits of a history in which nothing changes."""

STEP: Final = math.log(1.10)
CREEP: Final = math.log(1.02)
DISTURBED: Final = math.log(1.15)
QUIET: Final = (10, 30)
"""The fewest and the most commits before a change."""

AFTER: Final = 8
"""The number of commits for which a detection is asked after a change begins."""

CHOOSING: Final = 1000
"""The seed of the trials from which the test was chosen; the figures have seed 0."""

OTAVA_LEVEL: Final = 1e-4
ASV_STEP: Final = 0.08
"""The settings with which Otava and asv flag no more still histories than the harness, by ``--calibrate``."""

Detection = Callable[["Vector"], list[int]]
"""A detection: from the log values of a series to the positions of what got slower."""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """The recorded log ratios: for each series and round, those of the sides 0, 1 and 2, the first one's being 0."""

    rounds: Vector

    @classmethod
    def read(cls, file: Path = NOISE) -> Noise:
        """Read the recorded noise from a file."""
        pairs = np.array([*json.loads(file.read_text())["rounds"].values()]) / 10_000
        return cls(rounds=np.concatenate([np.zeros((*pairs.shape[:2], 1)), -pairs], axis=2))

    def history(self, draw: np.random.Generator, length: int) -> Vector:
        """Return the log ratios of all series over ``length`` commits in which nothing changes."""
        recorded = self.rounds.shape[1]
        starts = draw.integers(0, recorded // BLOCK, math.ceil(length / BLOCK)) * BLOCK
        picks = (starts[:, None] + np.arange(BLOCK)).ravel()[:length]
        sides = np.array([draw.permutation(3)[:2] for _ in picks])
        return self.rounds[:, picks, sides[:, 0]] - self.rounds[:, picks, sides[:, 1]]


@dataclass(frozen=True, kw_only=True)
class Found:
    """The shares of trials in which a change was found by each commit after it began."""

    step: Sequence[float]
    creep: Sequence[float]


# --------------------------------------------------------------------------------------------- detections


def ours(rules: Rules = TIMES) -> Detection:
    """Return the project's detection."""
    return lambda values: [shift.position for shift in slower(values, rules)]


def slower(values: Vector, rules: Rules = TIMES) -> list[Shift]:
    """Return the shifts to a higher level."""
    return [shift for shift in shifts(values.tolist(), rules) if shift.difference.value > 0]


def by_permutation(level: float, rules: Rules, draws: int = 999) -> Detection:
    """Return E-divisive with the paper's test by permutation, of the whole part, in place of the t test."""

    def parts(series: Vector, offset: int, draw: np.random.Generator) -> list[tuple[int, float]]:
        position, statistic = best_split(series, rules.fewest)
        if not position:
            return []
        beyond = 0
        for _ in range(draws):
            beyond += best_split(draw.permutation(series), rules.fewest)[1] >= statistic
            if (beyond + 1) / (draws + 1) > level:
                return []
        size = float(series[position:].mean() - series[:position].mean())
        before, after = parts(series[:position], offset, draw), parts(series[position:], offset + position, draw)
        return [*before, (offset + position, size), *after]

    def detect(values: Vector) -> list[int]:
        found = parts(values[-rules.window :], max(0, len(values) - rules.window), np.random.default_rng(0))
        return [position for position, size in found if size >= rules.margin]

    return detect


def asv_steps(threshold: float) -> Detection:
    """Return asv's detection with its threshold of a relative change."""
    from asv.step_detect import detect_regressions, detect_steps

    def detect(values: Vector) -> list[int]:
        regressions = detect_regressions(detect_steps(np.exp(values).tolist()), threshold)[2]
        return [int(after) for _, after, _, _ in regressions or () if after is not None]

    return detect


def otava(margin: float, level: float = 1e-3) -> Detection:
    """Return Otava's detection with the smallest relative change and the largest p-value, by default its own."""
    from otava.analysis import compute_change_points

    def detect(values: Vector) -> list[int]:
        found, _ = compute_change_points(  # an array is not cut
            np.exp(values).tolist(), max_pvalue=level, min_magnitude=margin
        )
        return [point.index for point in found if point.stats.mean_2 > point.stats.mean_1]

    return detect


def detections() -> dict[str, Detection]:
    """Return the detections to compare, by name, without those that are not installed."""
    chosen = {"harness": ours()}
    if importlib.util.find_spec("otava"):
        chosen |= {"Otava, calibrated": otava(TIME_MARGIN, OTAVA_LEVEL), "Otava": otava(0.0)}
    if importlib.util.find_spec("asv"):
        chosen |= {"asv, calibrated": asv_steps(ASV_STEP), "asv, from 5 %": asv_steps(0.05)}
    return chosen


# ------------------------------------------------------------------------------------------------- trials


def slower_or_faster(values: Vector) -> list[int]:
    """Return the positions of all that the project's detection flags, also of what got faster."""
    return [shift.position for shift in shifts(values.tolist(), TIMES)]


def false_flags(noise: Noise, detect: Detection, trials: int, seed: int = 0) -> float:
    """Return the share of histories of one series, in which nothing changes, that are ever flagged as slower."""
    flagged = 0
    for trial in range(trials):
        draw = np.random.default_rng((seed, trial))
        values = noise.history(draw, LENGTH)[draw.integers(len(noise.rounds))]
        flagged += any(detect(values[:length]) for length in range(2, LENGTH + 1))
    return flagged / trials


def false_suites(noise: Noise, trials: int, rules: Rules = TIMES, seed: int = 0) -> float:
    """Return the share of histories of all series together in which any series is ever flagged, as slower or faster."""
    flagged = 0
    for trial in range(trials):
        values = noise.history(np.random.default_rng((seed, trial)), LENGTH)
        shared = replace(rules, together=len(values))
        flagged += any(shifts(series[:length].tolist(), shared) for series in values for length in range(2, LENGTH + 1))
    return flagged / trials


def found(noise: Noise, detect: Detection, trials: int, seed: int = 0) -> Found:
    """Return how soon a step and a creep of one series are flagged, after quiet commits of a random number."""
    shares = []
    for kind in ("step", "creep"):
        counts = np.zeros(AFTER)
        for trial in range(trials):
            draw = np.random.default_rng((seed, trial))
            quiet = int(draw.integers(*QUIET, endpoint=True))
            values = noise.history(draw, quiet + AFTER)[draw.integers(len(noise.rounds))].copy()
            commits = np.arange(1, AFTER + 1)
            values[quiet:] += STEP if kind == "step" else CREEP * commits
            # what was flagged before the change began is no finding; a creep may be placed at its first commits
            first = next((n for n in commits if any(at >= quiet - 1 for at in detect(values[: quiet + n]))), AFTER + 1)
            counts[first - 1 :] += 1
        shares.append(tuple(counts / trials))
    return Found(step=shares[0], creep=shares[1])


def disturbed(noise: Noise, detect: Detection, trials: int, seed: int = 0) -> float:
    """Return the share of histories that are flagged because the times of a single commit are 15 % longer."""
    flagged = 0
    for trial in range(trials):
        draw = np.random.default_rng((seed, trial))
        quiet = int(draw.integers(*QUIET, endpoint=True))
        values = noise.history(draw, quiet + AFTER)[draw.integers(len(noise.rounds))].copy()
        values[quiet] += DISTURBED
        flagged += any(
            at >= quiet - 1 for length in range(quiet + 1, quiet + AFTER + 1) for at in detect(values[:length])
        )
    return flagged / trials


def coverage(noise: Noise, trials: int, after: int = AFTER, seed: int = 0) -> tuple[float, float]:
    """Return how often the intervals of a found step hold its size and its commit, ``after`` commits after it."""
    sizes = places = count = 0
    for trial in range(trials):
        draw = np.random.default_rng((seed, trial))
        quiet = int(draw.integers(*QUIET, endpoint=True))
        values = noise.history(draw, quiet + after)[draw.integers(len(noise.rounds))].copy()
        values[quiet:] += STEP
        for shift in slower(values)[-1:]:
            low, high = shift.difference.low, shift.difference.high
            count += 1
            sizes += low is not None and high is not None and low <= STEP <= high
            places += shift.earliest <= quiet <= shift.latest
    return sizes / count, places / count


# ------------------------------------------------------------------------------------------------ figures


def figures(noise: Noise, trials: int, suites: int) -> str:
    """Return the figures in Markdown, as the page shows them."""
    named = detections()
    wrong = {name: false_flags(noise, detect, trials) for name, detect in named.items()}
    soon = {name: found(noise, detect, trials) for name, detect in named.items()}
    sizes, places = coverage(noise, trials)
    lines = [
        f"{trials} trials of each kind, of one of {len(noise.rounds)} series; a detection is asked after every commit.",
        "",
        f"| what | {' | '.join(named)} | wanted of harness |",
        f"|---|{'---|' * len(named)}---|",
        _line(f"{LENGTH} commits in which nothing changes, and any is ever flagged as slower", wrong, "at most 5 %"),
    ]
    odd = {name: disturbed(noise, detect, trials) for name, detect in named.items()}
    lines.append(_line("one commit 15 % slower, as on a busy machine, and the next ones not: ever flagged", odd, ""))
    for commit in (1, 2, 3, 4, 6):
        shares = {name: curves.step[commit - 1] for name, curves in soon.items()}
        lines.append(_line(f"10 % slower, found by commit {commit}", shares, "at least 95 %" if commit == 3 else ""))
    for commit in (3, 4, 5, 6, 8):
        shares = {name: curves.creep[commit - 1] for name, curves in soon.items()}
        what = f"2 % slower with every commit, found by commit {commit}"
        lines.append(_line(what, shares, "at least 90 %" if commit == 6 else ""))
    either, together = false_flags(noise, slower_or_faster, trials), false_suites(noise, suites)
    return "\n".join([
        *lines,
        "",
        f"- One series over {LENGTH} commits in which nothing changes: any flag, slower or faster, in "
        f"{_percent(either)} of the trials.",
        f"- All {len(noise.rounds)} series together over {LENGTH} commits in which nothing changes: any flag, slower "
        f"or faster, at any commit, in {_percent(together)} of {suites} histories.",
        f"- The 95 % interval of a step of 10 % holds its size in {_percent(sizes)} of the trials, and the interval "
        f"of its commit holds the commit in {_percent(places)}, {AFTER} commits after it.",
    ])  # fmt: skip


def calibrations(noise: Noise, trials: int) -> str:
    """Return the table of how often settings flag still histories, on seeds that the figures do not use."""
    named = {"harness": ours()}
    if importlib.util.find_spec("otava"):
        named |= {f"Otava, p < {level:g}, from 5 %": otava(TIME_MARGIN, level) for level in (3e-4, 1e-4, 3e-5)}
    if importlib.util.find_spec("asv"):
        named |= {f"asv, from {100 * step:g} %": asv_steps(step) for step in (0.06, 0.08, 0.10)}
    shares = {name: false_flags(noise, detect, trials, CHOOSING) for name, detect in named.items()}
    lines = [f"| {name} | {_percent(share)} |" for name, share in shares.items()]
    return "\n".join(["| detection | still histories flagged as slower |", "|---|---|", *lines])


def choices(noise: Noise, trials: int, suites: int) -> str:
    """Return the table of tests and rules, on seeds that the figures do not use."""
    lines = [
        "| test | level | fewest | short | flagged, one series | of all | 10 % by 2 | by 3 | 2 % each by 5 | by 6 |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    levels = [(fewest, alpha, TIMES.short) for fewest in (2, 3) for alpha in (1e-2, 1e-3, 1e-4, 1e-5)]
    for fewest, alpha, short in [*levels, (2, 1e-4, 0.0), (2, 1e-4, 1.0), (3, 1e-4, 0.0), (3, 1e-4, 1.0)]:
        rules = replace(TIMES, alpha=alpha, fewest=fewest, short=short)
        together = _percent(false_suites(noise, suites, rules, CHOOSING))
        lines.append(_choice(noise, trials, ("t", f"{alpha:g}", fewest, short), (ours(rules), together)))
    for fewest in (2, 3):
        for level in (0.01, 0.002):  # a hundred times as slow, so fewer trials
            detect = by_permutation(level, replace(TIMES, fewest=fewest))
            lines.append(_choice(noise, max(trials // 10, 1), ("permutation", f"{level:g}", fewest, 0.0), (detect, "")))
    return "\n".join(lines)


def _choice(noise: Noise, trials: int, what: tuple[str, str, int, float], found_by: tuple[Detection, str]) -> str:
    """Return a line of the table of `choices`; ``found_by`` has the detection and its share of all series together."""
    detect, together = found_by
    wrong, soon = false_flags(noise, detect, trials, CHOOSING), found(noise, detect, trials, CHOOSING)
    shares = [_percent(share) for share in (soon.step[1], soon.step[2], soon.creep[4], soon.creep[5])]
    return f"| {' | '.join([*map(str, what), _percent(wrong), together, *shares])} |"


def _line(what: str, shares: Mapping[str, float], wanted: str) -> str:
    """Return a line of the table."""
    return f"| {' | '.join([what, *map(_percent, shares.values()), wanted])} |"


def _percent(share: float) -> str:
    """Return a share as a percentage with one decimal."""
    return f"{100 * share:.1f} %"


def main() -> None:
    """Simulate, print the figures, and write those of the default number of trials into the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--suites", type=int, default=40, help="trials of all series together")
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--calibrate", action="store_true")
    options = parser.parse_args()
    noise = Noise.read()
    if options.calibrate:
        text = calibrations(noise, options.trials)
    else:
        text = (choices if options.choose else figures)(noise, options.trials, options.suites)
    print(text)  # noqa: T201
    if not (options.choose or options.calibrate) and options.trials == parser.get_default("trials"):
        page = PAGE.read_text(encoding="utf-8")
        marked = re.compile(r"(<!-- figures -->\n).*?(<!-- end of figures -->)", re.DOTALL)
        PAGE.write_text(marked.sub(lambda match: f"{match[1]}{text}\n{match[2]}", page), encoding="utf-8")


if __name__ == "__main__":
    main()
