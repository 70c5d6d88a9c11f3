"""Workload ``text-classification``: a user's own trained classifier in few bits, by accuracy and agreement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
import transformers
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from harness.api import WARNING, CaseContext, Json, Outcome, Phase
from harness.families.quantize.decoding import require_same
from harness.families.quantize.exchange import Exchange
from harness.families.quantize.labelled import Sentences, sentences, texts_of
from harness.families.quantize.pretrained import QuantizedModel, loaded
from harness.families.quantize.protocol import ModelWorkload
from harness.families.quantize.settings import ClassifierSettings, OnModel
from harness.families.quantize.watching import watched
from harness.judge.cache import key_of, load_or_make, sources_of
from harness.judge.seeds import generator
from harness.judge.settings import read_settings
from harness.judge.training import Batch
from harness.measure.sources import content_digest
from harness.measure.unforeseen import random_bits


class TextClassification(ModelWorkload):
    """Labelled texts, and what the quantised model predicts of them beside the model as it was, in float32."""

    kind = AutoModelForSequenceClassification
    endings = ("ForSequenceClassification",)
    lacking = (
        "without a trained classification head: expected a class such as BertForSequenceClassification; fine-tune it "
        "and save it with its head, or quantise a language model with --task causal-lm"
    )

    def read(self, settings: Mapping[str, Json]) -> ClassifierSettings:
        """Return the settings of a case. Raises UsageError for those that are unknown or out of range."""
        return read_settings(ClassifierSettings, settings)

    def require_data(self, settings: OnModel) -> None:
        """Raise UsageError for data that cannot be read, and for labels that the model does not know."""
        assert isinstance(settings, ClassifierSettings)
        texts_of(settings)

    def prepare(self, context: CaseContext) -> None:
        """Tokenise the texts if the cache lacks their tokens."""
        sentences(self.read(context.settings), context.cache)

    def quality(self, quantized: QuantizedModel, context: CaseContext) -> Outcome:
        """Return accuracy and agreement on the seed's texts; one batch that nobody can foresee is watched."""
        settings = self.read(context.settings)
        texts = self._chosen(context)
        before = self._before(texts, context).double().log_softmax(1)
        after = _predicted(quantized, texts, settings.batch_size, context.device).double().log_softmax(1)
        predicted = after.argmax(1)
        return Outcome(
            metrics={
                "accuracy": 100 * float((predicted == texts.labels).double().mean()),
                "agreement": 100 * float((predicted == before.argmax(1)).double().mean()),
                "kl": max(0.0, float((before.exp() * (before - after)).sum(1).mean())),
            },
            notes=[f"{len(texts)} texts of the data", _cut(texts, settings)],
        )

    def probe(self, quantized: QuantizedModel, context: CaseContext) -> None:
        """Predict a batch while all layers are watched."""
        with watched(quantized.technique, quantized.layers):
            self.predict(quantized, context)

    def predict(self, quantized: QuantizedModel, context: CaseContext) -> object:
        """Predict a batch while nothing is watched."""
        first = _batches(self._chosen(context), self.read(context.settings).batch_size)[0]
        return _logits(quantized.model, first.batch(context.device))

    def predictions(self, context: CaseContext) -> int:
        """Return the number of batches."""
        return len(_batches(self._chosen(context), self.read(context.settings).batch_size))

    def phases(self, quantized: QuantizedModel, context: CaseContext) -> dict[str, Phase]:
        """Return the prediction of a batch."""
        settings = self.read(context.settings)
        predict = _Prediction(quantized, self._chosen(context), settings.batch_size, context.device)
        run = Phase(run=predict, samples=settings.batch_size, verify=predict.verify, refresh=predict.refresh)
        return {"predict": run}

    def _chosen(self, context: CaseContext) -> Sentences:
        settings = self.read(context.settings)
        texts = sentences(settings, context.cache)
        order = torch.randperm(len(texts), generator=generator(context.seed, "texts"))
        return texts.at(order[: settings.test_examples])

    def _before(self, texts: Sentences, context: CaseContext) -> Tensor:
        """Return the logits of the model as it was, in float32, from the cache or computed now."""
        settings = self.read(context.settings)
        facts: dict[str, Json] = {
            "model": content_digest(Path(settings.model)),
            "data": content_digest(Path(settings.data)),
            "settings": {name: value for name, value in context.settings.items() if name not in ("model", "data")},
            "seed": context.seed,
            "device": context.device,
            "libraries": {"torch": torch.__version__, "transformers": transformers.__version__},
            "sources": sources_of(__name__),
        }

        def made() -> dict[str, Tensor]:
            model = loaded(self.kind, Path(settings.model), torch.float32, context.device)
            size = settings.batch_size
            parts = [_logits(model, some.batch(context.device)).cpu() for some in _batches(texts, size)]
            return {"logits": torch.cat(parts)}

        return load_or_make(context.cache, f"unquantised-{key_of(facts)}", made)["logits"]


