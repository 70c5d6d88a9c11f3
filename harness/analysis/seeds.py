"""Tells which seeds a comparison of two runs leaves out, because only one of the runs has them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from harness.analysis.changes import Pairing, Place, compared_scores
from harness.api import Metric

_NAMED: Final = 5
"""The largest number of techniques, and of seeds, that a line names; the others are counted."""

_Seeds = tuple[int, ...]


def seeds_left_out(pairings: Sequence[Pairing], metrics: Mapping[str, Metric]) -> list[str]:
    """Return a line for each set of seeds that one side alone has, with the techniques of which it has them.

    A side has a seed of a technique where there is a value: not where the case failed or diverged.
    """
    return [line for pairing in pairings for line in _of_pairing(pairing, metrics)]


def _of_pairing(pairing: Pairing, metrics: Mapping[str, Metric]) -> list[str]:
    found: dict[tuple[_Seeds, _Seeds, int], dict[Place, list[str]]] = {}
    of_place: dict[Place, set[tuple[_Seeds, _Seeds, int]]] = {}
    for (place, metric), sides in compared_scores(pairing, metrics).items():
        base, head = sides.other.keys(), sides.own.keys()
        seeds = (tuple(sorted(base - head)), tuple(sorted(head - base)), len(base & head))
        found.setdefault(seeds, {}).setdefault(place, []).append(metric)
        of_place.setdefault(place, set()).add(seeds)
    lines = []
    for seeds, places in found.items():
        if seeds[0] or seeds[1]:
            is_all = len(places) == len(of_place) and all(len(of_place[place]) == 1 for place in places)
            names = [_name(place, places[place] if len(of_place[place]) > 1 else ()) for place in places]
            lines.append(_beginning(seeds, pairing) + ("" if is_all else f": {_counted(names)}"))
    return lines


def _beginning(seeds: tuple[_Seeds, _Seeds, int], pairing: Pairing) -> str:
    """Return how many seeds are compared, and which are left out of each side."""
    base, head, shared = seeds
    sides = {"the release" if pairing.since_release else "base": base, "head": head}
    only = {side: _counted(list(map(str, own))) for side, own in sides.items() if own}
    if not shared:
        return f"quality is not compared, as no seed is on both sides: {'; '.join(map(' has '.join, only.items()))}"
    plural = "s" if shared > 1 else ""
    without = "seeds" if len(base) + len(head) > 1 else "seed"
    out = " and ".join(f"{own} of {side}" for side, own in only.items())
    return f"quality is compared on the {shared} seed{plural} of both sides, without {without} {out}"


def _name(place: Place, metrics: Collection[str]) -> str:
    return f"{place.technique} on {place.workload}" + (f" ({', '.join(metrics)})" if metrics else "")


def _counted(names: Sequence[str]) -> str:
    """Return the first of some names, and how many others there are."""
    others = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {others} more" if others > 0 else "")
