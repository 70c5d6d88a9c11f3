"""Names and content of a judge's cache, and the dependence of names on source modules."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from torch import Tensor

from harness.api import BASE_MODELS
from harness.judge import cache
from harness.testing.smoke import Bench

EDIT: Final = b"\n# edited\n"


class _Named(Exception):
    """An exception that ends a preparation at its first look-up in the cache."""


def cached_files(folder: Path) -> dict[str, int]:
    """Return the inode of each file of cached content in a folder, by name; a rewritten file has a new inode."""
    return {path.name: path.stat().st_ino for path in (folder / BASE_MODELS).glob("*.safetensors")}


def cached_content(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of the named files of cached content that exist in a folder, by name."""
    paths = [folder / BASE_MODELS / name for name in names]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.is_file()}


def cached_names(bench: Bench, folder: Path) -> list[str]:
    """Return the first name that a preparation looks up in the cache, or none; no content is made."""
    names: list[str] = []

    def read(path: Path) -> dict[str, Tensor]:
        names.append(path.stem)
        raise _Named

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "_read", read)
        with suppress(_Named):
            replace(bench, cache=folder).prepare()
    return names


@contextmanager
def edited(module: str, seen: list[str] | None = None) -> Iterator[None]:
    """Add a line to one module as read by `harness.judge.cache.sources_of`; ``seen`` collects the modules read."""
    original = cache._source

    def source(name: str) -> bytes | None:
        source_code = original(name)
        if seen is not None and source_code is not None:
            seen.append(name)
        return source_code + EDIT if name == module and source_code is not None else source_code

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "_source", source)
        patch.setattr(cache, "_digests", {})
        yield
