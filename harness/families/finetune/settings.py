"""The settings of ``finetune``: how long, how fast and on how much data a technique is trained."""

from __future__ import annotations

from dataclasses import dataclass

from harness.judge.settings import setting


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The protocol of a fine-tuning, whatever the model and the data.

    Gradients of all that trains are scaled down together to a norm of ``max_grad_norm``: without it, single batches
    throw small models far enough to triple the spread over seeds.
    """

    steps: int = setting(100, "optimiser steps of a training", above=0)
    batch_size: int = setting(32, "examples of a training step", above=0)
    micro_batch: int = setting(
        0, "examples whose gradients are computed at a time; 0 for the whole batch", least=0, within="batch_size"
    )
    lr: float = setting(1e-2, "peak learning rate of the technique's parameters", above=0)
    head_lr: float = setting(5e-3, "peak learning rate of the task's head", above=0)
    weight_decay: float = setting(0.01, "AdamW's weight decay of all that trains", least=0)
    max_grad_norm: float = setting(1.0, "norm to which larger gradients are scaled down", above=0)


@dataclass(frozen=True, kw_only=True)
class Settings(Protocol):
    """The protocol on the digits."""

    train_images: int = setting(300, "images to train on", above=0)
    validation_images: int = setting(200, "images to choose the tuned values by", above=0)


@dataclass(frozen=True, kw_only=True)
class TextSettings(Protocol):
    """The protocol on a user's own model and labelled texts."""

    model: str = setting("", "folder of the model: config.json, weights and tokenizer", file=True)
    data: str = setting("", "file or folder of labelled texts", file=True)
    base: str = setting("float32", "form of the model under what trains, such as bfloat16 or nf4")
    text: str = setting("", "column of the texts; guessed where empty")
    label: str = setting("", "column of the labels; guessed where empty")
    train_examples: int = setting(800, "most texts to train on", above=0)
    validation_examples: int = setting(200, "most texts to choose the tuned values by", above=0)
    test_examples: int = setting(500, "most texts to test on", above=0)
    max_length: int = setting(0, "most tokens of a text; 0 for the 99th percentile of the data", least=0)


@dataclass(frozen=True, kw_only=True)
class CausalSettings(Protocol):
    """The protocol on a user's own language model and texts."""

    model: str = setting("", "folder of the model: config.json, weights and tokenizer", file=True)
    data: str = setting("", "file of prompts and completions, of conversations, or of texts", file=True)
    base: str = setting("float32", "form of the model under what trains, such as bfloat16 or nf4")
    prompt: str = setting("", "column of the prompts; guessed where empty")
    completion: str = setting("", "column of the completions; guessed where empty")
    messages: str = setting("", "column of conversations, lists of role and content; guessed where empty")
    text: str = setting("", "column of texts without prompts; guessed where empty")
    retain: str = setting("", "file of texts on which the loss must not rise; measured where given", file=True)
    train_examples: int = setting(800, "most examples to train on", above=0)
    validation_examples: int = setting(50, "most examples to choose the tuned values by", above=0)
    test_examples: int = setting(200, "most examples to test on", above=0)
    retain_examples: int = setting(50, "most examples of the texts in retain", above=0)
    max_length: int = setting(
        0, "most tokens of an example; 0 for the 99th percentile of pairs and 128 of texts", least=0
    )


@dataclass(frozen=True, kw_only=True)
class ImageSettings(Protocol):
    """The protocol on a user's own model and labelled images."""

    model: str = setting("", "folder of the model: config.json, weights and preprocessor_config.json", file=True)
    data: str = setting("", "folder with a folder of images for each class", file=True)
    base: str = setting("float32", "form of the model under what trains, such as bfloat16 or nf4")
    train_examples: int = setting(800, "most images to train on", above=0)
    validation_examples: int = setting(200, "most images to choose the tuned values by", above=0)
    test_examples: int = setting(500, "most images to test on", above=0)
