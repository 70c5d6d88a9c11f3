"""Simulates how early changes over a history are found and how often nothing is flagged, on recorded noise.

Run ``python tools/history_simulation.py``; it takes about ten minutes and writes the figures into ``docs/history.md``.
A point of a history is a round of ``tests/data/gate_noise.json``: the log ratio of two fresh processes of one commit,
as a tracked run has one process of the technique and one of the baseline. Rounds are drawn in blocks of neighbours,
with all series of a round together. A detection is asked anew after every commit, and all that it ever flagged counts.

asv's and Otava's detections are asked on the same series: ``pip install asv``, and
``pip install --no-deps apache-otava`` in a folder on PYTHONPATH, since Otava pins other versions of NumPy.
``--choose`` prints the table from which the test and its levels were chosen, and ``--calibrate`` how often settings of
the others flag still histories, both on seeds that the figures do not use.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from history_screen import Screen

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

TRIALS: Final = {"figures": 2000, "calibrate": 1000, "choose": 400}
SUITES: Final = {"figures": 400, "calibrate": 0, "choose": 100}
"""The numbers of trials of one series and of all series together, by what is asked."""

OTAVA_LEVEL: Final = 1e-4
ASV_STEP: Final = 0.07
"""The strictest of the settings of ``--calibrate`` with which Otava and asv flag more still histories than we do."""

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
    from asv.step_detect import detect_regressions

    def detect(values: Vector) -> list[int]:
        regressions = detect_regressions(_asv_levels(values.tobytes()), threshold)[2]
        return [int(after) for _, after, _, _ in regressions or () if after is not None]

    return detect


@cache
def _asv_levels(values: bytes) -> list[tuple[int, int, float, float, float]]:
    """Return the levels that asv finds in log values, which is what takes its time and depends on no threshold."""
    from asv.step_detect import detect_steps

    return list(detect_steps(np.exp(np.frombuffer(values)).tolist()))


def otava(margin: float, level: float = 1e-3) -> Detection:
    """Return Otava's detection with the smallest relative change and the largest p-value, by default its own."""
    from otava.analysis import compute_change_points

    def detect(values: Vector) -> list[int]:
        found, _ = compute_change_points(  # an array is not cut
            np.exp(values).tolist(), max_pvalue=level, min_magnitude=margin
        )
        return [point.index for point in found if point.stats.mean_2 > point.stats.mean_1]

    return detect


def detections(series: int) -> dict[str, Detection]:
    """Return the detections to compare, by name, without those that are not installed.

    The second one judges a series together with others, ``series`` in all.
    """
    chosen = {"harness": ours(), f"harness, one of {series}": ours(replace(TIMES, together=series))}
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


def false_suites(noise: Noise, trials: int, candidates: Sequence[Rules] = (TIMES,), seed: int = 0) -> list[float]:
    """Return for each of the rules the share of histories of all series together in which any series is ever flagged.

    A flag is of what got slower or faster.
    """
    flagged = np.zeros(len(candidates))
    for trial in range(trials):
        values = noise.history(np.random.default_rng((seed, trial)), LENGTH)
        screen = Screen(values)
        for number, rules in enumerate(candidates):
            shared = replace(rules, together=len(values))
            flagged[number] += any(
                shifts(values[series, :length].tolist(), shared)
                for series, length in np.argwhere(screen.may_flag(shared)).tolist()
            )
    return [float(count) / trials for count in flagged]


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
    named = detections(len(noise.rounds))
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
    either, together = false_flags(noise, slower_or_faster, trials), false_suites(noise, suites)[0]
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
        named |= {f"asv, from {100 * step:g} %": asv_steps(step) for step in (0.05, 0.06, 0.07, 0.08)}
    shares = {name: false_flags(noise, detect, trials, CHOOSING) for name, detect in named.items()}
    lines = [f"| {name} | {_percent(share)} |" for name, share in shares.items()]
    return "\n".join(["| detection | still histories flagged as slower |", "|---|---|", *lines])


