"""Techniques of the contract `finetune`; every command imports this module, so it imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.api import Technique, hookimpl

HARNESS_API = 1


@hookimpl
def register_techniques() -> Sequence[Technique]:
    """Declare the techniques: the baseline of the suite, and what is compared with it."""
    return [
        Technique(
            id="plain",
            contract="finetune",
            target="harness_kept.techniques:Plain",
            summary="trains every parameter",
        ),
        Technique(
            id="first",
            contract="finetune",
            target="harness_kept.techniques:LateBias",
            summary="trains the biases of the last `layers` linears",
            params={"layers": 2},
            space={"lr": [1e-2, 3e-2, 1e-1]},
        ),
    ]


@hookimpl
def register_suites() -> Sequence[Path]:
    """Declare the suite, which compares the techniques."""
    return sorted((Path(__file__).parent / "suites").glob("*.toml"))
