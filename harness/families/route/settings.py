"""The settings of ``route``: how long and how fast a model with routed layers is trained, and its experts."""

from __future__ import annotations

from dataclasses import dataclass

from harness.api import UsageError
from harness.judge.settings import setting


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The protocol of a training. The learning rate falls from ``lr`` to 0 on half a cosine.

    Raises UsageError where a token would pass more experts than there are.
    """

    steps: int = setting(200, "optimiser steps of a training", above=0)
    batch_size: int = setting(1024, "tokens of a training step", above=0)
    lr: float = setting(2e-2, "learning rate at the first step", above=0)
    experts: int = setting(8, "experts of a routed layer", above=0)
    hidden: int = setting(32, "hidden units of an expert", above=0)
    active: int = setting(2, "experts that a token passes", above=0, within="experts")

    def __post_init__(self) -> None:
        if self.active > self.experts:
            raise UsageError(f"setting active = {self.active!r}: expected at most the {self.experts} experts")
