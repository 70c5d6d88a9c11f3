"""The workloads of ``kept-family``: the same protocol on real and on drawn vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from harness.api import CaseContext, Json, OpenCase, Outcome, Phase, UsageError
from harness.judge.fresh import FreshBatches
from harness.judge.seeds import generator
from harness.judge.settings import read_settings
from harness.judge.timed import RepeatedPrediction, Untouched
from harness_kept_family import data
from harness_kept_family.checks import distances_of, nearest, require_correct
from harness_kept_family.contract import KeptFamilyTechnique
from harness_kept_family.settings import NEIGHBOURS, ClusterSettings, PassageSettings, Settings


@dataclass(frozen=True, kw_only=True)
class Problem:
    """The vectors of a case and its queries: float32, on the device of the case."""

    vectors: Tensor
    queries: Tensor
    validation: Tensor


class KeptFamilyWorkload:
    """Fulfils `harness.api.CheckingWorkload`; a workload of the family says which vectors there are."""

    settings: ClassVar[type[Settings]] = Settings

    def drawn(self, settings: Settings, context: CaseContext) -> Tensor:
        """Return all vectors of a case in the order in which they serve: indexed, tested, for validation."""
        raise NotImplementedError

    def check_settings(self, settings: Mapping[str, Json]) -> None:
        """Raise UsageError with a line for each value that is missing or out of range."""
        read_settings(self.settings, settings)

    def prepare(self, context: CaseContext) -> None:
        """Make what every case shares: nothing, unless a workload says otherwise."""

    def check(self, technique: KeptFamilyTechnique, context: CaseContext) -> None:
        """Raise `harness.api.Incorrect` where the technique breaks its contract."""
        require_correct(technique, context.seed)

    def evaluate(self, technique: KeptFamilyTechnique, context: CaseContext) -> Outcome:
        """Return recall against brute force in float64, and the bytes of the index."""
        self.check(technique, context)
        problem = self._problem(context)
        with context.phase("index"):
            technique.build(problem.vectors, generator(context.seed, "technique"))
        with context.phase("search"):
            recall, excess = quality(technique, problem.vectors, problem.queries)
            validation, _ = quality(technique, problem.vectors, problem.validation)
        return Outcome(
            metrics={
                "recall_at_10": recall,
                "val_recall_at_10": validation,
                "distance_excess": excess,
                "index_bytes": float(technique.bytes),
            }
        )

    def open(self, technique: KeptFamilyTechnique, context: CaseContext) -> OpenCase:
        """Build the index for the memory and time lanes: a batch of queries, and building it once more."""
        problem = self._problem(context)

        def build() -> None:
            technique.build(problem.vectors, generator(context.seed, "technique"))

        with context.phase("init"):
            build()
        fresh = FreshBatches({"queries": problem.queries})
        untouched = Untouched(technique)
        search = RepeatedPrediction(
            fresh,
            lambda batch: technique.search(batch["queries"], NEIGHBOURS),
            lambda batch: untouched().search(batch["queries"], NEIGHBOURS),
            tolerance=0,  # the same neighbours, not near ones
        )
        return OpenCase(
            phases={
                "search": Phase(run=search, samples=len(problem.queries), verify=search.verify, refresh=search.refresh),
                "index": Phase(run=build, samples=len(problem.vectors)),
            }
        )

    def _problem(self, context: CaseContext) -> Problem:
        settings = read_settings(self.settings, context.settings)
        drawn = self.drawn(settings, context).to(context.device)
        end = settings.vectors + settings.queries
        return Problem(
            vectors=drawn[: settings.vectors].clone(),
            queries=drawn[settings.vectors : end].clone(),
            validation=drawn[end:].clone(),
        )


class Passages(KeptFamilyWorkload):
    """Paragraphs of Python's documentation: which are indexed and which are asked for is drawn from the seed."""

    settings = PassageSettings

    def prepare(self, context: CaseContext) -> None:
        """Read the documentation, in the cache."""
        data.passages(context.cache, read_settings(self.settings, context.settings).dimensions)

    def drawn(self, settings: Settings, context: CaseContext) -> Tensor:
        """Return paragraphs in a random order. Raises UsageError where there are not that many."""
        found = data.passages(context.cache, settings.dimensions)
        count = settings.vectors + settings.queries + settings.validation_queries
        if count > len(found):
            raise UsageError(
                f"vectors {settings.vectors}, queries {settings.queries} and validation_queries "
                f"{settings.validation_queries}: there are {len(found)} passages, which is fewer; ask for less"
            )
        return found[torch.randperm(len(found), generator=generator(context.seed, "passages"))[:count]]


class Clusters(KeptFamilyWorkload):
    """Normal vectors around normal centres, drawn from the seed."""

    settings = ClusterSettings

    def drawn(self, settings: Settings, context: CaseContext) -> Tensor:
        """Return vectors of which any may be a query: all are drawn alike."""
        assert isinstance(settings, ClusterSettings)
        count = settings.vectors + settings.queries + settings.validation_queries
        draw = generator(context.seed, "clusters")
        return data.clustered(count, settings.dimensions, settings.clusters, settings.spread, draw)


def quality(technique: KeptFamilyTechnique, vectors: Tensor, queries: Tensor) -> tuple[float, float]:
    """Return recall at 10 and the excess of the mean distance, both in percent.

    An answer counts if it is no farther than the true tenth neighbour (arXiv:1807.05614, section 3.1), so that of
    two vectors at the same distance either is right. Distances are taken in float64: equal vectors are equal.
    """
    truth = nearest(vectors, queries, NEIGHBOURS)
    answers = distances_of(vectors, queries, technique.search(queries, NEIGHBOURS))
    last = truth[:, -1:]
    within = last * (1 + (vectors.shape[1] + 2) * torch.finfo(torch.float64).eps)  # two ways to sum the same terms
    recall = 100 * float((answers <= within).double().mean())
    total = float(truth.sum())
    return recall, 100 * (float(answers.sum()) / total - 1) if total else 0.0


if TYPE_CHECKING:  # mypy compares every method with the protocol's
    from harness.api import CheckingWorkload

    _FULFILS: tuple[type[CheckingWorkload], ...] = (Passages, Clusters)
