"""The settings of ``control``: how many texts are generated, and how noisy a verifier is."""

from __future__ import annotations

from dataclasses import dataclass

from harness.judge.settings import setting


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The protocol of a generation."""

    particles: int = setting(20, "texts of a population", least=2)
    populations: int = setting(200, "populations that are generated", least=2)


@dataclass(frozen=True, kw_only=True)
class VerifierSettings(Settings):
    """The protocol of a generation that a verifier guides."""

    noise: float = setting(2.5, "standard deviation of the noise in a verifier's opinions, in nats", least=0, most=10)
