"""Compiles the kernel when the plugin is installed; without a compiler the plugin is installed without the kernel.

A cache keeps the library of sources that were compiled before, because tracking installs the plugin for every commit.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NATIVE = Path(__file__).parent / "harness_nf4" / "native"
LIBRARY = NATIVE / "libkernel.so"
FLAGS = ("-O3", "-std=c++17", "-shared", "-fPIC", "-fno-math-errno", "-ffp-contract=off", "-Wall", "-Wextra")


class CustomBuildHook(BuildHookInterface):
    """The build hook that hatchling calls for a wheel and for an editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  hatchling's signature
        """Build the library, and mark the wheel as one for this platform; or warn why there is no library."""
        problem = build(LIBRARY)
        if problem:
            LIBRARY.unlink(missing_ok=True)
            self.app.display_warning(f"harness-nf4 is installed without its kernel: {problem}")
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_platform()}"


def build(target: Path, *extra: str) -> str:
    """Compile the sources to the file ``target``; return the error, an empty string where there is none.

    A library that was compiled with ``extra`` flags is not kept in the cache, because the flags may name other files.
    """
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CXX", ""), "c++", "g++", "clang++"))), None)
    if compiler is None:
        return "no C++ compiler was found; set CXX, or install g++, and install harness-nf4 again"
    kept = _kept(compiler)
    if not extra and kept.is_file():
        _copy(kept, target)
        return ""
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / target.name
        command = [compiler, *FLAGS, *extra, "-o", str(draft), *map(str, sorted(NATIVE.glob("*.cpp")))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"{' '.join(command)}: {done.stderr.strip().splitlines()[0] if done.stderr.strip() else 'failed'}"
        _copy(draft, target)
        if not extra:
            with contextlib.suppress(OSError):  # without a writable cache the next build compiles again
                kept.parent.mkdir(parents=True, exist_ok=True)
                _copy(draft, kept)
    return ""


def _kept(compiler: str) -> Path:
    """Return the path in the cache of the library of these sources, flags and compiler."""
    version = subprocess.run([compiler, "--version"], capture_output=True, check=False).stdout
    total = hashlib.sha256(b"\0".join([version, _platform().encode(), *map(str.encode, FLAGS)]))
    for file in sorted(NATIVE.glob("*.[ch]*")):
        total.update(file.name.encode() + b"\0" + file.read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "harness-nf4" / f"{total.hexdigest()[:32]}.so"


def _copy(source: Path, target: Path) -> None:
    """Copy a file so that ``target`` is replaced in one step: another process may have the old file open."""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        draft = shutil.copy2(source, folder)
        Path(draft).replace(target)


def _platform() -> str:
    """Return the tag of this platform in the names of wheels."""
    from packaging.tags import sys_tags

    return next(tag.platform for tag in sys_tags())


if __name__ == "__main__":
    sys.exit(build(LIBRARY) or 0)
