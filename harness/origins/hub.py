"""Finds models and data of a hub in its local cache, or fetches them there where the user allows to."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

from harness.api import UsageError

Kind = Literal["model", "dataset"]

_TAKEN: Final[dict[Kind, Sequence[str]]] = {
    "model": ("*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.model", "*.jinja"),
    "dataset": (
        *("*.csv", "*.tsv", "*.jsonl", "*.parquet", "*.txt"),
        *("*.png", "*.jpg", "*.jpeg", "*.bmp", "*.gif", "*.webp"),
    ),
}
"""What is fetched: no code and no pickled weights."""

_LEFT_OUT: Final[dict[Kind, Sequence[str]]] = {"model": ("*/*",), "dataset": ()}
"""What is left out: a model's folders hold other forms of it, such as ONNX."""


_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


def snapshot(repo: str, revision: str, kind: Kind, *, download: bool) -> Path:
    """Return the folder of a repository's commit in the local cache of the hub; fetch it there with ``download``.

    The folder's name is the commit. A commit that is there is not fetched again; a branch or tag is asked for anew.
    Raises UsageError where it is not there and may not be fetched, where fetching fails, and for a model that needs
    code of its own or has no safetensors, which are not fetched.
    """
    import huggingface_hub  # here, as it takes a while and few runs name an id of a hub

    hub: Any = huggingface_hub

    asked = f"{'--data' if kind == 'dataset' else '--model'} {f'{repo}@{revision}'!r}"
    wanted: dict[str, Any] = {
        "revision": revision,
        "allow_patterns": [*_TAKEN[kind]],
        "ignore_patterns": [*_LEFT_OUT[kind]],
    }
    if not download or _COMMIT.fullmatch(revision):
        try:
            return Path(hub.snapshot_download(repo, repo_type=kind, local_files_only=True, **wanted))
        except Exception as error:  # of many kinds, among them one for each way in which a cache is incomplete
            if not download:
                raise UsageError(
                    f"{asked}: there is no such file or folder here, and the hub's local cache does not hold all of "
                    "it; --download fetches it"
                ) from error
    try:
        if kind == "model":
            _require_safe(asked, hub, repo, revision)
        return Path(hub.snapshot_download(repo, repo_type=kind, **wanted))
    except UsageError:
        raise
    except Exception as error:  # of many kinds: of the hub, of its HTTP library, of the system
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise UsageError(f"{asked}: cannot be downloaded: {' '.join(lines[:2])[:200]}") from error


def _require_safe(asked: str, hub: Any, repo: str, revision: str) -> None:
    """Raise UsageError for a model that is not to be fetched, after a look at its list of files and configuration."""
    info = hub.HfApi().model_info(repo, revision=revision)
    names = [file.rfilename for file in info.siblings or ()]
    if not any("/" not in name and name.endswith(".safetensors") for name in names):
        raise UsageError(f"{asked}: has no *.safetensors; pickled weights can run code, and are not loaded")
    if "config.json" in names:
        config = hub.hf_hub_download(repo, "config.json", revision=info.sha)
        if "auto_map" in json.loads(Path(config).read_text(encoding="utf-8")):
            raise UsageError(f"{asked}: needs code of its own, which is not run; take a model without")
