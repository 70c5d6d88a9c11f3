"""The texts of the contract ``decode``: Python's documentation and library as numbers of characters, and prompts.

The last tenth of each kind is held out, for prompts and the loss of a model; the models are trained on the rest. The
texts change with the release of Python, and so does their digest.
"""

from __future__ import annotations

import hashlib
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from harness.api import Json
from harness.families.decode.settings import CATEGORIES, MIXED
from harness.judge.cache import key_of, load_or_make, sources_of
from harness.judge.datasets import releases
from harness.judge.texts import ALPHABET, documentation, encoded

MODULES: Final = ("argparse", "ast", "calendar", "configparser", "csv", "dataclasses", "difflib", "inspect", "tarfile")
"""Modules of the standard library whose source is read."""

HELD_OUT: Final = 0.1

_PIECES: Final = (16, 40)
"""Fewest and most characters of a repeated piece."""


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Texts as numbers of characters in `ALPHABET`, int64 ``(n,)`` by category, for training and held out."""

    train: Mapping[str, Tensor]
    held_out: Mapping[str, Tensor]

    @property
    def sha256(self) -> str:
        """The SHA-256 of all characters, one byte each."""
        digest = hashlib.sha256()
        for part in (self.train, self.held_out):
            for name in sorted(part):
                digest.update(part[name].to(torch.uint8).numpy().data)
        return digest.hexdigest()


def texts(cache: Path) -> Texts:
    """Return the texts, from the cache or read now. Raises OSError where the cache cannot be written."""
    facts: dict[str, Json] = {
        "libraries": releases("python"),
        "sources": sources_of(__name__),
    }

    def read() -> dict[str, Tensor]:
        return {"prose": encoded(documentation()), "code": encoded(_sources())}

    whole = load_or_make(cache, f"data-decode-{key_of(facts)}", read)
    cut = {name: round((1 - HELD_OUT) * len(text)) for name, text in whole.items()}
    return Texts(
        train={name: text[: cut[name]].long() for name, text in whole.items()},
        held_out={name: text[cut[name] :].long() for name, text in whole.items()},
    )


def repetitive(passage: Tensor, length: int, draw: torch.Generator) -> Tensor:
    """Return ``length`` characters: the beginning of a passage, repeated."""
    low, high = _PIECES
    piece = passage[: int(torch.randint(low, high + 1, (), generator=draw))]
    return piece.repeat(-(-length // len(piece)))[:length]


def prompts(found: Texts, category: str, count: int, length: int, draw: torch.Generator) -> list[list[int]]:
    """Return prompts of ``length`` held-out characters, of one of `CATEGORIES` or, if ``mixed``, of each in turn."""
    wanted = CATEGORIES if category == MIXED else (category,)
    return [_prompt(found, wanted[number % len(wanted)], length, draw) for number in range(count)]


def _prompt(found: Texts, category: str, length: int, draw: torch.Generator) -> list[int]:
    text = found.held_out["code" if category == "code" else "prose"]
    begin = int(torch.randint(0, len(text) - max(length, _PIECES[1]), (), generator=draw))
    passage = text[begin : begin + max(length, _PIECES[1])]
    prompt = repetitive(passage, length, draw) if category == "repetitive" else passage[:length]
    tokens: list[int] = prompt.tolist()
    return tokens


def _sources() -> str:
    folder = Path(sysconfig.get_path("stdlib"))
    return "\n".join((folder / f"{name}.py").read_text(encoding="utf-8") for name in MODULES)


def written(tokens: Sequence[int]) -> str:
    """Return the text of these numbers of characters."""
    return "".join(ALPHABET[token] for token in tokens)


sources_of(__name__)  # at import, so that no case has to wait for it
