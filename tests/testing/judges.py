"""Judges for the tests of the kit for families: a sound one, and ones that each break one promise."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from harness.api import CaseContext, Incorrect, Json, OpenCase, Outcome, Phase
from harness.judge.cache import key_of, load_or_make, sources_of
from harness.judge.seeds import generator
from harness.judge.settings import read_settings, setting


class Doubles(Protocol):
    """A technique that doubles."""

    def double(self, x: float) -> float:
        """Return ``2 x``."""


class NoProtocol:
    """What a contract must not name."""


class Right:
    def double(self, x: float) -> float:
        return 2 * x


class Wrong:
    def double(self, x: float) -> float:
        return 3 * x


@dataclass(frozen=True, kw_only=True)
class Settings:
    count: int = setting(100, "numbers that are doubled", above=0, most=1000)


class Sound:
    """Doubles drawn numbers."""

    def check_settings(self, settings: Mapping[str, Json]) -> None:
        read_settings(Settings, settings)

    def prepare(self, context: CaseContext) -> None:
        load_or_make(context.cache, f"kit-{key_of({'sources': sources_of(__name__)})}", self.made)

    def made(self) -> dict[str, torch.Tensor]:
        return {"table": torch.arange(5)}

    def check(self, technique: Doubles, context: CaseContext) -> None:
        if technique.double(2) != 4:
            raise Incorrect(f"2 becomes {technique.double(2)}; expected 4")

    def evaluate(self, technique: Doubles, context: CaseContext) -> Outcome:
        count = read_settings(Settings, context.settings).count
        drawn = torch.rand(count, generator=generator(context.seed, "numbers"))
        return Outcome(metrics={"kit_sum": technique.double(float(drawn.sum()))})

    def open(self, technique: Doubles, context: CaseContext) -> OpenCase:
        return OpenCase(phases={"double": Phase(run=lambda: technique.double(1), samples=1)})


class EmitsMore(Sound):
    def evaluate(self, technique: Doubles, context: CaseContext) -> Outcome:
        return Outcome(metrics={**super().evaluate(technique, context).metrics, "kit_other": 1.0})


class OpensOther(Sound):
    def open(self, technique: Doubles, context: CaseContext) -> OpenCase:
        return OpenCase(phases={"halve": Phase(run=lambda: technique.double(1), samples=1)})


def _figures(_: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {"kit_rate": 1.0}


class FiguresMore(Sound):
    def open(self, technique: Doubles, context: CaseContext) -> OpenCase:
        return OpenCase(phases=super().open(technique, context).phases, figures=_figures)


class SaysNo(Sound):
    """Returns a verdict where it has to raise."""

    def check(self, technique: Doubles, context: CaseContext) -> bool:  # type: ignore[override]
        return technique.double(2) == 4


class GivesMappings(Sound):
    """Returns mappings in place of an outcome and an open case."""

    def evaluate(self, technique: Doubles, context: CaseContext) -> dict[str, float]:  # type: ignore[override]
        return {"kit_sum": 1.0}

    def open(self, technique: Doubles, context: CaseContext) -> dict[str, Phase]:  # type: ignore[override]
        return {"double": Phase(run=lambda: technique.double(1), samples=1)}


class CountsNothing(Sound):
    """Opens a phase of no samples, and gives a tensor as a metric."""

    def evaluate(self, technique: Doubles, context: CaseContext) -> Outcome:
        return Outcome(metrics={"kit_sum": torch.ones(())})  # type: ignore[dict-item]

    def open(self, technique: Doubles, context: CaseContext) -> OpenCase:
        return OpenCase(phases={"double": Phase(run=lambda: technique.double(1), samples=0)})


class NotesText(Sound):
    def evaluate(self, technique: Doubles, context: CaseContext) -> Outcome:
        return Outcome(metrics={"kit_sum": 1.0}, notes="one note")


class TakesAll(Sound):
    def check_settings(self, settings: Mapping[str, Json]) -> None:
        pass


class IgnoresSeed(Sound):
    def evaluate(self, technique: Doubles, context: CaseContext) -> Outcome:
        return Outcome(metrics={"kit_sum": technique.double(1)})


class DrawsAlike(Sound):
    """Draws the same numbers for every seed."""

    def evaluate(self, technique: Doubles, context: CaseContext) -> Outcome:
        drawn = float(torch.randn((), generator=generator(0, "kit")))
        return Outcome(metrics={"kit_sum": technique.double(1) + drawn})


class NeverErrs(Sound):
    """Draws from the seed what a right technique always gets right."""

    def evaluate(self, technique: Doubles, context: CaseContext) -> Outcome:
        drawn = int(torch.randint(100, (), generator=generator(context.seed, "kit")))
        return Outcome(metrics={"kit_sum": float(technique.double(drawn) - 2 * drawn)})


class Moody(Sound):
    def evaluate(self, technique: Doubles, context: CaseContext) -> Outcome:
        return Outcome(metrics={"kit_sum": float(int.from_bytes(os.urandom(6), "big"))})


class NamesCarelessly(Sound):
    def prepare(self, context: CaseContext) -> None:
        load_or_make(context.cache, "kit-careless", self.made)


class MakesOther(Sound):
    """Makes other content under the same name each time."""

    def prepare(self, context: CaseContext) -> None:
        load_or_make(context.cache, f"kit-other-{key_of({'sources': sources_of(__name__)})}", self.made)

    def made(self) -> dict[str, torch.Tensor]:
        return {"table": torch.tensor([*os.urandom(8)])}


class Incomplete:
    """Lacks all methods of a workload but two."""

    def check_settings(self, settings: Mapping[str, Json]) -> None:
        read_settings(Settings, settings)

    def prepare(self, context: CaseContext) -> None:
        pass


class Refuses(Sound):
    def check(self, technique: Doubles, context: CaseContext) -> None:
        raise Incorrect("nothing is right")
