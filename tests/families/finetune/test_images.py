"""Images of a user: how they are read and scaled, divided, learned by models of several kinds, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness.api import CaseContext, UsageError
from harness.families.finetune import images as reader
from harness.families.finetune.images import decoded, listed
from harness.families.finetune.settings import ImageSettings
from harness.families.finetune.vision import processor_of
from harness.families.finetune.workloads.image_classification import ImageClassification
from harness.judge.pretrained import configured
from harness.judge.settings import read_settings
from tests.declared import specs
from tests.families.finetune.techniques import Honest, Nothing
from tests.families.finetune.tiny import PIXELS, VISION, save_images, save_model, save_vision_model

pytest.importorskip("PIL")
from PIL import Image

SPEC = specs("finetune")["image-classification"]

Case = Callable[[str], CaseContext]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Return the context of a case on a tiny model of a kind."""
    folder = tmp_path_factory.mktemp("images")
    data = save_images(folder / "images")

    def make(kind: str) -> CaseContext:
        model = folder / kind
        if not (model / "config.json").exists():
            save_vision_model(model, kind)
        source = {"model": str(model), "data": str(data), "train_examples": 32, "validation_examples": 12}
        settings = {**SPEC.settings, **SPEC.small, **source, "batch_size": 4}
        return CaseContext(
            seed=0, device="cpu", settings=settings, cache=folder / "cache", phase=lambda _: nullcontext()
        )

    return make


@pytest.mark.parametrize("kind", VISION)
def test_the_model_sees_what_its_own_processor_makes_of_a_file(kind: str, case: Case) -> None:
    context = case(kind)
    settings = read_settings(ImageSettings, context.settings)
    images, made = listed(Path(settings.data)), decoded(settings, context.cache)
    files = [Image.open(file).convert("RGB") for file in images.files]
    expected = torch.as_tensor(processor_of(Path(settings.model))(files, return_tensors="pt")["pixel_values"])
    model = ImageClassification().material(context).model
    assert len(made.pixels) == len(files)
    assert made.pixels.dtype == torch.uint8
    assert (made.pixels * model.factor + model.offset - expected).abs().max() < 1e-5


@pytest.mark.parametrize("kind", VISION)
def test_models_of_several_kinds_pass_the_checks_and_learn(kind: str, case: Case) -> None:
    workload, context = ImageClassification(), case(kind)
    workload.check(Honest(), context)
    outcome = workload.evaluate(Honest(), context)
    assert outcome == workload.evaluate(Honest(), context)
    assert set(outcome.metrics) == {*SPEC.metrics}
    head = workload.evaluate(Nothing(), context).metrics
    assert head["adapter_parameters"] == 0
    assert head["trainable_parameters"] > 0
    assert any(f"{PIXELS} x {PIXELS} pixels for the model" in note for note in outcome.notes)


@pytest.mark.parametrize(("kind", "ends"), [("vit", 4), ("swin", 6), ("convnext", 3), ("clip", 4)])
def test_each_layer_of_each_stage_ends_its_blocks(kind: str, ends: int, case: Case) -> None:
    """Attention and feed-forward of each layer; what joins two stages of a Swin is adapted, but ends none."""
    anatomy = ImageClassification().material(case(kind)).anatomy
    assert len(anatomy.blocks) == ends
    assert len(anatomy.feedforward) == (ends if kind == "convnext" else ends // 2)
    assert not any("reduction" in name for name in anatomy.blocks)
    assert any("reduction" in name for name in anatomy.linears) == (kind == "swin")


@pytest.mark.parametrize("kind", VISION)
def test_what_no_prediction_depends_on_is_no_parameter(kind: str, case: Case) -> None:
    workload = ImageClassification()
    material = workload.material(case(kind))
    logits = workload.forward(material.model.requires_grad_(True), material.test.batch())
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in material.model.parameters())
    told = [note for note in material.notes if note.startswith("no prediction depends on")]
    unused = "model.vision_model.post_layernorm.weight and 1 more"
    assert told == ([f"no prediction depends on {unused}, which cannot train"] if kind == "clip" else [])


def test_the_classifier_is_the_judges_whatever_the_model_had(case: Case) -> None:
    problems = [ImageClassification()._problem(replace(case("vit"), seed=seed)) for seed in (0, 0, 1)]
    heads = [problem.head["model.classifier.weight"] for problem in problems]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    assert heads[0].shape == (2, 16)


def test_a_split_in_folders_is_kept_and_classes_have_their_shares(case: Case, tmp_path: Path) -> None:
    whole = listed(Path(str(case("vit").settings["data"])))
    for number, file in enumerate(whole.files):
        part = "test" if number % 3 == 0 else "train"
        target = tmp_path / "split" / part / file.parent.name
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    context = case("vit")
    context = replace(context, settings={**context.settings, "data": str(tmp_path / "split")})
    material = ImageClassification().material(context)
    assert [len(part) for part in (material.train, material.validation, material.test)] == [30, 10, 20]
    own = {row.numpy().tobytes() for row in material.test.inputs["pixel_values"]}
    others = {row.numpy().tobytes() for row in material.train.inputs["pixel_values"]}
    assert not own & others
    assert material.train.labels.sum() == 15
    assert any("; their own split is kept" in note for note in material.notes)