class _Prediction:
    """The timed prediction of a batch of fresh texts, of which some tokens are another text's."""

    def __init__(self, quantized: QuantizedModel, texts: Sentences, size: int, device: str) -> None:
        self._quantized = quantized
        self._texts = texts
        self._size = size
        self._device = device
        self._exchange = Exchange(quantized.layers)
        self._draw = torch.Generator().manual_seed(random_bits(63))
        self._begun = False

    def refresh(self) -> None:
        """Exchange the weights of layers, but not before the first call."""
        if self._begun:
            self._exchange()
        self._begun = True

    def __call__(self) -> tuple[Batch, Tensor]:
        rows = torch.randint(len(self._texts), (2, self._size), generator=self._draw)
        texts, others = (self._texts.at(some) for some in rows)
        both = torch.arange(texts.tokens.shape[1]) < torch.minimum(texts.lengths, others.lengths).unsqueeze(1)
        mixed = both & (torch.rand(both.shape, generator=self._draw) < _MIXED)
        tokens = torch.where(mixed, others.tokens, texts.tokens)
        fresh = replace(texts, tokens=tokens)
        batch = fresh.batch(self._device)
        return batch, _logits(self._quantized.model, batch)

    def verify(self, result: tuple[Batch, Tensor]) -> None:
        """Raise Incorrect unless the logits are those of a watched call."""
        batch, logits = result
        with watched(self._quantized.technique, self._quantized.layers):
            expected = _logits(self._quantized.model, batch)
        require_same(logits, expected)


_MIXED = 0.125
"""The share of tokens that are another text's, so that no timed text is in the data."""


TOLD: Final = 0.05
"""A warning tells where more than this share of the texts is cut."""


def _cut(texts: Sentences, settings: ClassifierSettings) -> str:
    """Return what is said of texts that are longer than the model gets them."""
    told = f"{100 * texts.cut:.1f} % of the texts are longer than max_length={settings.max_length} tokens, and cut"
    return f"{WARNING}{told}" if texts.cut > TOLD else told


@torch.no_grad()
def _logits(model: torch.nn.Module, batch: Batch) -> Tensor:
    logits: Tensor = model(**batch).logits
    return logits


def _batches(texts: Sentences, size: int) -> list[Sentences]:
    return [texts.at(some) for some in torch.split(torch.arange(len(texts)), size)]


def _predicted(quantized: QuantizedModel, texts: Sentences, size: int, device: str) -> Tensor:
    """Return the logits of all texts, of which one batch is watched."""
    batches = _batches(texts, size)
    seen = random_bits(32) % len(batches)
    found = []
    for number, some in enumerate(batches):
        batch = some.batch(device)
        if number == seen:
            with watched(quantized.technique, quantized.layers):
                found.append(_logits(quantized.model, batch).cpu())
        else:
            found.append(_logits(quantized.model, batch).cpu())
    return torch.cat(found)


sources_of(__name__)  # at import, so that no case has to wait for it

if TYPE_CHECKING:  # mypy compares every method with the protocol's
    from harness.api import CheckingWorkload, EstimatingWorkload

    _FULFILS: tuple[type[CheckingWorkload], ...] = (TextClassification,)
    _ESTIMATES: tuple[type[EstimatingWorkload], ...] = (TextClassification,)
