"""Users' own models of transformers, from folders, as classifiers of texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES
from transformers.utils import logging

from harness.api import UsageError
from harness.judge.bases import computing
from harness.judge.pretrained import configured, require_model, with_linears
from harness.judge.whole import WEIGHTS, require_finite, require_found, require_whole

HEAD: Final = "head"

POOLER: Final = ("pooler.",)
"""What a backbone may lack, as it is not used."""


@dataclass(frozen=True, kw_only=True)
class Pooling:
    """How a sequence becomes one vector: ``mean`` of its tokens for encoders, the ``last`` token for decoders."""

    name: str

    @property
    def read(self) -> str:
        """What a head reads of a text, in words."""
        return "the state of the last token" if self.name == "last" else "the mean of the states of the tokens"

    def __call__(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return ``(batch, width)`` of hidden states ``(batch, length, width)`` and a mask ``(batch, length)``."""
        if self.name == "last":
            return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(1) - 1]
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weights).sum(1) / weights.sum(1)


class TextClassifier(nn.Module):
    """A pretrained backbone, a pooling and a linear head in float32, which the judge initialises.

    ``dtype`` is that of the backbone's products.
    """

    def __init__(self, backbone: nn.Module, classes: int, pooling: Pooling, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.dtype = dtype
        self.backbone = backbone
        self.pooling = pooling
        self.head = nn.Linear(backbone.config.hidden_size, classes)  # type: ignore[union-attr, arg-type]

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the logits ``(batch, classes)`` of tokens, int64 ``(batch, length)``, and their mask."""
        with computing(self.dtype, input_ids.device.type):
            hidden = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        logits: Tensor = self.head(self.pooling(hidden.float(), attention_mask))
        return logits


def classifier(folder: Path, classes: int, dtype: torch.dtype = torch.float32) -> TextClassifier:
    """Return a model's backbone in a dtype with a head of its own, in evaluation mode."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    config = configured(folder)
    values = {"config": config, "dtype": dtype, "output_loading_info": True, **WEIGHTS}
    try:
        backbone, found = AutoModel.from_pretrained(folder, add_pooling_layer=False, **values)
    except TypeError:  # most models have no pooling layer to leave out
        backbone, found = AutoModel.from_pretrained(folder, **values)
    require_found(folder, backbone, found, POOLER)
    require_finite(folder, backbone)
    return TextClassifier(with_linears(backbone), classes, pooling_of(config), dtype).eval()


def language_model(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """Return a language model in a dtype with its own output, in evaluation mode, each dropout at 0."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model, found = AutoModelForCausalLM.from_pretrained(
        folder, config=configured(folder), dtype=dtype, output_loading_info=True, **WEIGHTS
    )
    require_found(folder, model, found)
    require_finite(folder, model)
    return with_linears(model).eval()


def require_backbone(folder: Path) -> None:
    """Raise UsageError unless a folder holds a whole model, a pooling layer aside, with its tokenizer."""
    require_model(folder)
    require_whole(AutoModel, folder, POOLER)


def require_language_model(folder: Path) -> None:
    """Raise UsageError unless a folder holds a model that predicts each token from those before it."""
    require_model(folder)
    config = configured(folder)
    names = config.architectures or ["no architectures"]
    if not _is_decoder(config) or not {*names} & {*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()}:
        raise UsageError(
            f"model {str(folder)!r}: is {names[0]}; expected a language model, such as LlamaForCausalLM, saved with "
            "its own output"
        )
    require_whole(AutoModelForCausalLM, folder)


def pooling_of(config: Any) -> Pooling:
    """Return how the sequences of a model are pooled, by whether it is known as a decoder only."""
    return Pooling(name="last" if _is_decoder(config) else "mean")


def _is_decoder(config: Any) -> bool:
    kind = config.model_type
    return kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