def test_a_model_without_its_processor_is_refused_with_what_to_do(case: Case, tmp_path: Path) -> None:
    settings = case("vit").settings
    alone = save_vision_model(tmp_path / "vit")
    (alone / "preprocessor_config.json").unlink()
    with pytest.raises(UsageError, match="images need the model's own processor"):
        ImageClassification().check_settings({**settings, "model": str(alone)})


def test_no_dropout_is_left_in_the_parts_of_a_model(case: Case, tmp_path: Path) -> None:
    """The configuration of a CLIP holds that of its vision model, which has a dropout of its own."""
    folder = tmp_path / "clip"
    shutil.copytree(str(case("clip").settings["model"]), folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["vision_config"]["attention_dropout"] = 0.5
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert configured(folder).vision_config.attention_dropout == 0.0


def test_what_is_no_image_or_says_two_things_is_named(case: Case, tmp_path: Path) -> None:
    data = tmp_path / "images"
    shutil.copytree(str(case("vit").settings["data"]), data)
    context = replace(case("vit"), cache=tmp_path, settings={**case("vit").settings, "data": str(data)})
    shutil.copy(data / "red" / "0.png", data / "red" / "again.png")
    assert any("60 different images" in note for note in ImageClassification().material(context).notes)
    shutil.copy(data / "red" / "0.png", data / "blue" / "again.png")
    with pytest.raises(UsageError, match=r"\.png: is the same image as .*; leave one of them out"):
        ImageClassification().prepare(context)
    (data / "blue" / "again.png").write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"again\.png: cannot be read as an image: of no format that Pillow knows"):
        ImageClassification().prepare(context)


def test_a_processor_that_does_more_is_refused(case: Case, tmp_path: Path) -> None:
    model = save_vision_model(tmp_path / "vit")
    file = model / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "image_processor_type": "ViTImageProcessor"}))
    context = replace(case("vit"), cache=tmp_path, settings={**case("vit").settings, "model": str(model)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "scaling_of", lambda _: (torch.ones(3), torch.zeros(3)))
        with pytest.raises(UsageError, match="does more than resize, crop, rescale and normalise"):
            ImageClassification().prepare(context)


def test_folders_and_models_that_do_not_fit_are_refused(case: Case, tmp_path: Path) -> None:
    settings = case("vit").settings
    save_images(tmp_path / "few", 12)
    with pytest.raises(UsageError, match="class 'blue' has 6 different images; expected at least 8"):
        ImageClassification().check_settings({**settings, "data": str(tmp_path / "few")})
    for number in range(9):
        shutil.copy(tmp_path / "few/blue/1.png", tmp_path / f"few/blue/again{number}.png")
    with pytest.raises(UsageError, match="class 'blue' has 6 different images; expected at least 8"):
        ImageClassification().check_settings({**settings, "data": str(tmp_path / "few")})
    shutil.rmtree(tmp_path / "few" / "blue")
    with pytest.raises(UsageError, match="has images of 1 classes; expected 2 to 100"):
        ImageClassification().check_settings({**settings, "data": str(tmp_path / "few")})
    for number in range(100):
        (tmp_path / f"few/{number}").mkdir()
        (tmp_path / f"few/{number}/a.png").touch()
    with pytest.raises(UsageError, match="has images of 101 classes; expected 2 to 100"):
        ImageClassification().check_settings({**settings, "data": str(tmp_path / "few")})
    with pytest.raises(UsageError, match="is of the kind bert; expected a vision model"):
        ImageClassification().check_settings({**settings, "model": str(save_model(tmp_path / "bert"))})
    with pytest.raises(UsageError, match="add --model and --data"):
        ImageClassification().check_settings(SPEC.settings)


def test_a_class_that_is_never_learned_and_what_is_no_file_are_refused_before_the_first_case(tmp_path: Path) -> None:
    split = tmp_path / "split"
    for part in ("train", "test"):
        save_images(split / part, 32)
    save_images(tmp_path / "other", 32)
    assert listed(split).classes == ["blue", "red"]
    shutil.move(tmp_path / "other/red", split / "test/green")
    with pytest.raises(UsageError, match="class 'green' is not in the part train, and so cannot be learned"):
        listed(split)
    shutil.rmtree(split / "test/green")
    (split / "train/red/z.png").mkdir()
    with pytest.raises(UsageError, match=r"red/z\.png: cannot be read: expected a file"):
        listed(split)
    (split / "train/red/z.png").rmdir()
    for name in ("loose.png", "train/loose.png", "train/red/below/a.png", "holdout/red/a.png"):
        (split / name).parent.mkdir(parents=True, exist_ok=True)
        (split / name).touch()
        with pytest.raises(UsageError, match=r"\.png: is in no folder of a class, or of no part"):
            listed(split)
        (split / name).unlink()
    os.mkfifo(split / "train/red/z.png")
    with pytest.raises(UsageError, match=r"red/z\.png: cannot be read: expected a file"):
        listed(split)


def test_a_missing_library_is_one_line(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"a folder of images needs Pillow: pip install 'technique-harness\[images\]'"):
        ImageClassification().check_settings(case("vit").settings)
