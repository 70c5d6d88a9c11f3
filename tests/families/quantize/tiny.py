"""Tiny models of transformers with random weights and an output of their own."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from harness.api import CaseContext, Json
from tests.declared import specs
from tests.families.finetune.tiny import VOCABULARY, save_texts, save_tokenizer

SPECS = specs("quantize")
LENGTHS: Mapping[str, Json] = {"context": 16, "blocks": 3, "prompt_tokens": 16, "before": 8, "decoded": 3}


def save_language_model(folder: Path, kind: str = "llama", **values: Any) -> Path:
    """Save a language model whose embeddings and head are one weight."""
    return _saved(
        folder,
        kind,
        AutoModelForCausalLM,
        num_key_value_heads=1,
        tie_word_embeddings=True,
        max_position_embeddings=1024,
        **values,
    )


def save_classifier(folder: Path) -> Path:
    """Save a classifier of the labels blame and praise."""
    names = {0: "blame", 1: "praise"}
    return _saved(
        folder, "bert", AutoModelForSequenceClassification, id2label=names, label2id={"blame": 0, "praise": 1}
    )


def context_of(workload: str, model: Path, data: Path, cache: Path, **settings: Json) -> CaseContext:
    """Return the context of a case, small and in float32 unless the settings say otherwise."""
    spec = SPECS[workload]
    lengths = LENGTHS if workload == "quantized-causal-lm" else {}
    given = {"model": str(model), "data": str(data), "activations": "float32", **lengths, **settings}
    return CaseContext(
        seed=0,
        device="cpu",
        settings={**spec.settings, **spec.small, **given},
        cache=cache,
        phase=lambda _: nullcontext(),
    )


def save_source(task: str, folder: Path) -> dict[str, Json]:
    """Save a model and data of a task once, and return the settings that name them."""
    model = folder / "model"
    if not (model / "model.safetensors").exists():
        (save_language_model if task == "causal-lm" else save_classifier)(model)
    return {"model": str(model), "data": str(save_texts(folder / "texts.csv"))}


def _saved(folder: Path, kind: str, of: Any, **values: Any) -> Path:
    sizes = {
        "vocab_size": len(VOCABULARY),
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 128,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    torch.manual_seed(0)
    of.from_config(AutoConfig.for_model(kind, **{**sizes, **values})).save_pretrained(folder)
    save_tokenizer(folder)
    return folder
