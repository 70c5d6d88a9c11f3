"""The family ``route`` passes what every family has to pass."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from torch import Tensor

from harness.families.route.contract import Sparse, Tokens
from harness.testing import FamilyConformance
from tests.families.route.routers import Plain, top2


def _heavy(logits: Tensor, tokens: Tokens) -> Sparse:
    found = top2(logits, tokens)
    return replace(found, weight=1.01 * found.weight)


def heavy() -> Plain:
    """Return a technique whose weights sum to more than 1."""
    return Plain(_heavy)


class TestFamily(FamilyConformance):
    plugin = "route"
    technique = "tests.families.route.routers:Plain"
    faults: ClassVar = {"tests.families.route.test_conformance:heavy": "sum to 1.01"}
