"""The contract ``finetune``: from a pretrained model to an adapted one.

The judge owns the base model, the data, the optimiser, the schedule and the head of the task; a technique says
which other parameters train, in which groups, what changes in the forward pass, and how the adapted model is merged.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from harness.judge.architectures import Rows
from harness.judge.factors import Factors
from harness.judge.training import Batch


@dataclass(frozen=True, kw_only=True)
class FinetuneTask:
    """What a technique may know of the task; validation and test data are withheld.

    Modules are given by their dotted names, for ``model.get_submodule`` and ``model.set_submodule``. A ``Batch`` is a
    mapping from names to tensors: the model's inputs ``(batch, ...)`` and ``labels``, int64: a class each,
    ``(batch,)``, or of a sequence the token that follows each place, ``(batch, length)``, and -100 where it is not
    predicted.
    """

    linears: Sequence[str]
    """The ``nn.Linear`` modules of the backbone that may be adapted."""

    norms: Sequence[str]
    """The normalisation layers of the backbone; empty where the model has none."""

    blocks: Sequence[str]
    """The sub-layers after whose output, a tensor ``(..., width)``, an adapter may be inserted."""

    head: Sequence[str]
    """The modules of the task's head; empty where the model keeps its own output, as a language model does.

    The judge sets ``requires_grad`` on their parameters before `FinetuneTechnique.adapt` and trains them at a rate of
    its own. A technique must neither change, freeze nor remove them.
    """

    feedforward: Sequence[str]
    """The position-wise feed-forward modules among ``linears``, whose inputs IA3 scales."""

    keys: Sequence[str] = ()
    """The modules among ``linears`` that compute an attention's keys; empty where the model has no attention."""

    values: Sequence[str] = ()
    """The modules among ``linears`` that compute an attention's values."""

    fused: Sequence[str] = ()
    """The modules among ``linears`` that compute keys and values in one, often the queries too."""

    rows: Mapping[str, Rows] = field(default_factory=dict)
    """Which outputs of the modules in ``fused`` are keys and which are values; missing where that is not known."""

    packed: Collection[str] = ()
    """The modules among ``linears`` whose weight is packed in a few bits: a `harness.judge.bases.PackedLinear` each.

    Their ``weight`` may be read, and is unpacked in every reading. It can be neither written nor merged into: an
    adapter stays beside it.
    """

    classes: int
    """Number of classes; of a language model, the size of its vocabulary."""

    kind: str = "classification"
    """What is learned: ``"classification"``, or ``"causal-lm"`` where each token is predicted from those before it."""

    calibration: Callable[[], Iterator[Batch]]
    """Return an iterator over training batches, the same ones in every call and for every technique."""

    forward: Callable[[nn.Module, Batch], Tensor]
    """Return the logits of a model for a batch: ``(batch, classes)``, or ``(batch, length, classes)`` of a sequence."""

    loss: Callable[[nn.Module, Batch], Tensor]
    """Return the mean cross-entropy of a model for a batch in nats, a scalar to differentiate.

    The mean is over all that the batch predicts, not over its examples.
    """

    generator: torch.Generator
    """A generator on the CPU, seeded from the case: the only source of randomness that a technique may draw from."""

    factors: Factors = field(default_factory=Factors)
    """Return the factors of weights by name, as a `harness.judge.factors.factorisation` computes them of each.

    The judge keeps them over the cases of a model: the same bits in less time. Where the initialisation is timed, and
    in the memory lane, it computes them anew, as a user has to.
    """


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """Where and how a technique saves what it has trained."""

    folder: Path
    """An empty folder, into which the technique writes its files."""

    root: str
    """The name of the module that a user loads with transformers; "" is the model itself."""

    base: Callable[[], nn.Module]
    """Return the model as it was before `FinetuneTechnique.adapt`."""

    task: FinetuneTask
    """The task that the model was adapted to."""


@runtime_checkable
class KeepingTechnique(Protocol):
    """A technique that can save what it has trained, for use without the harness; the method is optional."""

    def save(self, model: nn.Module, keeping: Keeping) -> None:
        """Write the adapter of a trained model into ``keeping.folder``, in the format of the library that knows it.

        The judge writes the head beside it. The model must stay as it is. Raises `harness.api.NotApplicable` where no
        library has a format for it.
        """


@runtime_checkable
class FinetuneTechnique(Protocol):
    """A method of parameter-efficient or full fine-tuning.

    The gate adapts the model, takes three training steps and merges. It raises `harness.api.Incorrect` where an
    invariant below is broken; logits are equal where they differ by at most 1e-4 of the largest, or 2e-2 where products
    are in bfloat16. In these steps every parameter that trains must get a gradient, and change.

    A technique with an attribute ``graphable = True`` asks to have its timed steps and predictions captured in CUDA
    graphs on a GPU (the page *On a GPU*).
    """

    exact_at_start: bool
    """Whether the adapted model computes the base model's function before the first step; the gate compares logits."""

    def adapt(self, model: nn.Module, task: FinetuneTask) -> nn.Module:
        """Adapt the model, in place or wrapped, and return it.

        The model arrives on the case's device with ``requires_grad`` false on everything but the head; set
        ``requires_grad`` on every other parameter that is to train. The gate requires that the head's parameters stay
        part of the model, trainable and unchanged, and that parameters left frozen keep their bits while training.
        What trains is made float32 afterwards, where the base model is not.
        Raises `harness.api.NotApplicable` where the model has nothing to act on (no normalisation layers, odd sizes).
        """

    def parameter_groups(self, model: nn.Module, lr: float) -> list[dict[str, Any]]:
        """Return AdamW's parameter groups for everything that trains, the head excepted.

        ``lr`` is the peak learning rate of the case. A group is a dictionary with ``params``, ``lr`` and, if wanted,
        other options of ``torch.optim.AdamW``; ``weight_decay`` is the case's where a group states none. The gate
        requires that the groups list each trainable parameter of ``model`` outside the head exactly once, and no other
        tensor.
        """

    def merge(self, model: nn.Module) -> nn.Module:
        """Return the trained model in the form in which it is served, adapters folded into the weights where possible.

        May change the model in place. The gate requires the logits of the adapted model in evaluation mode.
        """
