"""Workload ``image-classification``: a user's own vision model of transformers learns a user's own images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn

from harness.api import WARNING, CaseContext, Json, UsageError
from harness.api.text import source_name
from harness.families.finetune.anatomy import anatomy_of, coverage
from harness.families.finetune.bases import based, computing_as_loaded
from harness.families.finetune.examples import Examples
from harness.families.finetune.images import Decoded, decoded, divided, listed, require_pillow
from harness.families.finetune.problem import Material
from harness.families.finetune.protocol import FinetuneWorkload
from harness.families.finetune.settings import ImageSettings
from harness.families.finetune.vision import HEAD, fix_unused, image_classifier, require_image_model
from harness.judge.base_checks import require_base
from harness.judge.bases import base_of
from harness.judge.seeds import generator
from harness.judge.settings import read_settings
from harness.judge.training import Batch
from harness.measure.sources import content_digest

LEAST_COVERAGE: Final = 0.95

TEST_BATCH: Final = 32
"""The images that are tested at a time."""


class ImageClassification(FinetuneWorkload):
    """The protocol on a user's model and images: a new classifier where the model's own class has one."""

    def check_settings(self, settings: Mapping[str, Json]) -> None:
        """Raise UsageError for settings that are out of range, and for a model or data that cannot be used."""
        read = read_settings(ImageSettings, settings)
        if not read.model or not read.data:
            raise UsageError("image-classification runs on a model and data of one's own: add --model and --data")
        require_pillow()
        require_image_model(Path(read.model))
        require_base(read.base)
        listed(Path(read.data))

    def prepare(self, context: CaseContext) -> None:
        """Decode the images if the cache lacks them."""
        decoded(read_settings(ImageSettings, context.settings), context.cache)

    def material(self, context: CaseContext) -> Material:
        """Return the model and the images, divided by the seed with equal shares of each class."""
        settings = read_settings(ImageSettings, context.settings)
        images = decoded(settings, context.cache)
        base = base_of(settings.base)
        model = image_classifier(Path(settings.model), images.classes, base.dtype).to(context.device)
        examples = Examples(
            inputs={"pixel_values": images.pixels.to(context.device)}, labels=images.labels.to(context.device)
        )
        parts = divided(images.labels, images.parts, settings, generator(context.seed, "split"))
        train, validation, test = (examples.at(indices) for indices in parts)
        shown = train.at(torch.arange(2)).batch()
        unused = fix_unused(model, self.forward(model.requires_grad_(True), shown))
        anatomy = anatomy_of(model, (HEAD,), lambda probed: self.forward(probed, shown))
        notes = _notes(settings, images, coverage(model, anatomy))
        notes += based(model, anatomy.linears, base)
        return Material(
            model=model,
            anatomy=anatomy,
            train=train,
            validation=validation,
            test=test,
            classes=images.classes,
            settings=settings,
            notes=[*notes, *_unused_notes(unused)],
            shown=(len(validation) + 1) // 2,
            test_batch=TEST_BATCH,
            base=base,
        )

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the logits ``(batch, classes)`` of a batch."""
        with computing_as_loaded(model, batch["pixel_values"].device.type):
            logits: Tensor = model(pixel_values=batch["pixel_values"])
        return logits.float()


def _notes(settings: ImageSettings, images: Decoded, covered: float) -> list[str]:
    model, data = Path(settings.model), Path(settings.data)
    height, width = images.pixels.shape[2:]
    notes = [
        f"model: {source_name(settings.model)}, SHA-256 {content_digest(model)}",
        f"data: {source_name(settings.data)}, {len(images.labels)} different images of {images.classes} classes, "
        f"{height} x {width} pixels for the model, SHA-256 {content_digest(data)}",
        f"{100 * covered:.1f} % of the weights in the model's layers are in linear layers that may be adapted",
    ]
    if images.parts.any():
        notes[1] += "; their own split is kept"
    if covered < LEAST_COVERAGE:
        notes[2] = f"{WARNING}only {notes[2]}"
    return notes


def _unused_notes(unused: Sequence[str]) -> list[str]:
    many = f"{unused[0]} and {len(unused) - 1} more" if len(unused) > 1 else "".join(unused)
    return [f"no prediction depends on {many}, which cannot train"] if unused else []


if TYPE_CHECKING:  # mypy compares every method with the protocol's
    from harness.api import CheckingWorkload

    _FULFILS: tuple[type[CheckingWorkload], ...] = (ImageClassification,)
