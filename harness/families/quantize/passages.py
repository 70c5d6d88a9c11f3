"""A user's texts as one row of tokens, cut into blocks of equal length that a language model predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from harness.api import Json, UsageError
from harness.families.quantize.settings import CausalSettings
from harness.judge.cache import load_or_make, sources_of
from harness.judge.chats import ChatTemplate
from harness.judge.pretrained import tokenizer_of
from harness.judge.tables import kinds_of, read_conversations, read_pairs, read_texts
from harness.judge.tokenized import key_of_tokens
from harness.judge.whole import require_known

FEWEST: Final = 2
"""The fewest blocks of a measurement."""

BETWEEN: Final = "\n\n"
"""What separates texts of a table."""

TOGETHER: Final = 1000
"""Texts that are tokenised at a time."""


@dataclass(frozen=True, kw_only=True)
class Passages:
    """All tokens, int64 ``(n,)``, and the token that every sequence of the model begins with; -1 for none."""

    tokens: Tensor
    first: int

    def blocks(self, length: int) -> int:
        """Return the number of whole blocks of a length, that begin with `first` where there is one."""
        return len(self.tokens) // (length - (self.first >= 0))

    def block(self, number: int, length: int) -> Tensor:
        """Return a block as ``(1, length)``."""
        size = length - (self.first >= 0)
        return self.begun(self.tokens[number * size : (number + 1) * size])

    def begun(self, tokens: Tensor) -> Tensor:
        """Return ``(1, n)`` tokens behind the first token of every sequence, where there is one."""
        first = tokens.new_tensor([self.first] if self.first >= 0 else [])
        return torch.cat([first, tokens]).unsqueeze(0)


def texts_of(settings: CausalSettings) -> Sequence[str]:
    """Return the texts of the data: those of the part test where the data have one, since that is held out.

    A prompt and its completion are one text, and so is a conversation, as the chat template of the model writes it.
    Raises UsageError for data that cannot be read.
    """
    path = Path(settings.data)
    named = {role: getattr(settings, role) for role in ("text", "prompt", "completion", "messages")}
    kind = next((kind for kind in kinds_of(path, named) if kind in ("pairs", "messages", "texts")), "texts")
    if kind != "texts":
        pairs = (
            read_pairs(path, prompt=settings.prompt, completion=settings.completion, learned=False)
            if kind == "pairs"
            else read_conversations(path, ChatTemplate(Path(settings.model)), messages=settings.messages, learned=False)
        )
        texts = [f"{asked}{answered}" for asked, answered in zip(pairs.prompts, pairs.completions, strict=True)]
        return held_out(texts, pairs.parts)
    read = read_texts(path, text=settings.text, learned=False)
    return held_out(read.texts, read.parts)


def held_out(texts: Sequence[Any], parts: Sequence[str]) -> Sequence[Any]:
    """Return the items of the part test; all where there is none."""
    held = [text for text, part in zip(texts, parts, strict=True) if part == "test"] if parts else []
    return held or texts


def passages(settings: CausalSettings, cache: Path) -> Passages:
    """Return the tokens of the data, from the cache or made now."""
    columns: Json = [settings.text, settings.prompt, settings.completion, settings.messages]
    key = key_of_tokens(__name__, settings.model, settings.data, columns=columns)
    made = load_or_make(cache, f"passages-{key}", lambda: _tokenised(settings))
    return Passages(tokens=made["tokens"].long(), first=int(made["first"]))


def require_enough(tokens: Passages, settings: CausalSettings) -> None:
    """Raise UsageError where the data have too few tokens for two blocks or for a prompt."""
    most = max(FEWEST * settings.context, settings.prompt_tokens + 1, settings.before + settings.decoded)
    if len(tokens.tokens) < most:
        raise UsageError(
            f"{settings.data}: has {len(tokens.tokens)} tokens; expected at least {most}: give more text, or a smaller "
            "context, prompt_tokens or before"
        )


def _tokenised(settings: CausalSettings) -> dict[str, Tensor]:
    tokenizer: Any = tokenizer_of(Path(settings.model))
    texts = texts_of(settings)
    alone = tokenizer("a", add_special_tokens=True)["input_ids"]
    begins = alone and tokenizer.bos_token_id is not None and alone[0] == tokenizer.bos_token_id
    if begins:  # each block begins with that token, which a chat template may have written before each conversation
        texts = [text.removeprefix(tokenizer.bos_token) for text in texts]
    joined = [f"{BETWEEN if number else ''}{text}" for number, text in enumerate(texts)]
    tokens: list[int] = []
    for begin in range(0, len(joined), TOGETHER):
        found = tokenizer(joined[begin : begin + TOGETHER], add_special_tokens=False, verbose=False)["input_ids"]
        tokens += [token for of_text in found for token in of_text]
    require_known(Path(settings.model), max(tokens, default=0))
    return {
        "tokens": torch.tensor(tokens, dtype=torch.int32),
        "first": torch.tensor(tokenizer.bos_token_id if begins else -1),
    }


sources_of(__name__)  # at import, so that no case has to wait for it
