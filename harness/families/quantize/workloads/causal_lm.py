"""Workload ``causal-lm``: a user's own language model in few bits, by perplexity, bytes and tokens a second."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForCausalLM

from harness.api import CaseContext, Json, Outcome, Phase, UsageError
from harness.families.quantize import decoding
from harness.families.quantize.passages import Passages, passages, require_enough, texts_of
from harness.families.quantize.pretrained import QuantizedModel
from harness.families.quantize.protocol import ModelWorkload
from harness.families.quantize.settings import CausalSettings, OnModel
from harness.families.quantize.watching import watched
from harness.judge.pretrained import configured
from harness.judge.seeds import generator
from harness.judge.settings import read_settings
from harness.measure.unforeseen import random_bits

LARGEST: Final = 700.0
"""The largest loss whose exponential is a float."""


class CausalLm(ModelWorkload):
    """Blocks of text, of which a model predicts each token from those before it in the block."""

    kind = AutoModelForCausalLM
    endings = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
    lacking = "not as a language model: expected a class such as LlamaForCausalLM; save the model with its output head"

    def read(self, settings: Mapping[str, Json]) -> CausalSettings:
        """Return the settings of a case. Raises UsageError for those that are unknown or out of range."""
        return read_settings(CausalSettings, settings)

    def require_data(self, settings: OnModel) -> None:
        """Raise UsageError for data that cannot be read, and for lengths that the model has no positions for."""
        assert isinstance(settings, CausalSettings)
        most = getattr(configured(Path(settings.model)).get_text_config(), "max_position_embeddings", None)
        lengths = {
            "context": settings.context,
            "prompt_tokens": settings.prompt_tokens,
            "before and decoded": settings.before + settings.decoded,
        }
        if most and (long := {name: count for name, count in lengths.items() if count > most}):
            name, count = next(iter(long.items()))
            raise UsageError(f"{name} of {count} tokens: expected at most {most}, the positions of the model")
        texts_of(settings)

    def prepare(self, context: CaseContext) -> None:
        """Tokenise the texts if the cache lacks their tokens."""
        settings = self.read(context.settings)
        require_enough(passages(settings, context.cache), settings)

    def quality(self, quantized: QuantizedModel, context: CaseContext) -> Outcome:
        """Return the perplexity of the seed's blocks, one after the other; one that nobody can foresee is watched."""
        settings = self.read(context.settings)
        tokens = passages(settings, context.cache)
        require_enough(tokens, settings)
        count = tokens.blocks(settings.context)
        chosen = spread(count, settings.blocks, generator(context.seed, "blocks"))
        seen = random_bits(32) % len(chosen)
        nats = 0.0
        for number, block in enumerate(chosen):
            given = tokens.block(block, settings.context).to(context.device)
            if number == seen:
                with watched(quantized.technique, quantized.layers):
                    nats += _nats(quantized, given)
            else:
                nats += _nats(quantized, given)
        loss = nats / (len(chosen) * (settings.context - 1))
        notes = [f"{len(chosen)} of {count} blocks of {settings.context} tokens"]
        if len(chosen) == count:
            notes.append("the data have no more blocks, so that every seed has the same")
        return Outcome(metrics={"perplexity": math.exp(min(loss, LARGEST)), "loss": loss}, notes=notes)

    def probe(self, quantized: QuantizedModel, context: CaseContext) -> None:
        """Predict a block while all layers are watched."""
        with watched(quantized.technique, quantized.layers):
            self.predict(quantized, context)

    def predict(self, quantized: QuantizedModel, context: CaseContext) -> object:
        """Predict a block while nothing is watched."""
        block = self._passages(context).block(0, self.read(context.settings).context)
        return _nats(quantized, block.to(context.device))

    def predictions(self, context: CaseContext) -> int:
        """Return the number of blocks."""
        settings = self.read(context.settings)
        return min(settings.blocks, self._passages(context).blocks(settings.context))

    def phases(self, quantized: QuantizedModel, context: CaseContext) -> dict[str, Phase]:
        """Return the reading of a prompt and the decoding of tokens."""
        return decoding.phases_of(quantized, self._passages(context), self.read(context.settings))

    def _passages(self, context: CaseContext) -> Passages:
        settings = self.read(context.settings)
        tokens = passages(settings, context.cache)
        require_enough(tokens, settings)
        return tokens


def spread(count: int, most: int, draw: torch.Generator) -> list[int]:
    """Return at most so many of ``count`` numbers, one drawn from each of as many equal stretches.

    Texts change from place to place: such numbers differ less from seed to seed than others.
    """
    most = min(most, count)
    bounds = torch.arange(most + 1) * count // most
    places: list[int] = (bounds[:-1] + (bounds.diff() * torch.rand(most, generator=draw)).long()).tolist()
    return places


@torch.no_grad()
def _nats(quantized: QuantizedModel, tokens: Tensor) -> float:
    """Return the summed cross-entropy of all tokens of a block but the first."""
    logits = quantized.model(input_ids=tokens, use_cache=False).logits[0, :-1]
    pairs = zip(torch.split(logits, _ROWS), torch.split(tokens[0, 1:], _ROWS), strict=True)
    return math.fsum(float(functional.cross_entropy(some.float(), wanted, reduction="sum")) for some, wanted in pairs)


_ROWS: Final = 128
"""Tokens whose logits are float32 at a time."""

if TYPE_CHECKING:  # mypy compares every method with the protocol's
    from harness.api import CheckingWorkload, EstimatingWorkload

    _FULFILS: tuple[type[CheckingWorkload], ...] = (CausalLm,)
    _ESTIMATES: tuple[type[EstimatingWorkload], ...] = (CausalLm,)
