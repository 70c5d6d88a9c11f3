"""Gives each unit of a GPU a card of its own: as many units run side by side as a machine has cards."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import takewhile

from harness.measure.environment import gpus
from harness.measure.gpu import VISIBLE


class Cards:
    """The GPUs of this machine that units may have; there are none for units of another device."""

    def __init__(self, device: str) -> None:
        names = visible() if device.startswith("cuda") else []
        self._units = dict.fromkeys(names, 0)
        """How many units have a card: more than one only where more were submitted than there are slots."""

    def slots(self, jobs: int) -> int:
        """Return how many units run side by side where the user asks for so many jobs."""
        return min(jobs, len(self._units)) if self._units else jobs

    def take(self) -> str:
        """Return the card for a unit: the first with the fewest units, so the same one for all that run alone."""
        if not self._units:
            return ""
        card = min(self._units, key=lambda name: self._units[name])
        self._units[card] += 1
        return card

    def give_back(self, card: str) -> None:
        """Take the card of a unit back that has ended."""
        if card:
            self._units[card] -= 1


def visible() -> list[str]:
    """Return the GPUs that the cases of a run may have, one each, by the names that `VISIBLE` takes.

    These are the ones that the user lets this process see, else all of the machine. Where a machine has different
    models, it is the first one only, as what different models compute is not compared.
    """
    all_of_machine = gpus()
    given = os.environ.get(VISIBLE)
    names = [str(number) for number in range(len(all_of_machine))] if given is None else given.split(",")
    valid = list(takewhile(lambda name: name not in ("", "-1"), map(str.strip, names)))  # as the driver reads them
    models = {str(card.get("name")) for card in all_of_machine if isinstance(card, Mapping)}
    return valid if len(models) < 2 else valid[:1]
