"""Schedules a timed block: contestants take turns in random order, with the baseline before and after each few.

Only one contestant computes at a time. The executor decides in which process a turn is taken: the block yields the turn
and is sent the answer.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from harness.api import Case, Reply
from harness.execution.job import Act, Message
from harness.measure.clock import order_interval

WATCHED: Final = 3
"""The index in a sample of the seconds by the runner's clock, where the executor has a clock outside of the worker.

A sample is the seconds per call, whether the scheduler interrupted it, the number of calls, and those seconds.
"""

NEIGHBOURS: Final = 4
"""Number of contestants between two turns of the baseline; each is compared with the geometric mean of the two.

Disturbances of a shared machine last tenths of a second: samples of 3 ms correlated by 0.6 at a distance of
12 ms, 0.4 at 60, 0.2 at 300 and not at all from 600 ms on.
"""

LONG_S: Final = 0.03
"""Seconds from which a baseline's turn is taken once a round: it costs more, and averages over disturbances."""

FEWEST_ROUNDS: Final = 10
"""Rounds that every contestant takes before it may leave."""

NARROW: Final = 0.04
"""A contestant leaves the block once the intervals of its ratios to the baseline are narrower than this share."""

CLOCKS_DIFFER: Final = {0.25: (0.25, 0.002), 0.5: (1.0, 0.01)}
"""By quantile over the rounds: the share and the seconds of a sample that a contestant's clock may lack.

The runner hears of the begin and of the end of a sample with the same delay: about 0.05 ms, and milliseconds on a
machine that does much else. So the difference is around zero, and a quarter of the differences is below zero, whereas
a slowed clock lacks a part of every sample.
"""

ROUNDS_OF_DOUBT: Final = 12
"""A clock is found at fault over at least so many rounds; it goes on until then where its clock seems slow.

In a few rounds on a busy machine all news of an end can be late by chance.
"""

UNSTABLE: Final = 0.10
"""A spread (interquartile range over median) past this is noted beside the figure."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A request to a contestant. ``open`` and ``round`` are answered by a message, ``close`` by a reply."""

    contestant: int
    act: Act


Block = Generator[Turn, Message | Reply, list[Reply]]


@dataclass(kw_only=True)
class _Contestant:
    """The results of one case: the answer to its opening, its samples by round and phase, and its final reply.

    ``beside`` holds for each of its turns the baseline's before and after.
    """

    opened: Message = field(default_factory=dict)
    rounds: list[Message] = field(default_factory=list)
    beside: list[tuple[Message, Message]] = field(default_factory=list)
    end: Reply | None = None

    @property
    def phases(self) -> list[str]:
        return list(self.opened["batches"])

    @property
    def measured(self) -> list[str]:
        return [*self.phases, *self.opened["probes"]]

    def seconds(self, phase: str) -> list[float]:
        return [samples[phase][0] for samples in self.rounds]

    def seconds_beside(self, phase: str) -> list[float]:
        """Return the baseline's seconds beside each turn, the geometric mean of the turns before and after."""
        return [math.sqrt(before[phase][0] * after[phase][0]) for before, after in self.beside]

    def clock_problem(self, phase: str) -> str:
        """Return the fault of the clock in the contestant's process; empty where the runner's clock agrees with it.

        The runner's clock is in a process of its own, beside the contestant's.
        """
        samples = [sample[phase] for sample in self.rounds if len(sample[phase]) > WATCHED]
        if not samples:
            return ""
        counted = statistics.median(sample[0] * sample[2] for sample in samples)
        missing = sorted(sample[WATCHED] - sample[0] * sample[2] for sample in samples)
        for quantile, (share, seconds) in CLOCKS_DIFFER.items():
            lacking = missing[int(quantile * (len(missing) - 1))]
            if lacking > share * counted + seconds:
                whole = counted + lacking
                return (
                    f"{phase}: the clock of its process counts {counted:.3g} s of {whole:.3g} s that pass in a sample"
                )
        return ""


def run(cases: Sequence[Case], rounds: int) -> Block:
    """Take ``cases`` (the first is the baseline) through about ``rounds`` rounds; return a reply for each.

    A contestant leaves earlier once its ratio to the baseline is known, and stays for up to twice as many where rounds
    were interrupted or, of few rounds, where its clock seems slow. The failure of a contestant does not affect the
    others.
    """
    contestants = [_Contestant() for _ in cases]
    order = random.Random(cases[0].key)
    yield from _ask(contestants, range(len(cases)), "open")
    if len(_alive(contestants)) > 1 and contestants[0].end is None:
        yield from _ask(contestants, [0], "round")
    for number in range(max(2 * rounds, ROUNDS_OF_DOUBT)):
        baseline = contestants[0] if contestants[0].end is None else None
        taking = [i for i in _alive(contestants) if _open(contestants[i], baseline, number, rounds)]
        if not taking:
            break
        yield from _round(contestants, [i for i in taking if i != 0], order)
    alive = _alive(contestants)
    baseline = contestants[0] if 0 in alive else None
    yield from _ask(contestants, alive, "close")
    return [_summary(contestant, baseline) for contestant in contestants]


