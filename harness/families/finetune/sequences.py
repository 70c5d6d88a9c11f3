"""Makes the token sequences that a language model learns, once for all cases: pairs one by one, texts in blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from torch import Tensor

from harness.api import Json, UsageError
from harness.families.finetune.examples import MULTIPLE, Examples
from harness.families.finetune.passages import Passages, read_passages
from harness.families.finetune.pretrained import configured, tokenizer_of
from harness.families.finetune.scores import IGNORED
from harness.families.finetune.settings import CausalSettings
from harness.judge.cache import key_of, load_or_make, sources_of
from harness.measure.sources import content_digest

LONGEST: Final = 512
"""The most tokens of a pair where the settings say nothing."""

BLOCK: Final = 128
"""The tokens of a block of texts where the settings say nothing."""

QUANTILE: Final = 0.99


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """Token sequences, int32 ``(n, longest)``, padded right; predicted are the tokens from ``starts`` to ``lengths``.

    The share ``cut`` of the pairs had more than ``limit`` tokens. ``paired`` is false for the blocks of texts, which
    are in the order of the texts and have no padding.
    """

    tokens: Tensor
    starts: Tensor
    lengths: Tensor
    cut: float
    limit: int
    paired: bool

    def __len__(self) -> int:
        return len(self.tokens)

    def examples(self, device: str) -> Examples:
        """Return the sequences with the labels of each place: the token that follows, where that is predicted."""
        tokens, places = self.tokens.long(), torch.arange(self.tokens.shape[1])
        following = torch.cat([tokens[:, 1:], torch.full((len(tokens), 1), IGNORED)], 1)
        predicted = (places >= self.starts.unsqueeze(1) - 1) & (places < self.lengths.unsqueeze(1) - 1)
        inputs = {"input_ids": tokens}
        if self.paired:
            inputs["attention_mask"] = (places < self.lengths.unsqueeze(1)).long()
        return Examples(
            inputs={name: value.to(device) for name, value in inputs.items()},
            labels=following.where(predicted, torch.tensor(IGNORED)).to(device),
            lengths=self.lengths.long() if self.paired else None,
        )


def sequences(path: str, settings: CausalSettings, cache: Path) -> Sequences:
    """Return the token sequences of a file, from the cache or made now."""
    made = load_or_make(cache, f"tokens-{sequences_key(path, settings)}", lambda: _made(Path(path), settings))
    return Sequences(
        tokens=made["tokens"],
        starts=made["starts"],
        lengths=made["lengths"],
        cut=float(made["cut"]),
        limit=int(made["limit"]),
        paired=bool(made["paired"]),
    )


def sequences_key(path: str, settings: CausalSettings) -> str:
    """Return the key of all that determines the token sequences of a file."""
    folder = Path(settings.model)
    tokenizer_files = sorted(file for file in folder.iterdir() if file.suffix in (".json", ".txt", ".model", ".jinja"))
    facts: dict[str, Json] = {
        "data": content_digest(Path(path)),
        "suffix": Path(path).suffix.lower(),
        "tokenizer": [[file.name, content_digest(file)] for file in tokenizer_files],
        "columns": [settings.prompt, settings.completion, settings.text],
        "max_length": settings.max_length,
        "libraries": {"torch": torch.__version__, "transformers": transformers.__version__},
        "sources": sources_of(__name__),
    }
    return key_of(facts)


def passages_of(path: Path, settings: CausalSettings) -> Passages:
    """Return the pairs or texts of a file, by the columns of the settings."""
    return read_passages(path, prompt=settings.prompt, completion=settings.completion, text=settings.text)


def _made(path: Path, settings: CausalSettings) -> dict[str, Tensor]:
    passages = passages_of(path, settings)
    encoder = Encoder(Path(settings.model))
    made = _of_pairs(passages, encoder, settings) if passages.pairs else _of_texts(passages, encoder, settings)
    if int(made["tokens"].max()) >= encoder.vocabulary:
        raise UsageError(f"model {settings.model!r}: its tokenizer makes tokens that the model has no embedding for")
    return made


class Encoder:
    """The tokenizer of a model, what it begins texts with, and the token that ends them (None where it has none)."""

    def __init__(self, folder: Path) -> None:
        config: Any = configured(folder)
        self._tokenizer = tokenizer_of(folder)
        self.end: int | None = self._tokenizer.eos_token_id
        self.begin: int | None = self._tokenizer.bos_token_id
        self.limit: int = getattr(config, "max_position_embeddings", None) or LONGEST
        self.vocabulary: int = config.vocab_size
        pads = (config.pad_token_id, self._tokenizer.pad_token_id)
        self.padding: int = next((value for value in pads if value is not None), 0)

    def __call__(self, texts: Sequence[str], *, starts: bool) -> list[list[int]]:
        """Return the tokens of texts without an end; those that ``starts`` is true for begin as the tokenizer says."""
        encoded = self._tokenizer(
            list(texts), padding=False, truncation=False, add_special_tokens=starts, verbose=False
        )["input_ids"]
        return [tokens[:-1] if starts and tokens and tokens[-1] == self.end else tokens for tokens in encoded]

    @property
    def ending(self) -> list[int]:
        """The tokens at the end of a text."""
        return [] if self.end is None else [self.end]


def _of_pairs(passages: Passages, encoder: Encoder, settings: CausalSettings) -> dict[str, Tensor]:
    """Return each pair as a sequence.

    Of a pair that is too long, the prompt loses its beginning, but for what the tokenizer begins each text with, and
    keeps at least one token; what is then still too long loses its end.
    """
    prompts = encoder([prompt for prompt, _ in passages.pairs], starts=True)
    completions = [[*tokens, *encoder.ending] for tokens in encoder([last for _, last in passages.pairs], starts=False)]
    whole = torch.tensor([len(first) + len(last) for first, last in zip(prompts, completions, strict=True)])
    limit = min(encoder.limit, LONGEST)
    usual = min(16 * ceil(float(whole.double().quantile(QUANTILE)) / 16), limit)
    longest = min(settings.max_length or usual, encoder.limit)
    rows, starts = [], []
    for first, last in zip(prompts, completions, strict=True):
        kept = _shortened(first, longest - len(last), encoder.begin)
        rows.append([*kept, *last][:longest])
        starts.append(max(len(kept), 1))
    lengths = torch.tensor([len(row) for row in rows])
    tokens = torch.full((len(rows), -(-int(lengths.max()) // MULTIPLE) * MULTIPLE), encoder.padding, dtype=torch.int32)
    for place, row in zip(tokens, rows, strict=True):
        place[: len(row)] = torch.tensor(row, dtype=torch.int32)
    cut = (whole > longest).double().mean()
    return _as_tensors(tokens, torch.tensor(starts), lengths, cut, limit=longest, paired=True)


def _shortened(prompt: list[int], room: int, begin: int | None) -> list[int]:
    """Return the end of a prompt that fits into a room of tokens, after the token that texts begin with."""
    if len(prompt) <= room:
        return prompt
    first = prompt[:1] if prompt[0] == begin else []
    return [*first, *prompt[-max(room - len(first), 1) :]]


def _of_texts(passages: Passages, encoder: Encoder, settings: CausalSettings) -> dict[str, Tensor]:
    """Return all texts, one after the other, in blocks of equal length; what fills no block is left out."""
    block = min(settings.max_length or BLOCK, encoder.limit)
    stream = [token for text in encoder(passages.texts, starts=True) for token in (*text, *encoder.ending)]
    count = len(stream) // block
    tokens = torch.tensor(stream[: count * block], dtype=torch.int32).view(count, block)
    starts, lengths = torch.ones(count), torch.full((count,), block)
    return _as_tensors(tokens, starts, lengths, torch.tensor(0.0), limit=block, paired=False)


def _as_tensors(tokens: Tensor, starts: Tensor, lengths: Tensor, cut: Tensor, **facts: int) -> dict[str, Tensor]:
    return {
        "tokens": tokens,
        "starts": starts.int(),
        "lengths": lengths.int(),
        "cut": cut.double(),
        **{name: torch.tensor(int(value)) for name, value in facts.items()},
    }


sources_of(__name__)  # at import, so that no case has to wait for it
