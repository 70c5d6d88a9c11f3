"""An asv environment that costs seconds: its third-party packages are those of the environment asv runs in."""

from __future__ import annotations

import importlib.metadata
import venv
from pathlib import Path

from asv.environment import Environment

from harness.revisions.commits import _link_third_party, _site_packages, _sites


class Linked(Environment):  # type: ignore[misc]
    """A virtual environment in which a commit's own packages are the only ones installed."""

    tool_name = "linked"

    def __init__(self, conf: object, python: str, requirements: dict[str, str], variables: object) -> None:
        self._python, self._requirements = python, requirements  # asv names the environment before it sets them
        super().__init__(conf, python, requirements, variables)

    @classmethod
    def matches(cls, python: str) -> bool:
        return bool(python)

    def check_presence(self) -> bool:
        return (Path(self._path) / "bin/python").exists()

    def _setup(self) -> None:
        folder = Path(self._path)
        named = {one.metadata["Name"] or "" for one in importlib.metadata.distributions()}
        own = {"technique-harness", *(name for name in named if name.startswith("harness-"))}
        venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
        (folder / "venv").symlink_to(folder)
        _link_third_party(folder, _sites(), own)
        (_site_packages(folder) / "000-third-party.pth").write_text(f"{folder / 'third-party'}\n")

    def run(self, args: list[str], **kwargs: object) -> object:
        return self.run_executable("python", args, **kwargs)
