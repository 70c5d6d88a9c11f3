"""A git repository of a small plugin, whose commits behave as a test wants them to."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

PROJECT = """
    [build-system]
    requires = ["hatchling"]
    build-backend = "hatchling.build"

    [project]
    name = "harness-{name}"
    version = "{version}"

    [project.entry-points."harness.plugins"]
    {name} = "harness_{name}"

    [tool.hatch.build.targets.wheel]
    packages = ["harness_{name}"]
"""


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A repository in a folder."""

    path: Path

    def write(self, name: str, text: str) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))

    def plugin(self, name: str, files: dict[str, str], folder: str = "", version: str = "1") -> None:
        """Write a project of one package ``harness_NAME`` with these modules."""
        self.write(f"{folder}pyproject.toml", dedent(PROJECT).format(name=name, version=version))
        for file, text in files.items():
            self.write(f"{folder}harness_{name}/{file}", text)

    def git(self, *command: str) -> str:
        someone = {
            f"GIT_{role}_{what}": "toy@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        done = subprocess.run(
            ["git", "-C", str(self.path), "-c", "init.defaultBranch=main", *command],
            env={**os.environ, **someone, "GIT_CONFIG_GLOBAL": os.devnull}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    def commit(self, message: str) -> str:
        """Commit all there is, and return the hash."""
        if not (self.path / ".git").exists():
            self.git("init")
        self.git("add", "--all")
        self.git("commit", "--message", message)
        return self.git("rev-parse", "HEAD")
