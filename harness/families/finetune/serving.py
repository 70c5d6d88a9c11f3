"""A timed forward pass of a merged model, and what the model before merging predicts, against which it is held."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from harness.families.finetune.contract import FinetuneTechnique
from harness.judge.copies import deep_copy
from harness.judge.graphs import Captured
from harness.judge.timed import RepeatedStep
from harness.judge.training import Batch


class Serving:
    """A timed forward pass of the merged model, which the first call merges; ``captured`` as `RepeatedStep` has it."""

    def __init__(
        self,
        technique: FinetuneTechnique,
        train: RepeatedStep[Any, Batch],
        forward: Callable[[nn.Module, Batch], Tensor],
        *,
        captured: bool = False,
    ) -> None:
        self._technique = technique
        self._forward = forward
        self._train = weakref.ref(train)
        self._model = train.trains.model
        self._weights: dict[str, Tensor] = {}
        self._merged = False
        self._predict: Callable[[Batch], Tensor] = lambda batch: self._forward(self._model, batch)
        if captured:
            self._predict = Captured(self._predict, "its prediction")

    def __call__(self, batch: Batch) -> Tensor:
        """Return what the merged model predicts for a batch."""
        if not self._merged:
            self._merge()
        with torch.no_grad():  # as in the check
            return self._predict(batch)

    def expected(self, batch: Batch) -> Tensor:
        """Return what the model before merging predicts for a batch, with the weights that were merged."""
        unmerged = self._unmerged()
        unmerged.load_state_dict(self._weights, strict=False)
        return self._predicted(unmerged, batch)

    def before(self, batch: Batch) -> Tensor:
        """Return what the model predicted for a batch before the first timed step."""
        return self._predicted(self._unmerged(), batch)

    def _unmerged(self) -> nn.Module:
        """Return a copy of the model as it was before the first timed step."""
        train = self._train()
        assert train is not None, "the step is alive while its time is taken"
        return train.model_as_it_was()

    def _predicted(self, model: nn.Module, batch: Batch) -> Tensor:
        with torch.no_grad():
            return self._forward(model.eval(), batch)

    def _merge(self) -> None:
        if self._train() is not None:
            self._model = deep_copy(self._model)
            self._weights = {name: value.clone() for name, value in self._model.state_dict().items()}
        self._model.zero_grad(set_to_none=True)
        self._model = self._technique.merge(self._model).eval().requires_grad_(False)
        self._merged = True
