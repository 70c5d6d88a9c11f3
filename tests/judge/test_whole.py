"""Users' own models that do not hold what they say: one line before anything is measured, and never random weights."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForPreTraining, AutoModelForSequenceClassification

from harness.api import UsageError
from harness.families.finetune.pretrained import classifier, require_backbone, require_language_model
from harness.families.finetune.vision import image_classifier, require_image_model
from harness.judge.pretrained import tokenizer_of
from harness.judge.whole import padding_of, positions, require_embedded
from tests.families.finetune.tiny import configuration, save_language_model, save_model, save_vision_model

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("whole") / "bert")


@pytest.fixture
def model(bert: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bert, tmp_path / "bert"))


def configure(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def reweigh(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS, metadata={"format": "pt"})


def halve(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])


def lose_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')


def pickle_weights(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).rename(folder / "other.safetensors")


def move_away(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder.parent / WEIGHTS)


def link_away(folder: Path) -> None:
    move_away(folder)
    (folder / WEIGHTS).symlink_to(folder.parent / WEIGHTS)


def index(folder: Path, named: Any) -> None:
    """Write an index that names a file for all weights, which is moved beside the model's folder."""
    weights = load_file(folder / WEIGHTS)
    move_away(folder)
    save_file({"none": torch.zeros(1)}, folder / "other.safetensors")
    content = {"metadata": {}, "weight_map": dict.fromkeys(weights, named)}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(content))


