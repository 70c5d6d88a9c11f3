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
"""Words of a cluster; a token is one of them, each as likely. Routers that go by the word see no more of a token."""

SIGNS: Final = 8
"""Features that tell the cluster, with noise."""

NOISE: Final = 0.5
"""Its standard deviation; the clusters' own places are standard normal."""

CONTENT: Final = 12
"""Features that the cluster's teacher looks at."""

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
        """Tokens: a cluster, a word of its, noisy signs, standard normal content, and the class its teacher says."""
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
    """The clusters of a seed."""
    shares = 1 / torch.arange(1, CLUSTERS + 1)
    return Mixture(
        places=torch.randn(CLUSTERS, SIGNS, generator=draw),
        teachers=torch.randn(CLUSTERS, CONTENT, CLASSES, generator=draw),
        shares=shares / shares.sum(),
    )


class Clusters(RouteWorkload):
    """Tell a token's class: which linear teacher is right depends on the cluster, which has to be inferred.

    As a cluster is the work of one expert, routing has something to find. Nothing is learned by heart, as no token
    comes twice.
    """

    vocabulary = CLUSTERS * WORDS

    def data(self, settings: Settings, seed: int, cache: Path, device: str) -> tuple[Data, tuple[str, ...]]:
        """Batches drawn when they are asked for; validation and test are the same for all."""
        del cache
        found = mixture(generator(seed, "clusters"))
        order = generator(seed, "training tokens")

        def held_out(purpose: str) -> list[Batch]:
            draw = generator(seed, purpose)
            return [found.draw(settings.batch_size, draw).to(device) for _ in range(HELD_OUT)]

        return (
            Data(
                train=lambda: found.draw(settings.batch_size, order).to(device),
                validation=held_out("validation tokens"),
                test=held_out("test tokens"),
            ),
            (),
        )

    def build(self) -> ClusterNet:
        """One routed layer of width 32."""
        return ClusterNet(SIGNS + CONTENT, WIDTH, CLASSES)


if TYPE_CHECKING:  # mypy compares every method with the protocol's
    from harness.api import CheckingWorkload

    _FULFILS: tuple[type[CheckingWorkload], ...] = (Clusters,)
