"""Workload ``text-classification``: a user's own model of transformers learns a user's own labelled texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn

from harness.api import WARNING, CaseContext, Json, UsageError
from harness.api.text import source_name
from harness.families.finetune.anatomy import anatomy_of, coverage
from harness.families.finetune.bases import based
from harness.families.finetune.examples import Examples, rounded_down
from harness.families.finetune.pretrained import HEAD, classifier, require_backbone
from harness.families.finetune.problem import TEST_BATCH, Material
from harness.families.finetune.protocol import FinetuneWorkload
from harness.families.finetune.settings import TextSettings
from harness.families.finetune.splits import PARTS, parted, stratified
from harness.judge.base_checks import require_base
from harness.judge.bases import base_of
from harness.judge.cache import load_or_make, sources_of
from harness.judge.pretrained import tokenizer_of
from harness.judge.seeds import generator
from harness.judge.settings import read_settings
from harness.judge.tables import Labelled, read_labelled
from harness.judge.tokenized import key_of_tokens
from harness.judge.training import Batch
from harness.judge.whole import padding_of, positions, require_embedded
from harness.measure.sources import content_digest

LONGEST: Final = 512
"""The most tokens of a text where the settings say nothing."""

QUANTILE: Final = 0.99
TOLD: Final = 0.05
"""The length that holds this share of the texts is taken; a warning tells where more than the other are cut."""

LEAST_COVERAGE: Final = 0.95


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """The tokens of all texts, int32 ``(n, longest)``, padded right; the share ``cut`` had more than ``limit``.

    ``parts`` has the place of each text's own part in `PARTS`.
    """

    tokens: Tensor
    lengths: Tensor
    labels: Tensor
    parts: Tensor
    cut: float
    limit: int


class TextClassification(FinetuneWorkload):
    """The protocol on a user's model and texts: a head of its own on the mean or the last of the tokens' states."""

    def check_settings(self, settings: Mapping[str, Json]) -> None:
        """Raise UsageError for settings that are out of range, and for a model or data that cannot be used."""
        read = read_settings(TextSettings, settings)
        if not read.model or not read.data:
            raise UsageError("text-classification runs on a model and data of one's own: add --model and --data")
        require_backbone(Path(read.model))
        require_base(read.base)
        _texts(read)

    def prepare(self, context: CaseContext) -> None:
        """Tokenise the texts if the cache lacks their tokens."""
        _tokens(read_settings(TextSettings, context.settings), context.cache)

    def material(self, context: CaseContext) -> Material:
        """Return the model and the texts, divided with equal shares of each class: as the data say, or by the seed."""
        settings = read_settings(TextSettings, context.settings)
        tokens = _tokens(settings, context.cache)
        classes = int(tokens.labels.max()) + 1
        base = base_of(settings.base)
        model = classifier(Path(settings.model), classes, base.dtype).to(context.device)
        places = torch.arange(tokens.tokens.shape[1])
        mask = (places < tokens.lengths.unsqueeze(1)).long()
        inputs = {"input_ids": tokens.tokens.long(), "attention_mask": mask}
        examples = Examples(
            inputs={name: value.to(context.device) for name, value in inputs.items()},
            labels=tokens.labels.long().to(context.device),
            lengths=tokens.lengths.long(),
        )
        parts = divided(tokens.labels, tokens.parts, settings, generator(context.seed, "split"))
        train, validation, test = (examples.at(indices) for indices in parts)
        shown = train.at(torch.arange(2)).batch()
        anatomy = anatomy_of(model, (HEAD,), lambda probed: self.forward(probed, shown))
        covered = coverage(model, anatomy)
        of_base = based(model, anatomy.linears, base)
        return Material(
            model=model,
            anatomy=anatomy,
            train=train,
            validation=validation,
            test=test,
            classes=classes,
            settings=settings,
            notes=[
                *_notes(settings, tokens, covered),
                *_of_split(tokens.parts),
                f"{len(train)} texts to train on, {len(validation)} to choose by, {len(test)} to test on",
                f"the head reads {model.pooling.read} of a text",
                *of_base,
            ],
            shown=(settings.validation_examples + 1) // 2,
            pretrained="backbone",
            test_batch=settings.batch_size if context.device == "cpu" else TEST_BATCH,
            base=base,
        )

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the logits ``(batch, classes)`` of a batch."""
        logits: Tensor = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        return logits


