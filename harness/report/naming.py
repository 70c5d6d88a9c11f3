"""How pages name what they show: techniques and workloads without their plugin, and the address of a paper."""

from __future__ import annotations


def short(identifier: str) -> str:
    """Return an id without its plugin: ``digits-split`` for ``core/digits-split``."""
    return identifier.partition("/")[2] or identifier


def machine_text(name: str) -> str:
    """Return the name of a machine as people write it; stored ones keep '1 cores', so that it stays one machine."""
    return f"{name.removesuffix(' cores')} core" if name.endswith(", 1 cores") else name


def address_of(source: str) -> str:
    """Return the URL of a paper; an empty text where the source has none."""
    for start, place in (("arXiv:", "https://arxiv.org/abs/"), ("doi:", "https://doi.org/")):
        if source.lower().startswith(start.lower()):
            return place + source[len(start) :].strip()
    return source if source.startswith("https://") else ""
