"""The cache of trained models and data sets, whose keys cover all inputs; safe for concurrent processes."""

from __future__ import annotations

import ast
import fcntl
import hashlib
import importlib.util
import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from harness.api import BASE_MODELS, Json

API: Final = "harness.api"
"""The package of declarations, which computes nothing, so that cached content does not depend on it."""

Tensors = Mapping[str, Tensor]
"""The content of a cached file: CPU tensors by name."""


def key_of(facts: Mapping[str, Json]) -> str:
    """Return the key of content made from these facts, 16 hexadecimal digits: equal facts give equal keys."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def sources_of(*modules: str) -> str:
    """Return the SHA-256 of the sources of these modules and of every module of their packages that they import.

    Imports are followed from module to module through the text of the sources, within the top-level packages of
    ``modules`` and within ``harness``; `harness.api` is left out, since declarations compute nothing. The key of a
    cached model or data set is therefore complete. Raises ModuleNotFoundError for a module that has no source.

    The first call for the same modules takes tens of milliseconds. A module that calls it at import keeps the answer in
    the process that cases are forked from.
    """
    if modules not in _digests:
        _digests[modules] = _digest_of_sources(modules)
    return _digests[modules]


_digests: dict[tuple[str, ...], str] = {}
"""The answers of `sources_of` in this process or the one that it was forked from."""


def _digest_of_sources(modules: tuple[str, ...]) -> str:
    """Compute the answer of `sources_of`."""
    tops = {name.partition(".")[0] for name in (*modules, API)}
    waiting, sources = list(modules), dict[str, bytes]()
    while waiting:
        name = waiting.pop()
        if name in sources or name.partition(".")[0] not in tops or name.startswith(API):
            continue
        source = _source(name)
        if source is None:
            if name in modules:
                raise ModuleNotFoundError(f"module {name!r} has no source", name=name)
            continue  # an attribute of a module, not a module
        sources[name] = source
        waiting += _imported(name, source)
    total = hashlib.sha256()
    for name in sorted(sources):
        total.update(f"{name}\0{len(sources[name])}\0".encode())
        total.update(sources[name])
    return total.hexdigest()


@cache
def _source(name: str) -> bytes | None:
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None
    return Path(spec.origin).read_bytes() if spec and spec.origin and spec.has_location else None


@cache
def _imported(name: str, source: bytes) -> tuple[str, ...]:
    """Return the names that a module imports, each of which may be a module or an attribute of one."""
    return tuple(_names_of_imports(name, source))


def _names_of_imports(name: str, source: bytes) -> Iterator[str]:
    package = name if _is_package(name) else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(filter(None, [*package.split(".")[: len(package.split(".")) - node.level + 1], base]))
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _is_package(name: str) -> bool:
    spec = importlib.util.find_spec(name)
    return bool(spec and spec.submodule_search_locations is not None)


def load_or_make(cache: Path, name: str, make: Callable[[], dict[str, Tensor]]) -> Tensors:
    """Return the tensors cached under ``name``; make and store them where they are missing or damaged.

    Of two processes that miss at once, one calls ``make`` and the other waits and reads; where the file system has no
    locks both call ``make``, which a line on standard error says. Files are replaced atomically. Raises OSError where
    the folder cannot be written.
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
    """Return the tensors of a file, or None where the file is missing or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
            expected = (file.metadata() or {}).get("sha256")
    except (FileNotFoundError, SafetensorError):
        return None
    return tensors if _digest(tensors) == expected else None


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    # of this process alone, also without locks, and where machines with the same process numbers share the cache
    draft = path.with_suffix(f".{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        save_file(tensors, draft, metadata={"sha256": _digest(tensors)})
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _digest(tensors: Tensors) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name].numpy()
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock, which the system releases when the process dies; none where there are no locks."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            _say_unlocked(path.parent, error.strerror)
        yield


@cache
def _say_unlocked(folder: Path, why: str) -> None:
    """Say, once in this process, that a folder has no locks; the content is complete without them."""
    if sys.stderr is not None:
        sys.stderr.write(f"harness: {folder} cannot be locked ({why}): runs at the same time may train a model twice\n")
