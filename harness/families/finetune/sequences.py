"""Makes the token sequences that a language model learns, once for all cases: pairs one by one, texts in blocks."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from harness.api import Json, UsageError
from harness.families.finetune.examples import MULTIPLE, Examples, rounded_down
from harness.families.finetune.settings import CausalSettings
from harness.families.finetune.splits import PARTS
from harness.judge.cache import load_or_make, sources_of
from harness.judge.chats import ChatTemplate
from harness.judge.pretrained import configured, tokenizer_of
from harness.judge.tables import Pairs, Texts, kinds_of, read_conversations, read_pairs, read_texts
from harness.judge.tokenized import key_of_tokens
from harness.judge.training import IGNORED
from harness.judge.whole import padding_of

LONGEST: Final = 512
"""The most tokens of a pair where the settings say nothing."""

BLOCK: Final = 128
"""The tokens of a block of texts where the settings say nothing."""

QUANTILE: Final = 0.99

FEWEST: Final = 2
"""The fewest tokens of a sequence: one, and the one that it predicts."""


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """Token sequences, int32 ``(n, longest)``, padded right; predicted are the tokens from ``starts`` to ``lengths``.

    ``parts`` has the place of each in `PARTS`. The share ``cut`` of the pairs had more than ``limit`` tokens. Blocks of
    texts, for which ``paired`` is false, are in the order of the texts and have no padding.
    """

    tokens: Tensor
    starts: Tensor
    lengths: Tensor
    parts: Tensor
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
        parts=made["parts"],
        cut=float(made["cut"]),
        limit=int(made["limit"]),
        paired=bool(made["paired"]),
    )


def sequences_key(path: str, settings: CausalSettings) -> str:
    """Return the key of all that determines the token sequences of a file."""
    columns: Json = [settings.prompt, settings.completion, settings.messages, settings.text]
    return key_of_tokens(__name__, settings.model, path, columns=columns, max_length=settings.max_length)


def passages_of(path: Path, settings: CausalSettings) -> Pairs | Texts:
    """Return the pairs or the texts of data: by the columns of the settings, which the data alone have, or guessed.

    Conversations are pairs that the chat template of the model has written.
    """
    own = str(path) == settings.data
    named = {role: getattr(settings, role) if own else "" for role in ("prompt", "completion", "messages", "text")}
    kind = next((kind for kind in kinds_of(path, named) if kind in ("pairs", "messages", "texts")), "texts")
    if kind == "pairs":
        return read_pairs(path, prompt=named["prompt"], completion=named["completion"])
    if kind == "messages":
        return read_conversations(path, ChatTemplate(Path(settings.model)), messages=named["messages"])
    return read_texts(path, text=named["text"])


def _made(path: Path, settings: CausalSettings) -> dict[str, Tensor]:
    passages = passages_of(path, settings)
    encoder = Encoder(Path(settings.model))
    if isinstance(passages, Pairs):
        made = _of_pairs(passages, encoder, settings)
    else:
        made = _of_texts(passages, encoder, settings)
    if made["tokens"].numel() and int(made["tokens"].max()) >= encoder.vocabulary:
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
        self.padding: int = padding_of(folder, self._tokenizer)
        if self.limit < FEWEST:
            raise UsageError(f"model {str(folder)!r}: has {self.limit} positions; expected {FEWEST} or more tokens")

    def __call__(self, texts: Sequence[str], *, starts: bool) -> list[list[int]]:
        """Return the tokens of texts without an end; those that ``starts`` is true for begin as the tokenizer says."""
        encoded = self._tokenizer(
            list(texts), padding=False, truncation=False, add_special_tokens=starts, verbose=False
        )["input_ids"]
        return [tokens[:-1] if starts and tokens and tokens[-1] == self.end else tokens for tokens in encoded]

    def plain(self, prompts: Sequence[str], completions: Sequence[str]) -> list[tuple[list[int], list[int]]]:
        """Return the tokens of prompts, which begin as the tokenizer says, and of completions with their end."""
        lasts = [[*tokens, *self.ending] for tokens in self(completions, starts=False)]
        return list(zip(self(prompts, starts=True), lasts, strict=True))

    def rendered(self, prompts: Sequence[str], completions: Sequence[str]) -> list[tuple[list[int], list[int]]]:
        """Return the tokens of prompts and completions in which a chat template has written all special tokens.

        They are those of both as one text, where these begin with the prompt's: a tokenizer may put a blank before
        each text. An end is added where the template has put no special token behind the answer.
        """
        firsts = self(prompts, starts=False)
        wholes = self([f"{prompt}{text}" for prompt, text in zip(prompts, completions, strict=True)], starts=False)
        alone = self(completions, starts=False)
        special = self._special()
        found = []
        for first, whole, last, text in zip(firsts, wholes, alone, completions, strict=True):
            answer = whole[len(first) :] if whole[: len(first)] == first else last
            found.append((first, [*answer, *([] if text.rstrip().endswith(special) else self.ending)]))
        return found

    def _special(self) -> tuple[str, ...]:
        added = [token.content for token in self._tokenizer.added_tokens_decoder.values() if token.special]
        return (*added, *self._tokenizer.all_special_tokens)

    @property
    def ending(self) -> list[int]:
        """The tokens at the end of a text."""
        return [] if self.end is None else [self.end]


def _of_pairs(pairs: Pairs, encoder: Encoder, settings: CausalSettings) -> dict[str, Tensor]:
    """Return each pair as a sequence.

    Of a pair that is too long, the prompt loses its beginning, but for what the tokenizer begins each text with, and
    keeps at least one token; what is then still too long loses its end.
    """
    encoded = (encoder.rendered if pairs.rendered else encoder.plain)(pairs.prompts, pairs.completions)
    whole = torch.tensor([len(first) + len(last) for first, last in encoded])
    limit = min(encoder.limit, LONGEST)
    usual = min(16 * ceil(float(whole.double().quantile(QUANTILE)) / 16), limit)
    longest = min(settings.max_length or usual, rounded_down(encoder.limit))
    rows, starts = [], []
    for first, last in encoded:
        kept = _shortened(first, longest - len(last), encoder.begin)
        rows.append([*kept, *last][:longest])
        starts.append(max(len(kept), 1))
    lengths = torch.tensor([len(row) for row in rows])
    tokens = torch.full((len(rows), -(-int(lengths.max()) // MULTIPLE) * MULTIPLE), encoder.padding, dtype=torch.int32)
    for place, row in zip(tokens, rows, strict=True):
        place[: len(row)] = torch.tensor(row, dtype=torch.int32)
    return {
        "tokens": tokens,
        "starts": torch.tensor(starts, dtype=torch.int32),
        "lengths": lengths.int(),
        "parts": torch.tensor([PARTS.index(part) for part in pairs.parts or [""] * len(rows)], dtype=torch.int8),
        "cut": (whole > longest).double().mean(),
        "limit": torch.tensor(longest),
        "paired": torch.tensor(1),
    }


def _shortened(prompt: list[int], room: int, begin: int | None) -> list[int]:
    """Return the end of a prompt that fits into a room of tokens, after the token that texts begin with."""
    if len(prompt) <= room:
        return prompt
    first = prompt[:1] if prompt[:1] == [begin] else []
    return [*first, *prompt[-max(room - len(first), 1) :]]


def _of_texts(texts: Texts, encoder: Encoder, settings: CausalSettings) -> dict[str, Tensor]:
    """Return all texts, one after the other, in blocks of equal length; what fills no block is left out.

    Several texts are shuffled, always alike, since tables are often sorted. No block has texts of two parts.
    """
    block = min(settings.max_length or BLOCK, encoder.limit)
    order = [*range(len(texts.texts))]
    random.Random(0).shuffle(order)
    encoded = encoder([texts.texts[index] for index in order], starts=True)
    parts = [texts.parts[index] for index in order] if texts.parts else [""] * len(order)
    rows: list[Tensor] = []
    of_rows: list[int] = []
    for number, name in enumerate(PARTS):
        own = [tokens for tokens, part in zip(encoded, parts, strict=True) if part == name]
        stream = [token for tokens in own for token in (*tokens, *encoder.ending)]
        count = len(stream) // block
        rows.append(torch.tensor(stream[: count * block], dtype=torch.int32).view(count, block))
        of_rows += [number] * count
    tokens = torch.cat(rows)
    return {
        "tokens": tokens,
        "starts": torch.ones(len(tokens), dtype=torch.int32),
        "lengths": torch.full((len(tokens),), block, dtype=torch.int32),
        "parts": torch.tensor(of_rows, dtype=torch.int8),
        "cut": torch.tensor(0.0, dtype=torch.float64),
        "limit": torch.tensor(block),
        "paired": torch.tensor(0),
    }


sources_of(__name__)  # at import, so that no case has to wait for it