def _alive(contestants: Sequence[_Contestant]) -> list[int]:
    return [i for i, contestant in enumerate(contestants) if contestant.end is None]


def _ask(contestants: Sequence[_Contestant], whom: Sequence[int], act: Act) -> Generator[Turn, Message | Reply, None]:
    for i in whom:
        answer = yield Turn(contestant=i, act=act)
        if isinstance(answer, Reply):
            contestants[i].end = answer
        elif act == "open":
            contestants[i].opened = answer
        else:
            contestants[i].rounds.append(answer)


def _round(
    contestants: Sequence[_Contestant], others: list[int], order: random.Random
) -> Generator[Turn, Message | Reply, None]:
    """Give each of the ``others`` a turn in random order, and the baseline one after every few of them."""
    baseline = contestants[0]
    order.shuffle(others)
    few = max(1, len(others)) if baseline.opened.get("turn_s", 0.0) >= LONG_S else NEIGHBOURS
    for start in range(0, max(1, len(others)), few):
        group = others[start : start + few]
        yield from _ask(contestants, group if baseline.end else [*group, 0], "round")
        for i in group:
            if baseline.end is None and contestants[i].end is None:
                contestants[i].beside.append((baseline.rounds[-2], baseline.rounds[-1]))


def _open(contestant: _Contestant, baseline: _Contestant | None, done: int, rounds: int) -> bool:
    """Return whether the figures of a contestant need another round beyond the ``done`` ones of the block."""
    if len(contestant.rounds) < ROUNDS_OF_DOUBT and any(map(contestant.clock_problem, contestant.measured)):
        return True
    if done >= 2 * rounds:
        return False
    return done < min(FEWEST_ROUNDS, rounds) or not all(
        _known(contestant, baseline, phase) or sum(_clean(contestant, baseline, phase)) >= rounds
        for phase in contestant.phases
    )


def _known(contestant: _Contestant, baseline: _Contestant | None, phase: str) -> bool:
    """Return whether the interval of a phase's ratio to the baseline, or of its own seconds, is narrow enough."""
    values = contestant.seconds(phase)
    if _paired(contestant, baseline, phase):
        values = [own / beside for own, beside in zip(values, contestant.seconds_beside(phase), strict=True)]
    low, high = order_interval(values)
    return high - low <= NARROW * statistics.median(values)


def _clean(contestant: _Contestant, baseline: _Contestant | None, phase: str) -> list[bool]:
    """Return for each turn whether neither the contestant nor the baseline beside it was interrupted."""
    own = [not samples[phase][1] for samples in contestant.rounds]
    if not _paired(contestant, baseline, phase):
        return own
    beside = [before[phase][1] or after[phase][1] for before, after in contestant.beside]
    return [mine and not its for mine, its in zip(own, beside, strict=True)]


def _paired(contestant: _Contestant, baseline: _Contestant | None, phase: str) -> bool:
    return baseline is not None and baseline is not contestant and phase in baseline.phases


def _summary(contestant: _Contestant, baseline: _Contestant | None) -> Reply:
    """Return the reply of a contestant with its figures, or the reply that ended it early."""
    assert contestant.end is not None
    if contestant.end.status != "ok":
        return contestant.end
    if problem := next(filter(None, map(contestant.clock_problem, contestant.measured)), ""):
        return replace(contestant.end, status="incorrect", reason=problem, metrics={})
    samples: dict[str, Sequence[float]] = {"build": contestant.opened["build"]}
    metrics = {"build_time": statistics.median(contestant.opened["build"])}
    if contestant.opened["init"]:
        samples["init"] = contestant.opened["init"]
        metrics["init_time"] = statistics.median(contestant.opened["init"])
    for probe in contestant.opened["probes"]:
        samples[probe] = contestant.seconds(probe)
    metrics |= contestant.end.metrics
    notes = [*contestant.end.notes]
    for phase, batch in contestant.opened["batches"].items():
        kept = _clean(contestant, baseline, phase)
        if 2 * sum(kept) < len(kept):
            notes.append(f"{phase}: {len(kept) - sum(kept)} of {len(kept)} turns were interrupted")
            kept = [True] * len(kept)
        seconds = _chosen(contestant.seconds(phase), kept)
        samples[phase] = seconds
        if _paired(contestant, baseline, phase):
            samples[f"baseline.{phase}"] = _chosen(contestant.seconds_beside(phase), kept)
        median = statistics.median(seconds)
        metrics |= {f"{phase}_time": median, f"{phase}_throughput": batch / median}
        if (spread := _spread(seconds)) > UNSTABLE:
            notes.append(f"unstable: {phase} spread {spread:.0%}".replace("%", " %"))
    return replace(contestant.end, metrics=metrics, samples=samples, notes=notes)


def _chosen(values: Sequence[float], kept: Sequence[bool]) -> list[float]:
    return [value for value, keep in zip(values, kept, strict=True) if keep]


def _spread(seconds: Sequence[float]) -> float:
    """Return the interquartile range over the median; 0 for a single sample, which has no spread."""
    if len(seconds) < 2:
        return 0.0
    low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return (high - low) / middle if middle else 0.0
