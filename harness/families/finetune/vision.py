"""Users' own vision models of transformers, from folders, as classifiers of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoImageProcessor, AutoModelForImageClassification
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES
from transformers.utils import logging

from harness.api import UsageError
from harness.judge.pretrained import LOCAL, configured, require_loadable, with_linears
from harness.judge.whole import WEIGHTS, require_finite, require_found, require_whole

HEAD = "model.classifier"
"""Where the classes of transformers for images have their classifier."""


class ImageClassifier(nn.Module):
    """A pretrained model whose classifier the judge initialises; it scales the pixels itself."""

    factor: Tensor
    offset: Tensor

    def __init__(self, model: nn.Module, scaling: tuple[Tensor, Tensor]) -> None:
        super().__init__()
        self.model = model
        for name, values in zip(("factor", "offset"), scaling, strict=True):
            self.register_buffer(name, values.view(-1, 1, 1), persistent=False)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Return the logits ``(batch, classes)`` of pixels, uint8 ``(batch, 3, height, width)``."""
        logits: Tensor = self.model(pixel_values=pixel_values * self.factor + self.offset).logits
        return logits


def image_classifier(folder: Path, classes: int, dtype: torch.dtype = torch.float32) -> ImageClassifier:
    """Return a model in a dtype with a new classifier, in evaluation mode. Raises UsageError where weights are missing.

    A classifier that the model has is left out, whatever its classes.
    """
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    config = configured(folder)
    config.num_labels = classes
    model, found = AutoModelForImageClassification.from_pretrained(
        folder, config=config, dtype=dtype, ignore_mismatched_sizes=True, output_loading_info=True, **WEIGHTS
    )
    inside = HEAD.rpartition(".")[2]
    require_found(folder, model, found, (f"{inside}.",))
    require_finite(folder, model)
    if not any(isinstance(module, nn.Linear) for module in getattr(model, inside, nn.Identity()).modules()):
        raise UsageError(f"model {str(folder)!r}: {type(model).__name__} has no linear classifier that can be replaced")
    return ImageClassifier(with_linears(model), scaling_of(folder)).eval()


def fix_unused(model: nn.Module, logits: Tensor) -> list[str]:
    """Turn the parameters that logits do not depend on into buffers, in place, and return their names.

    Some models compute more than their classifier reads, such as the last norm of a CLIP: what gets no gradient cannot
    train, and no technique is to count it. ``logits`` are those of the model with gradients for all parameters.
    """
    named = dict(model.named_parameters())
    gradients = torch.autograd.grad(logits.sum(), list(named.values()), allow_unused=True)
    unused = [name for name, gradient in zip(named, gradients, strict=True) if gradient is None]
    for name in unused:
        owner, _, own = name.rpartition(".")
        module, value = model.get_submodule(owner), named[name].detach()
        delattr(module, own)
        module.register_buffer(own, value)
    return unused


def require_image_model(folder: Path) -> None:
    """Raise UsageError unless a folder holds a model of transformers that can classify images."""

    def load(folder: Path) -> None:
        kind = configured(folder).model_type
        if kind not in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES:
            raise UsageError(f"model {str(folder)!r}: is of the kind {kind}; expected a vision model, such as vit")
        if not any((folder / name).exists() for name in ("preprocessor_config.json", "processor_config.json")):
            raise UsageError(
                f"model {str(folder)!r}: has no preprocessor_config.json; images need the model's own processor, saved "
                "beside it once with processor.save_pretrained(folder)"
            )
        processor_of(folder)

    require_loadable(folder, load)
    require_whole(AutoModelForImageClassification, folder, (f"{HEAD.rpartition('.')[2]}.",))


def processor_of(folder: Path) -> Any:
    """Return a model's own image processor, the one that computes by Pillow, alike on every machine."""
    logging.set_verbosity_error()
    return AutoImageProcessor.from_pretrained(folder, backend="pil", **LOCAL)


def scaling_of(folder: Path) -> tuple[Tensor, Tensor]:
    """Return by what a model's image processor multiplies the pixels of each colour, and what it adds then."""
    processor = processor_of(folder)
    factor = float(processor.rescale_factor) if getattr(processor, "do_rescale", False) else 1.0
    if not getattr(processor, "do_normalize", False):
        return torch.full((3,), factor), torch.zeros(3)
    mean, deviation = (torch.tensor(values) for values in (processor.image_mean, processor.image_std))
    return factor / deviation.expand(3), (-mean / deviation).expand(3)
