"""The texts of the contract ``decode``: Python's documentation and library, as numbers of characters, and prompts.

The last tenth of each kind is held out: prompts and the loss of a model come from there, what it is trained on from
the rest. The texts change with the release of Python, and so does their digest.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from harness.api import Json
from harness.workloads import base_models
from harness.workloads.regularize_data import releases
from harness.workloads.regularize_text import ALPHABET

MODULES: Final = ("argparse", "ast", "calendar", "configparser", "csv", "dataclasses", "difflib", "inspect", "tarfile")
"""Modules of the standard library whose source is read."""

CATEGORIES: Final = ("prose", "code", "repetitive")
"""Kinds of prompt. A repetitive one is a piece of prose of one or two dozen characters, again and again."""

HELD_OUT: Final = 0.1

_PIECES: Final = (16, 40)
"""Fewest and most characters of what is repeated."""


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Characters by their number in `ALPHABET`, int64, of what is trained on and what is held out, by category."""

    train: Mapping[str, Tensor]
    held_out: Mapping[str, Tensor]

    @property
    def sha256(self) -> str:
        """Of all characters, one byte each."""
        digest = hashlib.sha256()
        for part in (self.train, self.held_out):
            for name in sorted(part):
                digest.update(part[name].to(torch.uint8).numpy().data)
        return digest.hexdigest()


def texts(cache: Path) -> Texts:
    """The texts, from the cache or read now. Raises OSError where the folder cannot be written."""
    facts: dict[str, Json] = {
        "libraries": releases("python"),
        "source": hashlib.sha256(inspect.getsource(sys.modules[__name__]).encode()).hexdigest(),
    }

    def read() -> dict[str, Tensor]:
        return {"prose": _codes(_topics()), "code": _codes(_sources())}

    found = base_models.load_or_make(cache, f"data-decode-{base_models.key_of(facts)}", read)
    cut = {name: round((1 - HELD_OUT) * len(one)) for name, one in found.items()}
    return Texts(
        train={name: one[: cut[name]].long() for name, one in found.items()},
        held_out={name: one[cut[name] :].long() for name, one in found.items()},
    )


def repetitive(passage: Tensor, length: int, draw: torch.Generator) -> Tensor:
    """``length`` characters: the beginning of a passage, again and again."""
    low, high = _PIECES
    piece = passage[: int(torch.randint(low, high + 1, (), generator=draw))]
    return piece.repeat(-(-length // len(piece)))[:length]


def prompts(found: Texts, category: str, count: int, length: int, draw: torch.Generator) -> list[list[int]]:
    """Prompts of ``length`` characters from held-out text, of one of `CATEGORIES` or, if ``mixed``, of each in turn."""
    wanted = CATEGORIES if category == "mixed" else (category,)
    return [_prompt(found, wanted[number % len(wanted)], length, draw) for number in range(count)]


def _prompt(found: Texts, category: str, length: int, draw: torch.Generator) -> list[int]:
    text = found.held_out["code" if category == "code" else "prose"]
    begin = int(torch.randint(0, len(text) - max(length, _PIECES[1]), (), generator=draw))
    passage = text[begin : begin + max(length, _PIECES[1])]
    one = repetitive(passage, length, draw) if category == "repetitive" else passage[:length]
    tokens: list[int] = one.tolist()
    return tokens


def _topics() -> str:
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


def _sources() -> str:
    folder = Path(sysconfig.get_path("stdlib"))
    return "\n".join((folder / f"{name}.py").read_text(encoding="utf-8") for name in MODULES)


def _codes(text: str) -> Tensor:
    """The number of each character, uint8; those that `ALPHABET` lacks count as a blank."""
    number: Mapping[str, int] = {character: index for index, character in enumerate(ALPHABET)}
    return torch.tensor([number.get(character, number[" "]) for character in text], dtype=torch.uint8)


def written(tokens: Sequence[int]) -> str:
    """The characters of numbers."""
    return "".join(ALPHABET[token] for token in tokens)
