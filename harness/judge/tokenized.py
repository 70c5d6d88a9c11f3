"""The key of the tokens that a user's model makes of a user's data: all that can change them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import tokenizers
import torch
import transformers

from harness.api import Json
from harness.judge.cache import key_of, sources_of
from harness.measure.sources import content_digest

TOKENIZERS: Final = (".json", ".txt", ".model", ".jinja")
"""The suffixes of the files in a model's folder that a tokenizer may read: also its chat template."""


def key_of_tokens(module: str, model: str, data: str, **told: Json) -> str:
    """Return the key of the tokens of a file of data, which a module makes with the tokenizer of a model's folder.

    ``told`` are the settings that it reads, such as the columns. The suffix of the data tells how they are read.
    """
    files = sorted(path for path in Path(model).iterdir() if path.suffix in TOKENIZERS)
    facts: dict[str, Json] = {
        **told,
        "data": content_digest(Path(data)),
        "suffix": Path(data).suffix.lower(),
        "tokenizer": [[path.name, content_digest(path)] for path in files],
        "libraries": {library.__name__: library.__version__ for library in (torch, transformers, tokenizers)},
        "sources": sources_of(module),
    }
    return key_of(facts)
