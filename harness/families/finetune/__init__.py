"""The family ``finetune``: from a pretrained model to one adapted to a new task, with few parameters that train."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from harness.api import Contract, WorkloadSpec, hookimpl
from harness.families import suites_of
from harness.families.finetune.settings import CausalSettings, ImageSettings, Settings, TextSettings
from harness.judge.metrics import SIZES
from harness.judge.settings import defaults_of

HARNESS_API = 1

_METRICS: Final = ("accuracy", "loss", "train_accuracy", "val_accuracy", "val_loss", *SIZES)
_PHASES: Final = {"train": "a training step", "infer": "an inference batch"}
_SMALL: Final = {"steps": 4}

_OF_MODELS: Final = ("torch._dynamo", "transformers.modeling_utils", "transformers.loss.loss_utils")
"""What loading and training a model of transformers imports, once before all cases."""


@hookimpl
def register_contracts() -> Sequence[Contract]:
    """Declare what a technique of this family must be."""
    return [
        Contract(
            id="finetune",
            protocol="harness.families.finetune.contract:FinetuneTechnique",
            summary="which parameters of a pretrained model train, in which groups, and how the result merges back",
            phases=_PHASES,
        )
    ]


@hookimpl
def register_workloads() -> Sequence[WorkloadSpec]:
    """Declare the problems of this family."""
    return [
        WorkloadSpec(
            id="digits-mlp",
            contract="finetune",
            target="harness.families.finetune.workloads.digits_mlp:DigitsMlp",
            summary="a multilayer perceptron pretrained on the digits 0-4, adapted to 5-9 with 300 images",
            version=1,
            metrics=_METRICS,
            phases=tuple(_PHASES),
            settings=defaults_of(Settings),
            small=_SMALL,
            preload=("torch._dynamo",),
            perturbs=True,
            stacks=True,
            fewest_stacked=2,
        ),
        WorkloadSpec(
            id="digits-split",
            contract="finetune",
            target="harness.families.finetune.workloads.digits_split:DigitsSplit",
            summary="a small vision transformer pretrained on the digits 0-4, adapted to 5-9 with 300 images",
            version=1,
            metrics=_METRICS,
            phases=tuple(_PHASES),
            settings=defaults_of(Settings, steps=80, batch_size=16),  # half the cost of 100 of 32, the same picture
            small=_SMALL,
            preload=("torch._dynamo",),
            perturbs=True,
            stacks=True,
            fewest_stacked=2,
        ),
        WorkloadSpec(
            id="text-classification",
            contract="finetune",
            target="harness.families.finetune.workloads.text_classification:TextClassification",
            summary="a model of transformers of one's own learns labelled texts of one's own",
            version=1,
            metrics=_METRICS,
            phases=tuple(_PHASES),
            settings=defaults_of(TextSettings, steps=40, batch_size=16, lr=1e-3),
            small=_SMALL,
            preload=_OF_MODELS,
            perturbs=True,
            task="text-classification",
            reads=("labelled",),
        ),
        WorkloadSpec(
            id="causal-lm",
            contract="finetune",
            target="harness.families.finetune.workloads.causal_lm:CausalLm",
            summary="a language model of transformers of one's own learns completions, answers, or texts",
            version=1,
            metrics=(*_METRICS, "perplexity", "retention_loss"),
            optional=("retention_loss",),
            phases=tuple(_PHASES),
            settings=defaults_of(CausalSettings, steps=40, batch_size=8, lr=1e-3),
            small=_SMALL,
            preload=_OF_MODELS,
            perturbs=True,
            task="causal-lm",
            reads=("pairs", "messages", "texts"),
        ),
        WorkloadSpec(
            id="image-classification",
            contract="finetune",
            target="harness.families.finetune.workloads.image_classification:ImageClassification",
            summary="a vision model of transformers of one's own learns labelled images of one's own",
            version=1,
            metrics=_METRICS,
            phases=tuple(_PHASES),
            settings=defaults_of(ImageSettings, steps=40, batch_size=16, lr=1e-3),
            small=_SMALL,
            requires=("pillow>=10",),
            preload=_OF_MODELS,
            perturbs=True,
            task="image-classification",
            reads=("images",),
        ),
    ]


@hookimpl
def register_suites() -> Sequence[Path]:
    """Declare the suites of this family."""
    return suites_of("finetune")
