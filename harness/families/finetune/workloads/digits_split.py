"""Workload ``digits-split``: a vision transformer of the library ``transformers`` that knows 0-4 learns 5-9."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

import transformers
from torch import Tensor, nn
from transformers import ViTConfig, ViTForImageClassification

from harness.families.finetune.anatomy import projections
from harness.families.finetune.digits import DigitsWorkload
from harness.judge.architectures import Anatomy
from harness.judge.training import Batch

_ATTENTION_OUTPUTS: Final = ("o_proj", "attention.output.dense")
"""How releases of transformers name the linear that ends an attention."""


class DigitsSplit(DigitsWorkload):
    """A vision transformer of two layers of width 64 on sixteen patches of 2 x 2 pixels."""

    name = "digits-split"
    config: ClassVar = {
        "image_size": 8,
        "patch_size": 2,
        "num_channels": 1,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "attn_implementation": "sdpa",
    }
    libraries: ClassVar = {"transformers": transformers.__version__}

    def build(self, classes: int) -> nn.Module:
        """Return the transformer, randomly initialised."""
        model: nn.Module = ViTForImageClassification(ViTConfig(**self.config, num_labels=classes))
        return model

    def anatomy(self, model: nn.Module) -> Anatomy:
        """Return the names of the parts: linears but the head; adapters may follow attentions and feed-forwards."""
        linears = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
        del linears["classifier"]
        width = self.config["intermediate_size"]
        feedforward = [name for name, linear in linears.items() if linear.in_features == width]
        return Anatomy(
            linears=list(linears),
            norms=[name for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)],
            blocks=[name for name in linears if name.endswith(_ATTENTION_OUTPUTS) or name in feedforward],
            head=("classifier",),
            feedforward=feedforward,
            **projections(list(linears)),
            rows={},
        )

    def inputs(self, images: Tensor) -> dict[str, Tensor]:
        """Return the pixels with one channel, float32 ``(n, 1, 8, 8)``."""
        return {"pixel_values": images.unsqueeze(1)}

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the logits ``(batch, classes)`` of a batch."""
        logits: Tensor = model(pixel_values=batch["pixel_values"]).logits
        return logits


if TYPE_CHECKING:  # mypy compares every method with the protocol's
    from harness.api import CheckingWorkload, StackingWorkload

    _FULFILS: tuple[type[CheckingWorkload], ...] = (DigitsSplit,)
    _STACKS: tuple[type[StackingWorkload], ...] = (DigitsSplit,)
