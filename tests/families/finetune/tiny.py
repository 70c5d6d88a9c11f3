"""Tiny models of transformers with random weights, their tokenizer, and texts that can be told apart."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedTokenizerFast

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
LETTERS = {
    token: number
    for number, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "\u0120", *sorted(set("".join(WORDS)))])
}
WIDTH = 16
"""The width of the models; of two layers, with two heads."""


def save_tokenizer(folder: Path, **special: str) -> None:
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", **special
    ).save_pretrained(folder)


def save_bytes(folder: Path, **special: str) -> None:
    """Save a tokenizer of single letters, for kinds of models whose tokenizer knows no whole words."""
    tokenizer = Tokenizer(models.BPE(LETTERS, [], unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", **special
    ).save_pretrained(folder)


def save_model(folder: Path, kind: str = "bert", **values: Any) -> Path:
    """Save a model of a kind with random weights, and return its folder."""
    torch.manual_seed(0)
    AutoModel.from_config(configuration(kind, **values)).save_pretrained(folder)
    (save_bytes if kind == "qwen2" else save_tokenizer)(folder)
    return folder


def save_language_model(folder: Path, kind: str = "llama", **values: Any) -> Path:
    """Save a model of a kind with random weights and its own output, and return its folder."""
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(configuration(kind, **values)).save_pretrained(folder)
    (save_bytes if kind == "qwen2" else save_tokenizer)(folder, eos_token="[SEP]")
    return folder


def configuration(kind: str, **values: Any) -> Any:
    sizes = {
        "vocab_size": len(LETTERS) if kind == "qwen2" else len(VOCABULARY),
        "hidden_size": WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 2 * WIDTH,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
    }
    return AutoConfig.for_model(kind, **{**sizes, **values})


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


def save_pairs(path: Path, count: int = 120) -> Path:
    """Save prompts of some words, completed by whether they praise, and return the file."""
    draw = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            praises = number % 2 == 0
            words = [*draw.sample(WORDS[6:], draw.randint(2, 9)), *draw.sample(WORDS[:3] if praises else WORDS[3:6], 2)]
            completion = "good film" if praises else "bad film was"
            file.write(json.dumps({"prompt": f"n{number} {' '.join(words)}", "completion": completion}) + "\n")
    return path


CHAT_WORDS = {word: len(VOCABULARY) + number for number, word in enumerate(["<user>", "<assistant>", "<end>"])}
"""The tokens that `save_chat_tokenizer` has beside the others."""

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<{{ message['role'] }}> {{ message['content'] }} <end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)


def save_chat_tokenizer(folder: Path, template: str = CHAT_TEMPLATE) -> Path:
    """Save a tokenizer with a chat template, which begins and ends plain texts with special tokens, too."""
    tokenizer = Tokenizer(models.WordLevel({**VOCABULARY, **CHAT_WORDS}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    both = [("[CLS]", VOCABULARY["[CLS]"]), ("[SEP]", VOCABULARY["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=both)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        bos_token="[CLS]",
        eos_token="[SEP]",
        extra_special_tokens=[*CHAT_WORDS],
    )
    fast.chat_template = template
    fast.save_pretrained(folder)
    return folder


def save_chat_model(folder: Path, template: str = CHAT_TEMPLATE) -> Path:
    """Save a language model with the tokenizer of `save_chat_tokenizer`, and return its folder."""
    save_language_model(folder, vocab_size=len(VOCABULARY) + len(CHAT_WORDS))
    return save_chat_tokenizer(folder, template)


def save_chats(path: Path, count: int = 60) -> Path:
    """Save conversations of one or two questions with their answers, and return the file."""
    draw = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            turns = []
            for _ in range(1 + number % 2):
                turns.append({"role": "user", "content": " ".join(draw.choices(WORDS[6:], k=6))})
                turns.append({"role": "assistant", "content": " ".join(draw.choices(WORDS[:6], k=3))})
            file.write(json.dumps({"messages": turns}) + "\n")
    return path


def save_plain(path: Path, count: int = 3000) -> Path:
    """Save one text of many words, and return the file."""
    draw = random.Random(0)
    path.write_text(" ".join(draw.choice(WORDS) for _ in range(count)), encoding="utf-8")
    return path


PIXELS = 16
"""The height and the width that vision models read."""

VISION: dict[str, dict[str, Any]] = {
    "vit": {"image_size": PIXELS, "patch_size": 4},
    "convnext": {"hidden_sizes": [8, WIDTH], "depths": [2, 1], "num_stages": 2, "patch_size": 2},
    "swin": {"image_size": PIXELS, "patch_size": 2, "embed_dim": 8, "depths": [2, 1],
             "num_attention_heads": [2, 2], "window_size": 2},
    "clip": {
        "vision_config": {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": 2,
                          "num_attention_heads": 2, "image_size": PIXELS, "patch_size": 4},
        "text_config": {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 9},
        "projection_dim": 8,
    },
}  # fmt: skip
"""Kinds of vision models, each with the values of its configuration that make it tiny."""


def save_vision_model(folder: Path, kind: str = "vit") -> Path:
    """Save a vision model of a kind with random weights and its image processor, and return its folder."""
    torch.manual_seed(0)
    AutoModel.from_config(configuration(kind, **VISION[kind])).save_pretrained(folder)
    processor = {
        "image_processor_type": "CLIPImageProcessor" if kind == "clip" else "ViTImageProcessor",
        **{f"do_{step}": True for step in ("resize", "rescale", "normalize")},
        **({"crop_size": {"height": PIXELS, "width": PIXELS}} if kind == "clip" else {}),
        "size": {"shortest_edge": PIXELS} if kind == "clip" else {"height": PIXELS, "width": PIXELS},
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.5, 0.6, 0.7],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def save_images(folder: Path, count: int = 60) -> Path:
    """Save small images of two classes, which differ in their colour, and return the folder."""
    from PIL import Image

    draw = random.Random(0)
    for number in range(count):
        name, tint = ("blue", (60, 90, 200)) if number % 2 else ("red", (200, 90, 60))
        (folder / name).mkdir(parents=True, exist_ok=True)
        image = Image.new("RGB", (draw.randint(12, 24), draw.randint(12, 24)))
        image.putdata([tuple(min(255, draw.randint(0, 120) + part // 2) for part in tint)
                       for _ in range(image.width * image.height)])  # fmt: skip
        image.save(folder / name / f"{number}.png")
    return folder
