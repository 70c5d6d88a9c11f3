"""What a judge keeps in the cache: names and content, and how a name follows the sources of what makes the content."""

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
    """Ends a preparation at the first name that it asks the cache for."""


def cached_files(folder: Path) -> dict[str, int]:
    """Return the inode of each file of cached content in a folder, by name: one that is written anew has another."""
    return {path.name: path.stat().st_ino for path in (folder / BASE_MODELS).glob("*.safetensors")}


def cached_content(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of those of the named files of cached content that a folder has, by name."""
    paths = [folder / BASE_MODELS / name for name in names]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.is_file()}


def cached_names(bench: Bench, folder: Path) -> list[str]:
    """Return the first name that preparing a case asks the cache for, or none; nothing is made."""
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
    """Let `harness.judge.cache.sources_of` see one module with a line more; ``seen`` collects the modules it reads."""
    original = cache._source

    def source(name: str) -> bytes | None:
        found = original(name)
        if seen is not None and found is not None:
            seen.append(name)
        return found + EDIT if name == module and found is not None else found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "_source", source)
        patch.setattr(cache, "_digests", {})
        yield