def add_norm(folder: Path) -> None:
    """Save a model whose layers have a weight that no model of its kind has."""
    reweigh(folder, lambda own: {**own, "encoder.layer.0.attention.self.q_norm.weight": torch.ones(8)})


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a layer is missing": (
        lambda folder: reweigh(folder, lambda own: {name: own[name] for name in own if "layer.1" not in name}),
        "its files lack encoder.layer.1",
    ),
    "more layers than weights": (lambda folder: configure(folder, num_hidden_layers=3), "its files lack encoder.la"),
    "fewer layers than weights": (
        lambda folder: configure(folder, num_hidden_layers=1),
        "its files hold encoder.layer.1.* no place by its config.json",
    ),
    "a norm that the kind of model lacks": (add_norm, "its files hold encoder.layer.0.attention.self.q_norm.weight"),
    "an index of a file above": (lambda folder: index(folder, f"../{WEIGHTS}"), r"names weights '\.\./model"),
    "an index of an absolute path": (
        lambda folder: index(folder, str(folder.parent / WEIGHTS)),
        "expected a .*safetensors in its folder",
    ),
    "an index of no text": (lambda folder: index(folder, 3), "names weights 3; expected"),
    "an index of nothing": (
        lambda folder: (folder / f"{WEIGHTS}.index.json").write_text("[1]"),
        "its model.safetensors.index.json cannot be read",
    ),
    "weights by a link": (link_away, "model.safetensors is a link to"),
    "weights that the configuration names elsewhere": (
        lambda folder: configure(folder, transformers_weights="sub/model.safetensors"),
        "names weights 'sub/model.safetensors'",
    ),
    "a kernel of a hub": (
        lambda folder: configure(folder, attn_implementation="somebody/attention"),
        "names a kernel of a hub, which is not run",
    ),
    "other names": (
        lambda folder: reweigh(folder, lambda own: {f"other.{name}": weight for name, weight in own.items()}),
        "its files lack embeddings",
    ),
    "another width": (lambda folder: configure(folder, hidden_size=32), "has the shape .* by its config.json"),
    "no heads": (lambda folder: configure(folder, num_attention_heads=0), "transformers cannot load it: integer mod"),
    "a type that is none": (lambda folder: configure(folder, hidden_size="big"), "'hidden_size': TypeError"),
    "half a file": (halve, "transformers cannot load it: Error while deserializing"),
    "a header of terabytes": (
        lambda folder: (folder / WEIGHTS).write_bytes(struct.pack("<Q", 2**44)),
        "transformers cannot load it: Error while deserializing",
    ),
    "pickled weights beside others": (pickle_weights, "no file named model.safetensors"),
    "no tokenizer": (lose_tokenizer, "has no tokenizer; expected tokenizer.json or vocab.txt"),
    "a list": (lambda folder: (folder / "config.json").write_text("[]"), "its config.json is none of transformers"),
    "a pipe": (lambda folder: os.mkfifo(folder / "generation.bin"), "'generation.bin' is neither a file nor a folder"),
    "deep": (lambda folder: (folder / "config.json").write_text("[" * 10**5), "its config.json cannot be read"),
    "quantised": (lambda folder: configure(folder, quantization_config={"bits": 4}), "is quantised already"),
    "an adapter": (lambda folder: (folder / "adapter_config.json").write_text("{}"), "has an adapter beside it"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_model_that_is_not_whole_is_one_line(model: Path, fault: str) -> None:
    break_it, message = FAULTS[fault]
    break_it(model)
    with pytest.raises(UsageError, match=message) as caught:
        require_backbone(model)
    (line,) = caught.value.problems
    assert "\n" not in line


def test_links_of_the_cache_of_a_hub_are_followed(model: Path) -> None:
    blobs = model.parent / "blobs"
    blobs.mkdir()
    (model / WEIGHTS).rename(blobs / "1234")
    (model / WEIGHTS).symlink_to(Path("../blobs/1234"))
    require_backbone(model)


@pytest.mark.parametrize("saved", [AutoModel, AutoModelForPreTraining, AutoModelForSequenceClassification])
def test_heads_poolings_and_buffers_may_be_left_out(model: Path, saved: Any) -> None:
    saved.from_config(configuration("bert")).save_pretrained(model)
    layer = "encoder.layer.0.attention" if saved is AutoModel else "bert.encoder.layer.0.attention"
    buffers = {f"{layer}.bias": torch.ones(1, 1, 8, 8), f"{layer}.rotary.inv_freq": torch.ones(4)}
    reweigh(model, lambda own: {**own, **buffers, "embeddings.position_ids": torch.arange(64)})
    require_backbone(model)


def test_layers_without_a_place_are_found_below_a_head_too(model: Path) -> None:
    AutoModelForSequenceClassification.from_config(configuration("bert")).save_pretrained(model)
    configure(model, num_hidden_layers=1)
    with pytest.raises(UsageError, match=r"its files hold bert.encoder.layer.1"):
        require_backbone(model)


def test_what_would_be_drawn_at_random_is_refused_where_it_is_loaded_too(model: Path) -> None:
    configure(model, num_hidden_layers=3)
    with pytest.raises(UsageError, match="its files lack"):
        classifier(model, 2)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(model: Path, value: float) -> None:
    reweigh(model, lambda own: {name: weight * value if "layer.1" in name else weight for name, weight in own.items()})
    with pytest.raises(UsageError, match=r"encoder.layer.1.* has values that are no finite numbers"):
        classifier(model, 2)


def test_a_language_model_is_held_to_the_same(tmp_path: Path) -> None:
    folder = save_language_model(tmp_path / "llama")
    require_language_model(folder)
    configure(folder, vocab_size=500)
    with pytest.raises(UsageError, match=r"has the shape \(19, 16\) in its files, and \(500, 16\) by its config.json"):
        require_language_model(folder)


def test_a_vision_model_may_differ_in_its_classifier_alone(tmp_path: Path) -> None:
    folder = save_vision_model(tmp_path / "vit")
    require_image_model(folder)
    configure(folder, intermediate_size=64)
    for load in (require_image_model, lambda folder: image_classifier(folder, 2)):
        with pytest.raises(UsageError, match=r"by its config.json"):
            load(folder)


def test_tokens_that_cannot_be_embedded_are_refused(model: Path) -> None:
    with pytest.raises(UsageError, match="tokens that the model has no embedding for"):
        require_embedded(model, ["a", "b"], [[1], [1, 19]])
    with pytest.raises(UsageError, match="makes no tokens of the text 'b'"):
        require_embedded(model, ["a", "b"], [[1], []])


def test_padding_is_a_token_that_the_model_has(model: Path) -> None:
    for given, expected in ((-1, 0), (3, 3), (10**6, 0), (None, 0)):
        configure(model, pad_token_id=given)
        assert padding_of(model, tokenizer_of(model)) == expected


def test_positions_after_that_of_the_padding_are_not_counted_twice(tmp_path: Path, bert: Path) -> None:
    assert positions(bert) == 64
    assert positions(save_model(tmp_path / "roberta", "roberta", pad_token_id=1)) == 62
