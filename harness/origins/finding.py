"""Turns what a user names as a model or data into a path: a file, a folder, a package's model, or an id of a hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from harness.api import UsageError
from harness.origins.converted import GGUF
from harness.origins.hub import snapshot
from harness.origins.packages import PREFIX, model_in
from harness.origins.reading import Reading

_HUB_ID: Final = re.compile(r"(?P<repo>\w[\w.-]*(/\w[\w.-]*)?)(@(?P<revision>\w[\w./-]*))?")

_FILES: Final = (GGUF, ".csv", ".tsv", ".jsonl", ".parquet", ".txt", ".json", ".safetensors", ".bin", ".zip")
"""Suffixes of what is a file, and no id of a hub."""


def model_path(name: str, reading: Reading) -> Path:
    """Return the folder of a model of transformers, or a ``.gguf`` file, which is to be converted.

    Raises UsageError where there is none, and where it would have to be downloaded but that is not allowed.
    """
    if name.startswith(PREFIX):
        path = model_in(name.removeprefix(PREFIX))
    elif _exists(path := local(name)):
        pass
    elif asked := _hub_id(name):
        path = snapshot(*asked, "model", download=reading.download)
    else:
        raise UsageError(f"--model {str(path)!r}: there is no such file or folder; expected {_MODELS}")
    if path.is_file() and path.suffix.lower() != GGUF:
        raise UsageError(f"--model {str(path)!r}: is a file; expected {_MODELS}")
    return path


def data_path(name: str, reading: Reading) -> Path:
    """Return the file or folder of data. Raises UsageError as `model_path` does."""
    if name.startswith(PREFIX):
        raise UsageError(f"--data {name!r}: a package gives a model only; expected {_DATA}")
    if _exists(path := local(name)):
        return path
    if asked := _hub_id(name):
        return snapshot(*asked, "dataset", download=reading.download)
    raise UsageError(f"--data {str(path)!r}: there is no such file or folder; expected {_DATA}")


def from_folder(folder: Path, name: str) -> str:
    """Return a name as it is read from a file in a folder: a path is relative to that, other names stay."""
    path = folder / _expanded(name)
    return str(path) if _exists(path) or not (name.startswith(PREFIX) or _hub_id(name)) else name


def local(name: str) -> Path:
    """Return the absolute path that a name is."""
    return _expanded(name).absolute()


def _expanded(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:  # "~nobody": there is no such user
        return Path(name)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # such as a name that is too long
        return False


def _hub_id(name: str) -> tuple[str, str] | None:
    """Return the repository and the revision that a name is the id of; None where it is none."""
    found = _HUB_ID.fullmatch(name)
    if found is None or name.lower().endswith(_FILES):
        return None
    return found["repo"], found["revision"] or "main"


_MODELS: Final = "a folder, FILE.gguf, package:NAME, or REPO@REVISION of a hub"
_DATA: Final = "a file, a folder, or REPO@REVISION of a hub"
