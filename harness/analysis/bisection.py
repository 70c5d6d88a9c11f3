"""Searches the commit at which a value changed: by bisection, where an answer may be wrong or may be missing.

The commits of a line are numbered: 0 is the base, the last one is head. A commit is ``before`` the change where its
value is nearer to that of the base than half the way to that of head, and ``after`` otherwise. Values that the code
determines give certain answers. Those of times are tests, and what the whole search may err is shared among the most
tests that it may make (Bonferroni), so that it is held for every way the search may take.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from harness.analysis.intervals import deviation, mean_interval
from harness.analysis.significance import paired_t_p, permutation_floor
from harness.analysis.times import FEWEST_ROUNDS, LOOKS

ERROR: Final = 0.05
"""The largest probability that a search names a commit at which the value does not cross half the way."""

MOST_UNDECIDED: Final = 3
"""The undecided comparisons after which a search ends with several commits: its noise will not decide others either."""

Answer = Literal["before", "after"]


@dataclass(frozen=True, kw_only=True)
class Untold:
    """Why a commit has no answer. ``undecided`` where a comparison left it open, rather than a build or a failure."""

    reason: str
    undecided: bool = False


@dataclass(frozen=True, kw_only=True)
class Found:
    """The result of a search: the change is after commit ``low`` and not after ``high``.

    ``answers`` and ``untold`` have the commits that were asked, in the order of the search.
    """

    low: int
    high: int
    answers: Mapping[int, Answer]
    untold: Mapping[int, Untold]

    @property
    def suspects(self) -> range:
        """The commits of which one made the change; a single one where the search could tell."""
        return range(self.low + 1, self.high + 1)


def search(last: int, ask: Callable[[int], Answer | Untold]) -> Found:
    """Return where the value changed between commit 0, which is before the change, and ``last``, which is after it.

    The next commit to ask is the one in the middle of those that are left, without those that gave no answer. At most
    `steps` answers are needed.
    """
    low, high = 0, last
    answers: dict[int, Answer] = {}
    untold: dict[int, Untold] = {}
    while left := [number for number in range(low + 1, high) if number not in untold]:
        number = left[len(left) // 2]
        answer = ask(number)
        if isinstance(answer, Untold):
            untold[number] = answer
            if sum(entry.undecided for entry in untold.values()) >= MOST_UNDECIDED:
                break
            continue
        answers[number] = answer
        low, high = (number, high) if answer == "before" else (low, number)
    return Found(low=low, high=high, answers=answers, untold=untold)


def steps(last: int) -> int:
    """Return the most answers that a search among ``last`` commits needs."""
    return math.ceil(math.log2(last))


def level_of(last: int) -> float:
    """Return the one-sided level of each look of each test of a search among ``last`` commits.

    The tests are one of the whole difference, those of the answers, and those that may stay undecided.
    """
    return ERROR / (1 + steps(last) + MOST_UNDECIDED) / len(LOOKS)


def half_way(ratios: Sequence[float], level: float) -> float | None:
    """Return half the mean of log ratios of head to base; None where they do not show that the true mean is beyond it.

    It is beyond it where the one-sided limit of the mean, at ``level``, is.
    """
    if len(ratios) < FEWEST_ROUNDS:
        return None
    middle = math.fsum(ratios) / len(ratios) / 2
    return middle if middle and side_of(ratios, middle, level) == "after" else None


def side_of(ratios: Sequence[float], middle: float, level: float) -> Answer | None:
    """Return on which side of ``middle`` the mean of log ratios to the base is; None where a t test at ``level`` can't.

    The base is at 0, so that beyond ``middle``, in its direction, is ``after``.
    """
    if len(ratios) < FEWEST_ROUNDS:
        return None
    beyond = [math.copysign(1, middle) * (ratio - middle) for ratio in ratios]
    value = mean_interval(beyond).value
    p = paired_t_p(beyond) if deviation(beyond) else permutation_floor(len(beyond))
    if value == 0 or p / 2 >= level:
        return None
    return "after" if value > 0 else "before"


def side_of_value(value: float, base: float, head: float) -> Answer:
    """Return on which side of the middle between base and head a value is that the code determines."""
    return "after" if abs(value - head) <= abs(value - base) else "before"


@dataclass(frozen=True, kw_only=True)
class Commit:
    """A commit of the line that is searched; ``date`` is the author's, in ISO 8601."""

    commit: str
    subject: str
    author: str
    date: str
