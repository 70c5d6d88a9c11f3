"""Tiny models of transformers with random weights, their tokenizer, and texts that can be told apart."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

WORDS = [
    "good",
    "fine",
    "nice",
    "bad",
    "poor",
    "dull",
    "film",
    "plot",
    "actor",
    "scene",
    "the",
    "a",
    "was",
    "with",
    "and",
]
VOCABULARY = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
WIDTH = 16
"""The width of the models; of two layers, with two heads."""


def save_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)


def save_model(folder: Path, kind: str = "bert", **values: Any) -> Path:
    """Save a model of a kind with random weights, and return its folder."""
    sizes = {
        "vocab_size": len(VOCABULARY),
        "hidden_size": WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 2 * WIDTH,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
    }
    config = AutoConfig.for_model(kind, **{**sizes, **values})
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def save_texts(path: Path, count: int = 120) -> Path:
    """Save short texts, labelled by whether they praise, and return the file."""
    draw = random.Random(0)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["text", "label"])
        for number in range(count):
            praises = number % 2 == 0
            telling = draw.sample(WORDS[:3] if praises else WORDS[3:6], 2)
            words = [*draw.sample(WORDS[6:], draw.randint(2, 9)), *telling]
            draw.shuffle(words)
            table.writerow([" ".join([*words, f"n{number}"]), "praise" if praises else "blame"])
    return path