def divided(labels: Tensor, parts: Tensor, settings: TextSettings, draw: torch.Generator) -> list[Tensor]:
    """Return the indices of the texts to train on, to choose the rate by and to test on.

    What the data's own split names is kept, and ``draw`` chooses among it; without one it divides all texts. Few texts
    are shared out in about the same proportions.
    """
    wanted = {
        "train": settings.train_examples,
        "validation": settings.validation_examples,
        "test": settings.test_examples,
    }
    return parted(
        parts, wanted, lambda members, counts: [members[own] for own in stratified(labels[members], counts, draw)]
    )


def _of_split(parts: Tensor) -> list[str]:
    counts = [(name, int((parts == place).sum())) for place, name in enumerate(PARTS) if name]
    named = ", ".join(f"{count} in {name}" for name, count in counts if count)
    return [f"split of the data: {named}"] if parts.any() else []


def _texts(settings: TextSettings) -> Labelled:
    return read_labelled(Path(settings.data), text=settings.text, label=settings.label)


def _tokens(settings: TextSettings, cache: Path) -> Tokens:
    """Return the tokens of all texts, from the cache or made now."""
    columns: Json = [settings.text, settings.label]
    key = key_of_tokens(__name__, settings.model, settings.data, columns=columns, max_length=settings.max_length)
    made = load_or_make(cache, f"tokens-{key}", lambda: _tokenised(settings))
    return Tokens(
        tokens=made["tokens"],
        lengths=made["lengths"],
        labels=made["labels"],
        parts=made["parts"],
        cut=float(made["cut"]),
        limit=int(made["limit"]),
    )


def _tokenised(settings: TextSettings) -> dict[str, Tensor]:
    texts, folder = _texts(settings), Path(settings.model)
    tokenizer = tokenizer_of(folder)
    encoded = tokenizer(list(texts.texts), padding=False, truncation=False, verbose=False)["input_ids"]
    require_embedded(folder, texts.texts, encoded)
    lengths = torch.tensor([len(tokens) for tokens in encoded])
    most = tokenizer.model_max_length
    limit = rounded_down(min(positions(folder) or most, most))
    usual = min(16 * ceil(float(lengths.double().quantile(QUANTILE)) / 16), LONGEST)
    longest = min(settings.max_length or usual, limit)
    cut = float((lengths > longest).double().mean())
    encoded = tokenizer(list(texts.texts), padding=False, truncation=True, max_length=longest)["input_ids"]
    lengths = torch.tensor([len(tokens) for tokens in encoded])
    width = -(-int(lengths.max()) // 8) * 8
    tokens = torch.full((len(encoded), width), padding_of(folder, tokenizer), dtype=torch.int32)
    for row, values in zip(tokens, encoded, strict=True):
        row[: len(values)] = torch.tensor(values, dtype=torch.int32)
    labels = torch.tensor(texts.labels, dtype=torch.int32)
    parts = [PARTS.index(part) for part in texts.parts or [""] * len(labels)]
    return {
        "tokens": tokens,
        "lengths": lengths.int(),
        "labels": labels,
        "parts": torch.tensor(parts, dtype=torch.int8),
        "cut": torch.tensor(cut, dtype=torch.float64),
        "limit": torch.tensor(longest),
    }


def _notes(settings: TextSettings, tokens: Tokens, covered: float) -> list[str]:
    notes = [
        f"model: {source_name(settings.model)}, SHA-256 {content_digest(Path(settings.model))}",
        f"data: {source_name(settings.data)}, {len(tokens.labels)} different texts, "
        f"SHA-256 {content_digest(Path(settings.data))}",
        f"{100 * covered:.1f} % of the weights in the model's layers are in linear layers that may be adapted",
        f"{100 * tokens.cut:.1f} % of the texts are longer than {tokens.limit} tokens, and cut",
    ]
    if covered < LEAST_COVERAGE:
        notes[2] = f"{WARNING}only {notes[2]}"
    if tokens.cut > TOLD:
        notes[3] = f"{WARNING}{notes[3]}"
    return notes


sources_of(__name__)  # at import, so that no case has to wait for it

if TYPE_CHECKING:  # mypy compares every method with the protocol's
    from harness.api import CheckingWorkload, EstimatingWorkload

    _FULFILS: tuple[type[CheckingWorkload], ...] = (TextClassification,)
    _ESTIMATES: tuple[type[EstimatingWorkload], ...] = (TextClassification,)
