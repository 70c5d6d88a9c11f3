"""The vectors of ``kept-family``: hashed bags of words of real text, and normal vectors around centres."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from harness.api import Json
from harness.judge.cache import key_of, load_or_make, sources_of
from harness.judge.datasets import releases
from harness.judge.texts import documentation

LEAST_WORDS: Final = 12
"""Words of a paragraph that is taken: shorter ones are headings and signatures."""

_WORD: Final = re.compile(r"[a-z]{2,}")


def passages(cache: Path, dimensions: int) -> Tensor:
    """Return a vector of length 1 for each paragraph of Python's documentation, float32 ``(n, dimensions)``; cached.

    The name of the cached file holds all that makes it: the release of Python, the dimensions, the sources.
    """
    facts: dict[str, Json] = {
        "dimensions": dimensions,
        "libraries": releases("python"),
        "sources": sources_of(__name__, "harness.judge.texts"),
    }
    name = f"kept-family-passages-{key_of(facts)}"
    return load_or_make(cache, name, lambda: {"vectors": read_passages(dimensions)})["vectors"]


def read_passages(dimensions: int) -> Tensor:
    """Return what `passages` does, read anew."""
    paragraphs = re.split(r"\n\s*\n", documentation())
    bags = (Counter(_WORD.findall(paragraph.lower())) for paragraph in paragraphs)
    rows = [hashed(bag, dimensions) for bag in bags if bag.total() >= LEAST_WORDS]
    return torch.stack([row for row in rows if row.any()])


def hashed(bag: Counter[str], dimensions: int) -> Tensor:
    """Return a bag of words as a vector of length 1; a hash gives each word a dimension and a sign (arXiv:0902.2206).

    A word that stands n times counts 1 + log n. A bag whose words cancel out gives zeros.
    """
    row = torch.zeros(dimensions, dtype=torch.float64)
    for word, count in sorted(bag.items()):
        number = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
        row[(number >> 1) % dimensions] += (1 if number & 1 else -1) * (1 + torch.tensor(float(count)).log())
    length = row.norm()
    return (row / length if length > 0 else row).float()


def clustered(count: int, dimensions: int, clusters: int, spread: float, draw: torch.Generator) -> Tensor:
    """Return normal vectors around normal centres, each equally likely, float32 ``(count, dimensions)``."""
    centres = torch.randn(clusters, dimensions, generator=draw)
    nearby = torch.randint(clusters, (count,), generator=draw)
    return centres[nearby] + spread * torch.randn(count, dimensions, generator=draw)
