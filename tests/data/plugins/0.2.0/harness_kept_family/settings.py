"""The settings of ``kept-family``: how many vectors, of which kind, and how many queries. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from harness.judge.settings import setting

NEIGHBOURS: Final = 10
"""Neighbours that a query asks for, as the names of the metrics say."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all workloads of the family take."""

    vectors: int = setting(1000, "vectors that are indexed", least=NEIGHBOURS)
    dimensions: int = setting(256, "dimensions of a vector", least=1)
    queries: int = setting(128, "queries that are tested and timed", least=1)
    validation_queries: int = setting(64, "queries to choose the tuned values by", least=1)


@dataclass(frozen=True, kw_only=True)
class PassageSettings(Settings):
    """Vectors of the paragraphs of Python's documentation."""


@dataclass(frozen=True, kw_only=True)
class ClusterSettings(Settings):
    """Vectors that are drawn around centres."""

    clusters: int = setting(50, "centres around which vectors lie", least=1)
    spread: float = setting(1.0, "standard deviation around a centre; centres have 1", above=0)
