"""The settings of ``regularize``: how long, how fast and on how many examples, with how many wrong labels."""

from __future__ import annotations

from dataclasses import dataclass

from harness.judge.settings import setting


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The protocol of a training. The learning rate stays constant."""

    epochs: int = setting(60, "passes over the training examples", above=0)
    batch_size: int = setting(100, "examples of a training step", above=0)
    lr: float = setting(5e-3, "learning rate", above=0)
    train_examples: int = setting(300, "examples to train on", above=0)
    validation_examples: int = setting(400, "examples to choose the tuned values by", above=0)
    flipped: float = setting(0.0, "share of training labels that are wrong", least=0, below=1)
