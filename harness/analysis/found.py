"""What the test of a claim finds, whatever the kind of the claim."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from harness.analysis.compare import Comparison, Verdict
from harness.analysis.intervals import Estimate

ClaimVerdict = Literal["reproduced", "contradicted", "undecided"]

Paired = Literal["seeds", "rounds", "contestants"]
"""What the values of a test are paired by, or counted in."""

ORDERED: Final[Mapping[Verdict, ClaimVerdict]] = {
    "better": "reproduced",
    "worse": "contradicted",
    "same": "contradicted",
    "undecided": "undecided",
}
"""The verdict on a claim that one side is better, by the verdict of the comparison."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """The verdict on a claim and what it rests on.

    - ``comparison``: the comparison that decided; None where the claim was not tested, or where no two sides are
      compared.
    - ``estimate``: the quantity that the claim is about, with its interval, and ``words``: what that quantity is, for a
      person; None and empty where the difference of the comparison is that quantity.
    - ``needed``: about how many seeds, rounds or contestants would decide, ``counted`` says which of these; None where
      the claim is decided, and where no realistic number would.
    """

    verdict: ClaimVerdict
    reason: str = ""
    comparison: Comparison | None = None
    estimate: Estimate | None = None
    words: str = ""
    needed: int | None = None
    counted: Paired = "seeds"


def untested(reason: str) -> Found:
    """Return that a claim was not tested, and why."""
    return Found(verdict="undecided", reason=reason)
