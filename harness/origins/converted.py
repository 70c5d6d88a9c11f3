"""Converts a model of a ``.gguf`` file once, into the cache, by a process of its own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from harness.api import BASE_MODELS, CONVERTED, UsageError
from harness.measure.sources import content_digest
from harness.results.places import default_cache_path

GGUF: Final = ".gguf"

CONVERTER: Final = "harness.judge.gguf"
"""The module whose ``main`` converts; it imports torch."""


def converted(path: Path, cache: Path | None) -> Path:
    """Return the folder in the cache that holds the model of a ``.gguf`` file as safetensors, with its tokenizer.

    It is made where it is missing; its name has the digest of the file and of the libraries' versions. Raises
    UsageError where the package ``gguf`` is missing or the file cannot be converted.
    """
    facts = {"file": content_digest(path), "libraries": {name: version(name) for name in ("transformers", "torch")}}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    folder = (cache or default_cache_path()) / BASE_MODELS / CONVERTED / f"{path.stem}-{digest}"
    if folder.is_dir():
        return folder
    if find_spec("gguf") is None:
        raise UsageError(f"--model {str(path)!r}: needs the package gguf: pip install 'technique-harness[gguf]'")
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{folder.name}-", suffix=".part"))
    try:
        _convert(path, draft)
        draft.chmod(0o755)
        draft.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another run has made it meanwhile
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _convert(path: Path, folder: Path) -> None:
    code = f"import sys; sys.path[:] = {sys.path!r}; from {CONVERTER} import main; main()"
    if sys.stderr is not None:
        sys.stderr.write(f"harness: converting {path.name} into the cache, once; this may take minutes\n")
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(folder)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    if done.returncode:
        cause = (done.stderr.strip().splitlines() or [f"the converter ended with {done.returncode}"])[-1][:300]
        raise UsageError(f"--model {str(path)!r}: cannot be converted: {cause}")
