"""The course of a case on a user's own model: packing, the gate on its layers, quality and timed phases."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.api import CaseContext, Json, NotApplicable, OpenCase, Outcome, Phase, Trial, UsageError
from harness.families.quantize.checks import require_defined
from harness.families.quantize.contract import OnDevice, Packed, QuantizedLinear, QuantizeTechnique
from harness.families.quantize.modules import require_module
from harness.families.quantize.pretrained import QuantizedModel, dtype_of, loaded, quantized
from harness.families.quantize.reports import Given
from harness.families.quantize.settings import OnModel
from harness.judge.pretrained import configured, require_model
from harness.judge.seeds import generator
from harness.judge.whole import require_whole
from harness.measure.clock import PhaseClock, take
from harness.measure.sources import content_digest


class ModelWorkload(ABC):
    """A `harness.api.Workload` on a user's own model and data; a subclass says what the model does.

    The weights of every linear layer of the repeated layers are packed. Nothing is trained or tuned, so the seed
    determines only which of the data are measured, for all techniques alike.
    """

    kind: Any
    """The class of transformers that loads the model, such as ``AutoModelForCausalLM``."""

    endings: tuple[str, ...]
    """How the names of the model's classes end that have what the task needs."""

    lacking: str
    """What a model without such a class lacks, and what to do."""

    @abstractmethod
    def read(self, settings: Mapping[str, Json]) -> OnModel:
        """Return the settings of a case. Raises UsageError for those that are unknown or out of range."""

    @abstractmethod
    def require_data(self, settings: OnModel) -> None:
        """Raise UsageError for data that cannot be used."""

    @abstractmethod
    def prepare(self, context: CaseContext) -> None:
        """Make what all cases share and the cache lacks."""

    @abstractmethod
    def quality(self, quantized: QuantizedModel, context: CaseContext) -> Outcome:
        """Return metrics and notes of the data; some of the predictions are watched."""

    @abstractmethod
    def probe(self, quantized: QuantizedModel, context: CaseContext) -> None:
        """Predict something while all layers are watched."""

    @abstractmethod
    def predict(self, quantized: QuantizedModel, context: CaseContext) -> object:
        """Predict as much at once as `quality` does, while nothing is watched."""

    @abstractmethod
    def predictions(self, context: CaseContext) -> int:
        """Return how many such predictions `quality` makes."""

    @abstractmethod
    def phases(self, quantized: QuantizedModel, context: CaseContext) -> dict[str, Phase]:
        """Return the timed phases."""

    def check_settings(self, settings: Mapping[str, Json]) -> None:
        """Raise UsageError for settings that are out of range, and for a model or data that cannot be used."""
        read = self.read(settings)
        if not read.model or not read.data:
            raise UsageError("the workload runs on a model and data of one's own: add --model and --data")
        folder = Path(read.model)
        require_model(folder)
        names = configured(folder).architectures or []
        if not any(name.endswith(self.endings) for name in names):
            told = ", ".join(names) or "an unnamed class"
            raise UsageError(f"model {read.model!r}: is saved as {told}, {self.lacking}")
        require_whole(self.kind, folder)
        self.require_data(read)

    def check(self, technique: QuantizeTechnique, context: CaseContext) -> None:
        """Hold the layers of the model to the definition, and layers that are moved, copied and loaded to the first.

        The weights and products are the model's own in the place of the drawn shapes of the contract's gate: what is
        wrong on shapes that the model lacks is not wrong here. Of each layer's weight, the rows about a drawn one are
        compared, or all of a small weight; each product is watched.
        """
        require_module(technique if context.device == "cpu" else OnDevice(technique, context.device))
        draw = generator(context.seed, "rows")

        def require(name: str, weight: Tensor, packed: Packed) -> None:
            row = int(torch.randint(len(weight), (), generator=draw))
            given = _given(context, self.kind, name)
            require_defined(technique, given, weight.cpu(), technique.dequantize(packed).cpu(), rows=[row])

        made = quantized(self._load(technique, context), technique, self.read(context.settings), require)
        try:
            self.probe(made, context)
        except AttributeError as error:
            if QuantizedLinear.__name__ not in str(error):
                raise
            raise NotApplicable(f"the model uses a linear layer otherwise than by calling it: {error}") from error

    def trial(self, technique: QuantizeTechnique, context: CaseContext) -> Trial:
        """Return what a technique costs, after two predictions and two calls of each phase."""
        clock = PhaseClock(context.device)
        with clock("load"):
            model = self._load(technique, context)
        with clock("init"):
            made = quantized(model, technique, self.read(context.settings))
        self.predict(made, context)
        seconds = {
            "watched": _seconds(lambda: self.probe(made, context), context.device),
            "prediction": _seconds(lambda: self.predict(made, context), context.device),
        }
        phases = self.phases(made, context)
        for name, phase in phases.items():
            if phase.refresh is not None:
                phase.refresh()
            phase.run()
            seconds[name] = _seconds(phase.run, context.device)
        return Trial(
            seconds={**clock.seconds, **seconds},
            build={"load": 1, "init": 1},
            phases={name: {name: 1} for name in phases},
        )

    def counts(self, context: CaseContext) -> Mapping[str, float]:
        """Return how often an accuracy case does what `trial` times."""
        return {"load": 1, "init": 1, "watched": 1, "prediction": self.predictions(context) - 1}

    def evaluate(self, technique: QuantizeTechnique, context: CaseContext) -> Outcome:
        """Quantise the model and measure it on the data. Raises Incorrect where a watched layer is off."""
        with context.phase("load"):
            model = self._load(technique, context)
        with context.phase("init"):
            made = quantized(model, technique, self.read(context.settings))
        with context.phase("test"):
            outcome = self.quality(made, context)
        sizes = {
            "linear_bytes": float(made.linear_bytes),
            "model_bytes": float(made.model_bytes),
            "quantized_share": made.share,
        }
        return Outcome(
            metrics={**outcome.metrics, **sizes}, notes=[*self._notes(context), *made.notes(), *outcome.notes]
        )

    def open(self, technique: QuantizeTechnique, context: CaseContext) -> OpenCase:
        """Prepare the timed phases; the packing of the whole model is the initialisation."""
        with context.phase("load"):
            model = self._load(technique, context)
        with context.phase("init"):
            made = quantized(model, technique, self.read(context.settings))
        return OpenCase(phases=self.phases(made, context))

    def _load(self, technique: QuantizeTechnique, context: CaseContext) -> Any:
        settings = self.read(context.settings)
        return loaded(self.kind, Path(settings.model), dtype_of(settings, technique), context.device)

    def _notes(self, context: CaseContext) -> Sequence[str]:
        settings = self.read(context.settings)
        return [
            f"{what}: {Path(path).name}, SHA-256 {content_digest(Path(path))}"
            for what, path in (("model", settings.model), ("data", settings.data))
        ]


def _seconds(call: Callable[[], object], device: str) -> float:
    return take(call, repeats=1, device=device).seconds


def _given(context: CaseContext, kind: Any, name: str) -> Given:
    """Return a layer's weight as code that a report can show."""
    folder = context.settings["model"]
    load = f"__import__('transformers').{kind.__name__}.from_pretrained({folder!r})"
    return Given(what=f"the weight of {name}", code=f"{load}.get_submodule({name!r}).weight.detach()")
