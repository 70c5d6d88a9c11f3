"""The timed phases of a quantised language model: a prompt, and tokens decoded one by one with the model's own cache.

Every call is of tokens that no call had before. Between samples two layers of a shape exchange their weights, so that
what a technique unpacked before would be that of another layer. What a call returns is held against a call of the same
tokens in which every layer is watched.
"""

from __future__ import annotations

import copy
from typing import Any, Final

import torch
from torch import Tensor

from harness.api import Phase
from harness.families.quantize.exchange import Exchange
from harness.families.quantize.passages import Passages
from harness.families.quantize.pretrained import QuantizedModel, takes
from harness.families.quantize.settings import CausalSettings
from harness.families.quantize.watching import watched
from harness.judge.fresh import require_close
from harness.measure.unforeseen import random_bits

OTHER: Final = 8
"""One of so many tokens of a timed prompt is drawn at random, so that no prompt is in the data."""

DIFFER: Final = {torch.float32: 1e-3, torch.bfloat16: 2e-2, torch.float16: 5e-3}
"""Largest difference of timed logits from those of a watched call, relative to the largest, by the model's dtype.

The products have to be the same bits; the rest of the model is torch's, which may sum in another order.
"""


def phases_of(quantized: QuantizedModel, passages: Passages, settings: CausalSettings) -> dict[str, Phase]:
    """Return the timed phases of a language model; a sample is a token."""
    prompt = _Prompt(quantized, Prompts(passages, settings.prompt_tokens, quantized))
    before = Prompts(passages, settings.before, quantized)
    decode = _Decoding(quantized, before, settings.decoded)
    return {
        "prompt": Phase(run=prompt, samples=settings.prompt_tokens, verify=prompt.verify),
        "decode": Phase(run=decode, samples=settings.decoded, verify=decode.verify, refresh=decode.refresh),
    }


class Prompts:
    """Prompts of a length that begin anywhere in the texts, some of their tokens exchanged for others."""

    def __init__(self, passages: Passages, length: int, quantized: QuantizedModel) -> None:
        self._passages = passages
        self._size = length - (passages.first >= 0)
        self._vocabulary = int(quantized.model.config.get_text_config().vocab_size)
        self._device = quantized.model.device
        self._draw = torch.Generator().manual_seed(random_bits(63))

    def __call__(self) -> Tensor:
        """Return the next prompt, ``(1, length)``."""
        tokens = self._passages.tokens
        start = int(torch.randint(len(tokens) - self._size + 1, (), generator=self._draw))
        other = self.random(self._size)
        some = torch.rand(self._size, generator=self._draw) < 1 / OTHER
        prompt = torch.where(some, other, tokens[start : start + self._size])
        return self._passages.begun(prompt).to(self._device)

    def random(self, count: int) -> Tensor:
        """Return random tokens, ``(count,)``."""
        return torch.randint(self._vocabulary, (count,), generator=self._draw)

    def next(self) -> Tensor:
        """Return a random token to go on with, ``(1, 1)``."""
        return self.random(1).to(self._device).unsqueeze(0)


class _Last:
    """A model that is asked for the logits of the last token only, where it can be."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._kept: dict[str, int] = {"logits_to_keep": 1} if takes(model, "logits_to_keep") else {}

    @torch.no_grad()
    def __call__(self, tokens: Tensor, cache: Any = None) -> tuple[Tensor, Any]:
        """Return the logits after the last token, ``(1, vocabulary)``, and the cache of all tokens so far."""
        out = self._model(input_ids=tokens, past_key_values=cache, use_cache=True, **self._kept)
        return out.logits[:, -1], out.past_key_values


class _Prompt:
    """The timed reading of a prompt, of which generation needs the last logits and the cache."""

    def __init__(self, quantized: QuantizedModel, fresh: Prompts) -> None:
        self._quantized = quantized
        self._last = _Last(quantized.model)
        self._fresh = fresh

    def __call__(self) -> tuple[Tensor, Tensor]:
        tokens = self._fresh()
        return tokens, self._last(tokens)[0]

    def verify(self, result: tuple[Tensor, Tensor]) -> None:
        """Raise Incorrect unless the logits are those of a watched call."""
        tokens, logits = result
        with watched(self._quantized.technique, self._quantized.layers):
            expected, _ = self._last(tokens)
        require_same(logits, expected)


class _Decoding:
    """The timed greedy decoding of a few tokens at batch 1; ``refresh`` reads a prompt before it."""

    def __init__(self, quantized: QuantizedModel, fresh: Prompts, count: int) -> None:
        self._quantized = quantized
        self._last = _Last(quantized.model)
        self._fresh = fresh
        self._count = count
        self._exchange = Exchange(quantized.layers)
        self._prompt = fresh()
        self._cache: Any = None

    def refresh(self) -> None:
        """Exchange the weights of layers, and read another prompt."""
        if self._cache is not None:
            self._exchange()
        self._prompt = self._fresh()
        _, self._cache = self._last(self._prompt)

    def __call__(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the prompt, the tokens that the model read, and the logits after each."""
        tokens = [self._fresh.next()]
        logits: list[Tensor] = []
        cache = copy.deepcopy(self._cache)  # of few tokens: less than a hundredth of a call
        for _ in range(self._count):
            found, cache = self._last(tokens[-1], cache)
            logits.append(found)
            tokens.append(found.argmax(-1, keepdim=True))
        return self._prompt, torch.cat(tokens[:-1], dim=1), torch.cat(logits)

    def verify(self, result: tuple[Tensor, Tensor, Tensor]) -> None:
        """Raise Incorrect unless the logits are those of a watched call, which reads the prompt anew."""
        prompt, tokens, logits = result
        with watched(self._quantized.technique, self._quantized.layers):
            _, cache = self._last(prompt)
            again = []
            for token in torch.split(tokens, 1, dim=1):
                found, cache = self._last(token, cache)
                again.append(found)
        require_same(logits, torch.cat(again))


def require_same(logits: Tensor, expected: Tensor) -> None:
    """Raise Incorrect unless timed logits are those of a watched call, but for the rounding of their dtype."""
    require_close(logits.float(), expected.float(), tolerance=DIFFER[expected.dtype], what="the logits of a timed call")
