"""The settings of ``finetune``: how long, how fast and on how much data a technique is trained."""

from __future__ import annotations

from dataclasses import dataclass

from harness.judge.settings import setting


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The protocol of a fine-tuning.

    Gradients of all that trains are scaled down together to a norm of ``max_grad_norm``: without it, single batches
    throw small models far enough to triple the spread over seeds.
    """

    steps: int = setting(100, "optimiser steps of a training", above=0)
    batch_size: int = setting(32, "images of a training step", above=0)
    lr: float = setting(1e-2, "peak learning rate of the technique's parameters", above=0)
    head_lr: float = setting(5e-3, "peak learning rate of the task's head", above=0)
    weight_decay: float = setting(0.01, "AdamW's weight decay of all that trains", least=0)
    max_grad_norm: float = setting(1.0, "norm to which larger gradients are scaled down", above=0)
    train_images: int = setting(300, "images to train on", above=0)
    validation_images: int = setting(200, "images to choose the tuned values by", above=0)
