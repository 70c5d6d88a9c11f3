"""A plugin of decoders whose rule of acceptance is wrong, and one whose rule is right: what the judge tells apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.api import Technique, hookimpl

HARNESS_API = 1

RIGHT = "right"

WRONG = {
    "accepts-possible": ("AcceptsAll", "accepts whatever the target thinks possible"),
    "no-ratio": ("NoRatio", "accepts with p in place of p / q"),
    "swapped-ratio": ("SwappedRatio", "accepts with min(1, q / p)"),
    "residual-from-target": ("WrongResidual", "replaces by a draw from p in place of (p - q)+"),
    "bonus-from-draft": ("BonusFromDraft", "draws the token after a whole round from q"),
    "second-best": ("SecondBest", "right when sampling, and greedily accepts the target's second choice"),
}
WRONG_WHEN_GREEDY = ("swapped-ratio", "bonus-from-draft", "second-best")
"""Those that the comparison of greedy text finds already; the others are right there, and wrong when sampling."""


@hookimpl
def register_techniques() -> Sequence[Technique]:
    """A technique a rule; all of them propose with the draft of n-grams."""
    return [
        Technique(
            id=name,
            contract="decode",
            target=f"mutant_decoders:{target}",
            summary=summary,
            params={"gamma": 2},
        )
        for name, (target, summary) in {RIGHT: ("Speculating", "the rule of the papers"), **WRONG}.items()
    ]


@hookimpl
def register_suites() -> Sequence[Path]:
    """All of them beside decoders of the project."""
    return [Path(__file__).with_name("mutants.toml")]
