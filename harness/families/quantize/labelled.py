"""A user's labelled texts as tokens and as the classes of a trained classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from harness.api import Json, UsageError
from harness.families.quantize.passages import held_out
from harness.families.quantize.settings import ClassifierSettings
from harness.judge.cache import load_or_make, sources_of
from harness.judge.pretrained import configured, tokenizer_of
from harness.judge.tables import read_labelled
from harness.judge.tokenized import key_of_tokens
from harness.judge.training import Batch
from harness.judge.whole import padding_of, positions, require_embedded

SINGLE: Final = "single_label_classification"
"""What transformers calls the problem of a classifier whose outputs are classes that exclude each other."""


@dataclass(frozen=True, kw_only=True)
class Sentences:
    """Texts: int64 ``tokens`` ``(n, longest)``, padded right, their ``lengths``, and ``labels``, numbers of classes.

    ``cut`` is the share of the data's texts that were longer than the settings or the model take.
    """

    tokens: Tensor
    lengths: Tensor
    labels: Tensor
    cut: float

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, indices: Tensor) -> Sentences:
        """Return some of the texts."""
        return replace(self, tokens=self.tokens[indices], lengths=self.lengths[indices], labels=self.labels[indices])

    def batch(self, device: str) -> Batch:
        """Return the inputs of a model, cut to the longest text."""
        longest = int(self.lengths.max())
        mask = torch.arange(longest) < self.lengths.unsqueeze(1)
        return {"input_ids": self.tokens[:, :longest].to(device), "attention_mask": mask.long().to(device)}


def sentences(settings: ClassifierSettings, cache: Path) -> Sentences:
    """Return the tokens and labels of the data, from the cache or made now."""
    columns: Json = [settings.text, settings.label]
    key = key_of_tokens(__name__, settings.model, settings.data, columns=columns, max_length=settings.max_length)
    made = load_or_make(cache, f"sentences-{key}", lambda: _tokenised(settings))
    tokens, lengths, labels = (made[name].long() for name in ("tokens", "lengths", "labels"))
    return Sentences(tokens=tokens, lengths=lengths, labels=labels, cut=float(made["cut"]))


def texts_of(settings: ClassifierSettings) -> tuple[Sequence[str], Sequence[int]]:
    """Return the held-out texts, and the class that each label is in the model.

    Raises UsageError for data that cannot be read, for a label that the model does not know, and for a model whose
    outputs are not the classes of which each text has one: the largest output would be taken for its answer.
    """
    config = configured(Path(settings.model))
    if (problem := getattr(config, "problem_type", None)) not in (None, SINGLE):
        raise UsageError(
            f"model {settings.model!r}: has the problem_type {problem!r} in its config.json; expected a classifier of "
            f"one class for each text, {SINGLE!r}"
        )
    read = read_labelled(Path(settings.data), text=settings.text, label=settings.label, learned=False)
    numbers = class_numbers(read.classes, config.id2label, settings)
    pairs = list(zip(read.texts, [numbers[label] for label in read.labels], strict=True))
    held = held_out(pairs, read.parts)
    return [text for text, _ in held], [label for _, label in held]


def class_numbers(classes: Sequence[str], names: Mapping[int, str], settings: ClassifierSettings) -> list[int]:
    """Return the number that each class of the data has in the model, by its name or as a number.

    ``names`` are those of the model's ``id2label``; capitals do not matter. All classes are names, or all are numbers:
    a name may be the number of another class. Raises UsageError for an unknown class.
    """
    known = {str(name).casefold(): int(number) for number, name in names.items()}
    numbers = {str(number): int(number) for number in names}
    if {*classes} <= {*numbers} and not {name.casefold() for name in classes} <= {*known}:
        known = numbers
    if unknown := next((name for name in classes if name.casefold() not in known), None):
        told = ", ".join(str(name) for name in names.values())
        raise UsageError(f"{settings.data}: label {unknown!r}: the model knows {told} (id2label in its config.json)")
    return [known[name.casefold()] for name in classes]


def _tokenised(settings: ClassifierSettings) -> dict[str, Tensor]:
    folder = Path(settings.model)
    tokenizer: Any = tokenizer_of(folder)
    texts, labels = texts_of(settings)
    longest = min(settings.max_length, positions(folder) or settings.max_length)
    encoded = tokenizer(list(texts), padding=False, truncation=True, max_length=longest)["input_ids"]
    whole = tokenizer(list(texts), padding=False, truncation=False, verbose=False)["input_ids"]
    require_embedded(folder, texts, encoded)
    lengths = torch.tensor([len(tokens) for tokens in encoded], dtype=torch.int32)
    filler = padding_of(folder, tokenizer)
    ended = next((text for text, own in zip(texts, encoded, strict=True) if own[-1] == filler), None)
    if ended is not None:  # a decoder classifies by the last token that is no filler
        raise UsageError(
            f"model {settings.model!r}: the text {ended[:60]!r} ends in token {filler}, which fills short texts; "
            "give the tokenizer a pad_token of its own"
        )
    tokens = torch.full((len(encoded), int(lengths.max())), filler, dtype=torch.int32)
    for row, values in zip(tokens, encoded, strict=True):
        row[: len(values)] = torch.tensor(values, dtype=torch.int32)
    cut = sum(len(own) > len(taken) for own, taken in zip(whole, encoded, strict=True)) / len(encoded)
    numbers = torch.tensor(labels, dtype=torch.int32)
    return {"tokens": tokens, "lengths": lengths, "labels": numbers, "cut": torch.tensor(cut, dtype=torch.float64)}


sources_of(__name__)  # at import, so that no case has to wait for it
