"""Workload ``clusters`` of ``route``: clusters of tokens, each with a linear teacher of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from harness.families.route.models import Batch, ClusterNet
from harness.families.route.protocol import RouteWorkload
from harness.families.route.settings import Settings
from harness.families.route.training import Data
from harness.judge.seeds import generator

CLUSTERS: Final = 16
WORDS: Final = 4
"""Words of a cluster, all equally likely; a token's id is its word."""

SIGNS: Final = 8
"""Features that indicate the cluster, with noise."""

NOISE: Final = 0.5
"""Standard deviation of the noise; the clusters' places are standard normal."""

CONTENT: Final = 12
"""Features that the cluster's teacher uses."""

CLASSES: Final = 6
WIDTH: Final = 32
HELD_OUT: Final = 8
"""Batches to test on, and as many to validate on."""


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Clusters with their ``places`` ``(clusters, signs)``, ``teachers`` ``(clusters, content, classes)`` and shares.

    The shares follow Zipf's law: cluster c has one proportional to 1 / (c + 1).
    """

    places: Tensor
    teachers: Tensor
    shares: Tensor

    def draw(self, count: int, draw: torch.Generator) -> Batch:
        """Return ``count`` tokens: cluster, word, noisy signs, standard normal content, and the teacher's class."""
        cluster = torch.multinomial(self.shares, count, replacement=True, generator=draw)
        word = torch.randint(WORDS, (count,), generator=draw)
        noise = torch.randn(count, SIGNS + CONTENT, generator=draw)
        content = noise[:, SIGNS:]
        scores = (content @ self.teachers.permute(1, 0, 2).flatten(1)).view(count, CLUSTERS, CLASSES)
        return Batch(
            inputs=torch.cat([self.places[cluster] + NOISE * noise[:, :SIGNS], content], 1),
            ids=cluster * WORDS + word,
            targets=scores[torch.arange(count), cluster].argmax(1),
        )


def mixture(draw: torch.Generator) -> Mixture:
    """Return the clusters of a seed."""
    shares = 1 / torch.arange(1, CLUSTERS + 1)
    return Mixture(
        places=torch.randn(CLUSTERS, SIGNS, generator=draw),
        teachers=torch.randn(CLUSTERS, CONTENT, CLASSES, generator=draw),
        shares=shares / shares.sum(),
    )


class Clusters(RouteWorkload):
    """Classification of tokens by linear teachers, one a cluster, where the cluster has to be inferred.

    Routing can assign clusters to experts. No token occurs twice, so that a model cannot overfit.
    """

    vocabulary = CLUSTERS * WORDS

    def data(self, settings: Settings, seed: int, cache: Path, device: str) -> tuple[Data, tuple[str, ...]]:
        """Return training batches drawn on demand, and fixed ones for validation and test."""
        del cache
        clusters = mixture(generator(seed, "clusters"))
        order = generator(seed, "training tokens")

        def held_out(purpose: str) -> list[Batch]:
            draw = generator(seed, purpose)
            return [clusters.draw(settings.batch_size, draw).to(device) for _ in range(HELD_OUT)]

        return (
            Data(
                train=lambda: clusters.draw(settings.batch_size, order).to(device),
                validation=held_out("validation tokens"),
                test=held_out("test tokens"),
            ),
            (),
        )

    def build(self) -> ClusterNet:
        """Return a model with one routed layer of width 32."""
        return ClusterNet(SIGNS + CONTENT, WIDTH, CLASSES)


if TYPE_CHECKING:  # mypy compares every method with the protocol's
    from harness.api import CheckingWorkload

    _FULFILS: tuple[type[CheckingWorkload], ...] = (Clusters,)
