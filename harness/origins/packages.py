"""Finds the model that an installed Python package ships, without importing the package."""

from __future__ import annotations

import json
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Final

from harness.api import UsageError

PREFIX: Final = "package:"
"""What a package's name follows."""


def model_in(name: str) -> Path:
    """Return the folder of the only model in a package, or its only ``.gguf`` file.

    A folder has a model where it has a ``config.json`` that names a type of model, and ``*.safetensors``. No code of
    the package runs: the folders of the import path are looked at. Raises UsageError where there is no such package,
    no model in it, or several.
    """
    asked = f"--model '{PREFIX}{name}'"
    if not name.isidentifier():
        raise UsageError(f"{asked}: expected the name of a package, as it is imported, like {PREFIX}my_model")
    spec = PathFinder.find_spec(name)
    if spec is None:
        raise UsageError(f"{asked}: no package {name!r} is installed for this Python; install it with pip")
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    configs = sorted({path for folder in folders for path in folder.rglob("config.json")})
    found = [path.parent for path in configs if _is_model(path)]
    found = found or sorted({path for folder in folders for path in folder.rglob("*.gguf")})
    if not found:
        raise UsageError(f"{asked}: has no folder with config.json and *.safetensors, and no .gguf file")
    if len(found) > 1:
        places = ", ".join(map(str, found))
        raise UsageError(f"{asked}: has several models; name the path of one of them: {places}")
    return found[0]


def _is_model(config: Path) -> bool:
    """Return whether a file is the configuration of a model with weights beside it."""
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and "model_type" in content and any(config.parent.glob("*.safetensors"))
