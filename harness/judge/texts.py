"""The topics of Python's documentation, which every installation has, as numbers of characters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from harness.judge.cache import sources_of
from harness.judge.datasets import Dataset, cached, releases

ALPHABET: Final = "\n" + "".join(map(chr, range(32, 127)))
"""The characters that are distinguished; all others count as a blank."""

NUMBERS: Final[Mapping[str, int]] = {character: number for number, character in enumerate(ALPHABET)}


def encoded(text: str) -> Tensor:
    """Return the number of each character in `ALPHABET`, uint8 ``(len(text),)``."""
    return torch.tensor([NUMBERS.get(character, NUMBERS[" "]) for character in text], dtype=torch.uint8)


def documentation() -> str:
    """Return the topics of ``pydoc_data`` in the order of their names, a line apart."""
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


def topics(cache: Path) -> Dataset:
    """Return the documentation's characters, and as targets the character that follows each; cached.

    The text changes with the release of Python. Raises OSError where the cache cannot be written.
    """
    return cached(cache, "pydoc-topics", read_topics, releases("python"))


def read_topics() -> Dataset:
    """Return the data set of `topics`, read anew."""
    codes = encoded(documentation())
    return Dataset(inputs=codes[:-1].clone(), targets=codes[1:].clone())


sources_of(__name__)  # at import, so that no case has to wait for it
