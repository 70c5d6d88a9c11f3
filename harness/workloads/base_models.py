"""The cache of trained base models: each is trained once, named by all that made it, and safe for two at once."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from harness.api import BASE_MODELS, Json

Tensors = Mapping[str, Tensor]
"""The content of a cached file: CPU tensors by name."""


def key_of(facts: Mapping[str, Json]) -> str:
    """The name that content made from these facts goes by: equal facts, equal names."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def load_or_make(cache: Path, name: str, make: Callable[[], dict[str, Tensor]]) -> Tensors:
    """The tensors cached under ``name``, made by ``make`` and stored where they are missing or damaged.

    Of two processes that miss at once, one makes and the other waits and reads. A file appears whole or not at
    all. Raises OSError where the folder cannot be written.
    """
    path = cache / BASE_MODELS / f"{name}.safetensors"
    if (found := _read(path)) is not None:
        return found
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(cache / f"{BASE_MODELS}.lock"):
        if (found := _read(path)) is not None:
            return found
        made = make()
        _write(path, made)
        return made


def _read(path: Path) -> Tensors | None:
    """The tensors of a file, or None where it is missing or not what was written."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
            expected = (file.metadata() or {}).get("sha256")
    except (FileNotFoundError, SafetensorError):
        return None
    return tensors if _digest(tensors) == expected else None


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    draft = path.with_suffix(".part")
    save_file(tensors, draft, metadata={"sha256": _digest(tensors)})
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(path)


def _digest(tensors: Tensors) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name].numpy()
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock, which the system also releases when the process dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
