"""Reads users' images, a folder for each class, as a model's own processor makes them, once for all cases."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from torch import Tensor

from harness.api import Json, UsageError
from harness.families.finetune.settings import ImageSettings
from harness.families.finetune.splits import PARTS, parted, stratified
from harness.families.finetune.vision import processor_of, scaling_of
from harness.judge.cache import key_of, load_or_make, sources_of
from harness.judge.rows import PARTS as NAMES
from harness.judge.seeds import generator
from harness.judge.tables import FEWEST, IMAGES, MOST_CLASSES
from harness.measure.sources import content_digest

DIFFERS: Final = 1e-4
"""The largest difference of scaled pixels from what the model's processor makes; they are around 1."""


@dataclass(frozen=True, kw_only=True)
class Listed:
    """The files of images, each with the place of its class in ``classes`` and of its own part in `PARTS`."""

    files: Sequence[Path]
    labels: Tensor
    parts: Tensor
    classes: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """Images, uint8 ``(n, 3, height, width)``: decoded, resized and cropped, but not scaled; ``repeated`` left out."""

    pixels: Tensor
    labels: Tensor
    parts: Tensor
    classes: int
    repeated: int


def listed(folder: Path) -> Listed:
    """Return the images of a folder, which has a folder for each class, or such folders for the parts of a split.

    Raises UsageError for fewer than two classes, and for a class with too few images.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: expected a folder with a folder of images for each class")
    inner = sorted(path for path in folder.iterdir() if path.is_dir())
    split = [(path, NAMES[path.name.lower()]) for path in inner if path.name.lower() in NAMES]
    found = [
        (file, of_class.name, PARTS.index(part))
        for within, part in split or [(folder, "")]
        for of_class in sorted(path for path in within.iterdir() if path.is_dir())
        for file in sorted(of_class.iterdir())
        if file.suffix.lower() in IMAGES
    ]
    if other := next((file for file, _, _ in found if not file.is_file()), None):  # a pipe would be waited for
        raise UsageError(f"{other}: cannot be read: expected a file, as its name is that of an image")
    _require_all_listed(folder, {file for file, _, _ in found})
    by_class: dict[str, list[Path]] = {}
    for file, name, _ in found:
        by_class.setdefault(name, []).append(file)
    classes = sorted(by_class)
    _require_classes(folder, by_class)
    learned = {name for _, name, part in found if part == PARTS.index("train")} if split else {*classes}
    if unknown := next((name for name in classes if name not in learned), ""):
        raise UsageError(f"{folder}: class {unknown!r} is not in the part train, and so cannot be learned")
    places = {name: place for place, name in enumerate(classes)}
    return Listed(
        files=[file for file, _, _ in found],
        labels=torch.tensor([places[name] for _, name, _ in found]),
        parts=torch.tensor([part for _, _, part in found]),
        classes=classes,
    )


def _require_all_listed(folder: Path, found: Set[Path]) -> None:
    """Raise UsageError for an image beside the folders of classes or below one: it would be left out."""
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in (Path(place, name) for name in sorted(names) if Path(name).suffix.lower() in IMAGES):
            if file not in found:
                raise UsageError(
                    f"{file}: is in no folder of a class, or of no part: expected CLASS/IMAGE, or train, test and "
                    "validation with such folders; move it, or leave it out"
                )


def _require_classes(folder: Path, by_class: Mapping[str, Sequence[Path]]) -> None:
    """Raise UsageError for too few or too many classes, and for one that has too few different images."""
    if not 2 <= len(by_class) <= MOST_CLASSES:
        raise UsageError(
            f"{folder}: has images of {len(by_class)} classes; expected 2 to {MOST_CLASSES}, each in its own folder"
        )
    for name, files in sorted(by_class.items()):
        if (count := _different(files)) < FEWEST:
            raise UsageError(
                f"{folder}: class {name!r} has {count} different images; expected at least {FEWEST} of each class"
            )


def _different(files: Sequence[Path]) -> int:
    """Return how many of the files differ, counted up to `FEWEST`; only files of one size are read."""
    if len({file.stat().st_size for file in files}) >= FEWEST:
        return FEWEST
    seen: set[str] = set()
    for file in files:
        seen.add(content_digest(file))
        if len(seen) == FEWEST:
            break
    return len(seen)


def divided(labels: Tensor, parts: Tensor, settings: ImageSettings, draw: torch.Generator) -> list[Tensor]:
    """Return the indices of the images to train on, to choose by and to test on, equal shares of each class in each."""
    wanted = {
        "train": settings.train_examples,
        "validation": settings.validation_examples,
        "test": settings.test_examples,
    }
    return parted(
        parts, wanted, lambda members, counts: [members[own] for own in stratified(labels[members], counts, draw)]
    )


def decoded(settings: ImageSettings, cache: Path) -> Decoded:
    """Return the images that any seed may use, from the cache or decoded now."""
    folder = Path(settings.model)
    processor_files = sorted(folder.glob("*processor_config.json"))
    facts: dict[str, Json] = {
        "data": content_digest(Path(settings.data)),
        "processor": [[file.name, content_digest(file)] for file in processor_files],
        "most": [settings.train_examples, settings.validation_examples, settings.test_examples],
        "libraries": {"torch": torch.__version__, "transformers": transformers.__version__, "pillow": _pillow()},
        "sources": sources_of(__name__),
    }
    made = load_or_make(cache, f"images-{key_of(facts)}", lambda: _decoded(settings))
    return Decoded(
        pixels=made["pixels"],
        labels=made["labels"].long(),
        parts=made["parts"],
        classes=int(made["classes"]),
        repeated=int(made["repeated"]),
    )


def require_pillow() -> None:
    """Raise UsageError where the library that decodes images is not installed."""
    if find_spec("PIL") is None:
        raise UsageError("a folder of images needs Pillow: pip install 'technique-harness[images]'")


def _pillow() -> str:
    import PIL

    return str(PIL.__version__)


def _decoded(settings: ImageSettings) -> dict[str, Tensor]:
    """Decode as many images as a seed uses, the same for all seeds, with equal shares of each class; each once."""
    images = listed(Path(settings.data))
    used = torch.cat(divided(images.labels, images.parts, settings, generator(0, "images"))).sort().values.tolist()
    processor = processor_of(Path(settings.model))
    first: dict[str, int] = {}
    kept = []
    for index in used:
        content = images.files[index].read_bytes()
        same = first.setdefault(hashlib.sha256(content).hexdigest(), index)
        if same == index:
            kept.append((index, _pixels(images.files[index], content, processor)))
        elif (images.labels[same], images.parts[same]) != (images.labels[index], images.parts[index]):
            raise UsageError(f"{images.files[index]}: is the same image as {images.files[same]}; leave one of them out")
    sizes = {tuple(pixels.shape) for _, pixels in kept}
    if len(sizes) > 1:
        raise UsageError(
            f"model {settings.model!r}: its processor makes images of different sizes: {sorted(sizes)[:3]}"
        )
    _require_scaling(images.files[kept[0][0]], kept[0][1], settings)
    indices = torch.tensor([index for index, _ in kept])
    return {
        "pixels": torch.stack([pixels for _, pixels in kept]),
        "labels": images.labels[indices].int(),
        "parts": images.parts[indices].to(torch.int8),
        "classes": torch.tensor(len(images.classes)),
        "repeated": torch.tensor(len(used) - len(kept)),
    }


def _pixels(file: Path, content: bytes, processor: Any) -> Tensor:
    """Return an image, uint8 ``(3, height, width)``, upright and in colours, resized and cropped by the processor."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        image = ImageOps.exif_transpose(Image.open(BytesIO(content))).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        cause = "of no format that Pillow knows" if isinstance(error, UnidentifiedImageError) else error
        raise UsageError(f"{file}: cannot be read as an image: {cause}") from error
    made = processor(image, do_rescale=False, do_normalize=False, return_tensors="pt")["pixel_values"][0]
    return torch.as_tensor(made).round().clamp(0, 255).to(torch.uint8)


def _require_scaling(file: Path, pixels: Tensor, settings: ImageSettings) -> None:
    """Raise UsageError where the model's processor does more to an image than what is done here."""
    from PIL import Image, ImageOps

    folder = Path(settings.model)
    image = ImageOps.exif_transpose(Image.open(file)).convert("RGB")
    expected = torch.as_tensor(processor_of(folder)(image, return_tensors="pt")["pixel_values"][0]).float()
    factor, offset = scaling_of(folder)
    found = pixels.float() * factor.view(-1, 1, 1) + offset.view(-1, 1, 1)
    if found.shape != expected.shape or not float((found - expected).abs().max()) <= DIFFERS:
        raise UsageError(
            f"model {settings.model!r}: its image processor does more than resize, crop, rescale and normalise; take "
            "one that does not"
        )


sources_of(__name__)  # at import, so that no case has to wait for it
