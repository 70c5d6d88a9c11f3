"""Tells which pip requirements of a technique or workload the environment does not satisfy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def install_hint(missing: Sequence[str]) -> str:
    """Return a line that names the missing requirements and the command that installs them."""
    quoted = " ".join(f'"{text}"' if set(text) & set("<>= ;") else text for text in missing)
    return f"needs {', '.join(missing)}: pip install {quoted}"


def missing_requirements(requires: Iterable[str]) -> list[str]:
    """Return the pip requirements that the environment does not satisfy."""
    from importlib.metadata import PackageNotFoundError, version

    from packaging.requirements import Requirement

    missing = []
    for text in requires:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue
        try:
            installed = version(wanted.name)
        except PackageNotFoundError:
            missing.append(text)
            continue
        if not wanted.specifier.contains(installed, prereleases=True):
            missing.append(text)
    return missing