def candidates() -> dict[str, Rules]:
    """Return the rules from which those of `TIMES` were chosen, by what is different."""
    first, *others = TIMES.newest
    return {
        "as chosen": TIMES,
        **{f"p < {alpha:g}": replace(TIMES, alpha=alpha) for alpha in (1e-3, 1e-5)},
        "two points make a level": replace(TIMES, fewest=2),
        **{f"a level of n points needs {short:g}/n margins more": replace(TIMES, short=short) for short in (0.0, 1.0)},
        **{f"one newest point p < {level:g}": replace(TIMES, newest=(level, *others)) for level in (6e-4, 1e-4, 5e-5)},
        **{f"more newest points p < {level:g}": replace(TIMES, newest=(first, *[level] * 3)) for level in (2e-3, 2e-4)},
        "each newest point beyond the margin": replace(TIMES, near=1.0),
        "the noise known beforehand adds no degrees": replace(TIMES, prior=0.0),
        "at most two newest points": replace(TIMES, newest=TIMES.newest[:2]),
        "no newest points": replace(TIMES, newest=()),
    }


def choices(noise: Noise, trials: int, suites: int) -> str:
    """Return the table of tests and rules, on seeds that the figures do not use."""
    commits = ("10 % by 1", "by 2", "by 3", "2 % each by 3", "by 4", "by 6")
    among = f"of {len(noise.rounds)}"
    lines = [
        f"| rules | one series flagged | {' | '.join(commits)} | any {among} flagged "
        f"| one {among}: 10 % by 3 | 2 % each by 6 |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    together = false_suites(noise, suites, [*candidates().values()], CHOOSING)
    for (name, rules), flagged in zip(candidates().items(), together, strict=True):
        soon = found(noise, ours(replace(rules, together=len(noise.rounds))), trials, CHOOSING)
        shares = [flagged, soon.step[2], soon.creep[5]]
        lines.append(_choice(noise, trials, name, ours(rules), shares))
    if importlib.util.find_spec("otava"):
        lines.append(_choice(noise, trials, "Otava, calibrated", otava(TIME_MARGIN, OTAVA_LEVEL), ()))
    for level in (0.01, 0.002):  # a hundred times as slow, so fewer trials
        name = f"permutations, p < {level:g}"
        lines.append(_choice(noise, max(trials // 10, 1), name, by_permutation(level, TIMES), ()))
    return "\n".join(lines)


def _choice(noise: Noise, trials: int, name: str, detect: Detection, together: Sequence[float]) -> str:
    """Return a line of the table of `choices`; ``together`` has the shares of all series together."""
    wrong, soon = false_flags(noise, detect, trials, CHOOSING), found(noise, detect, trials, CHOOSING)
    shares = [wrong, *soon.step[:3], soon.creep[2], soon.creep[3], soon.creep[5], *together]
    return f"| {' | '.join([name, *map(_percent, shares), *[''] * (3 - len(together))])} |"


def _line(what: str, shares: Mapping[str, float], wanted: str) -> str:
    """Return a line of the table."""
    return f"| {' | '.join([what, *map(_percent, shares.values()), wanted])} |"


def _percent(share: float) -> str:
    """Return a share as a percentage with one decimal."""
    return f"{100 * share:.1f} %"


def main() -> None:
    """Simulate, print the figures, and write those of the default number of trials into the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, help="of one series")
    parser.add_argument("--suites", type=int, help="trials of all series together")
    parser.add_argument("--choose", dest="asked", action="store_const", const="choose", default="figures")
    parser.add_argument("--calibrate", dest="asked", action="store_const", const="calibrate")
    options = parser.parse_args()
    trials = TRIALS[options.asked] if options.trials is None else options.trials
    suites = SUITES[options.asked] if options.suites is None else options.suites
    noise = Noise.read()
    if options.asked == "calibrate":
        text = calibrations(noise, trials)
    else:
        text = (choices if options.asked == "choose" else figures)(noise, trials, suites)
    print(text)  # noqa: T201
    if options.asked == "figures" and (trials, suites) == (TRIALS["figures"], SUITES["figures"]):
        page = PAGE.read_text(encoding="utf-8")
        marked = re.compile(r"(<!-- figures -->\n).*?(<!-- end of figures -->)", re.DOTALL)
        PAGE.write_text(marked.sub(lambda match: f"{match[1]}{text}\n{match[2]}", page), encoding="utf-8")


if __name__ == "__main__":
    main()
