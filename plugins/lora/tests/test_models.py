"""Every technique on models of transformers of every kind: it works, by the judge's own checks, or says why not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import harness_lora
import harness_lora.lora
import pytest
import torch
from harness_lora.adaptation import seeded
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoImageProcessor, AutoModelForCausalLM, AutoModelForImageClassification

from harness.api import WARNING, CaseContext, NotApplicable, Technique, UsageError, resolve
from harness.families.finetune.anatomy import coverage
from harness.families.finetune.protocol import FinetuneWorkload
from harness.families.finetune.workloads.causal_lm import CausalLm
from harness.families.finetune.workloads.image_classification import ImageClassification
from harness.families.finetune.workloads.text_classification import TextClassification
from tests.declared import specs
from tests.families.finetune.tiny import (
    VISION,
    WIDTH,
    save_images,
    save_language_model,
    save_model,
    save_pairs,
    save_texts,
    save_vision_model,
)

GROUPED = {"num_key_value_heads": 1}
GEMMA = {**GROUPED, "head_dim": WIDTH // 2}
OLD = {"n_embd": WIDTH, "n_layer": 2, "n_head": 2}
SMALL = {"max_position_embeddings": 80}
KINDS: Mapping[str, Mapping[str, Any]] = {
    "bert": {},
    "roberta": SMALL,
    "xlm-roberta": SMALL,
    "electra": {"embedding_size": WIDTH},
    "albert": {"embedding_size": WIDTH // 2},
    "mpnet": SMALL,
    "distilbert": {"dim": WIDTH, "n_layers": 2, "n_heads": 2, "hidden_dim": 2 * WIDTH},
    "deberta-v2": {},
    "modernbert": {"global_attn_every_n_layers": 1},
    "gpt2": {**OLD, "n_positions": 64},
    "gptj": {**OLD, "rotary_dim": 4},
    "gpt_neox": {},
    "opt": {"ffn_dim": 2 * WIDTH, "word_embed_proj_dim": WIDTH},
    "bloom": {"n_layer": 2, "n_head": 2},
    "falcon": {},
    "phi": {},
    "phi3": {},
    "llama": GROUPED,
    "mistral": GROUPED,
    "mixtral": {**GROUPED, "num_local_experts": 4},
    "qwen2": GROUPED,
    "qwen3": GEMMA,
    "gemma": GEMMA,
    "gemma2": GEMMA,
    "gemma3_text": {**GEMMA, "layer_types": ["full_attention", "full_attention"]},
    "stablelm": GROUPED,
    "olmo2": GROUPED,
    "starcoder2": GROUPED,
    "smollm3": GROUPED,
}
"""Kinds of models, each with the values of its configuration that make it tiny."""

FUSED = {"modernbert": 3, "gpt2": 3, "gpt_neox": 3, "bloom": 3, "falcon": 4, "phi3": 3}
"""Kinds that compute queries, keys and values in one, with the heads of all three over those of keys."""
WITHOUT_BIASES = {
    *(
        "modernbert",
        "phi3",
        "llama",
        "mistral",
        "mixtral",
        "qwen3",
        "gemma",
        "gemma2",
        "gemma3_text",
        "olmo2",
        "smollm3",
    ),
}
USUAL = ("bert", "gpt2", "llama", "mixtral")
"""Kinds that are tried with these techniques in fast tests; slow and exhaustive ones try all."""
USUAL_TECHNIQUES = ("full", "bitfit", "ia3", "lora", "houlsby")

TECHNIQUES = {technique.id: technique for technique in harness_lora.register_techniques()}
SPEC = specs("finetune")["text-classification"]

Case = Callable[[str], CaseContext]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Return the context of a case on a tiny model of a kind."""
    folder = tmp_path_factory.mktemp("models")
    texts = save_texts(folder / "texts.csv")

    def make(kind: str) -> CaseContext:
        model = folder / kind
        if not (model / "config.json").exists():
            save_model(model, kind, **KINDS[kind])
        source = {"model": str(model), "data": str(texts), "train_examples": 48, "validation_examples": 24}
        settings = {**SPEC.settings, **SPEC.small, **source, "batch_size": 4}
        return CaseContext(
            seed=0, device="cpu", settings=settings, cache=folder / "cache", phase=lambda _: nullcontext()
        )

    return make


def reason(technique: Technique, context: CaseContext, workload: FinetuneWorkload | None = None) -> str:
    """Return why a technique does not apply to a model; an empty text where the judge finds nothing wrong."""
    try:
        (workload or TextClassification()).check(resolve(technique.target)(**technique.params), context)
    except NotApplicable as error:
        return str(error)
    return ""


def why_not(name: str, kind: str) -> str:
    """Return a part of the reason that a technique has to give on models of a kind."""
    if name == "bitfit" and kind in WITHOUT_BIASES:
        return "no biases"
    return "EVA needs" if name == "eva" and kind == "mixtral" else ""  # an expert has few tokens of a tiny batch


def require_as_expected(name: str, kind: str, case: Case) -> None:
    found, expected = reason(TECHNIQUES[name], case(kind)), why_not(name, kind)
    assert expected in found
    assert bool(found) == bool(expected)


@pytest.mark.parametrize("kind", USUAL)
def test_techniques_work_or_say_why_not(kind: str, case: Case) -> None:
    for name in USUAL_TECHNIQUES:
        require_as_expected(name, kind, case)


@pytest.mark.parametrize("kind", ["gpt2", "falcon"])
def test_ia3_scales_keys_and_values_of_fused_projections_and_leaves_queries(kind: str, case: Case) -> None:
    technique = resolve(TECHNIQUES["ia3"].target)(**TECHNIQUES["ia3"].params)
    problem, adapted = TextClassification()._adapt(technique, case(kind))
    assert len(problem.task.fused) == 2
    for name in problem.task.fused:
        layer = adapted.model.get_submodule(name)
        outputs = layer.base_layer.out_features
        assert len(layer.scales) == 2 * outputs // FUSED[kind]
        layer.scales.data.fill_(3.0)
        assert int((layer.factors() == 1).sum()) == outputs - len(layer.scales)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", KINDS)
def test_all_techniques_work_or_say_why_not(kind: str, case: Case) -> None:
    for name in TECHNIQUES:
        require_as_expected(name, kind, case)


@pytest.mark.parametrize("kind", ["distilbert", "modernbert", "mixtral", "albert"])
def test_what_the_linear_layers_cover_is_told(kind: str, case: Case) -> None:
    material = TextClassification().material(case(kind))
    covered = coverage(material.model, material.anatomy)
    assert covered >= 0.95
    assert not [note for note in material.notes if note.startswith(f"{WARNING}only")]
    assert len(material.anatomy.blocks) == {"mixtral": 10, "albert": 2}.get(kind, 4)


def test_experts_that_are_no_linear_layers_are_told(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.judge.pretrained.unstack_experts", lambda _: None)
    material = TextClassification().material(case("mixtral"))
    assert coverage(material.model, material.anatomy) < 0.95
    assert [note for note in material.notes if note.startswith(f"{WARNING}only")]


def test_a_model_of_two_parts_is_refused(tmp_path: Path) -> None:
    sizes = {"d_model": WIDTH, "d_kv": 8, "d_ff": 2 * WIDTH, "num_layers": 1, "num_heads": 2}
    model = save_model(tmp_path / "t5", "t5", **sizes)
    settings = {**SPEC.settings, "model": str(model), "data": str(save_texts(tmp_path / "texts.csv"))}
    with pytest.raises(UsageError, match="has an encoder and a decoder"):
        TextClassification().check_settings(settings)


LANGUAGE_MODELS: Mapping[str, Mapping[str, Any]] = {
    "llama": {**GROUPED, "tie_word_embeddings": True},
    "gpt2": {**OLD, "n_positions": 64, "tie_word_embeddings": False},
}


@pytest.fixture(scope="module")
def language_case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Return the context of a case on a tiny language model of a kind."""
    folder = tmp_path_factory.mktemp("language")
    pairs = save_pairs(folder / "pairs.jsonl")
    spec = specs("finetune")["causal-lm"]

    def make(kind: str) -> CaseContext:
        model = folder / kind
        if not (model / "config.json").exists():
            save_language_model(model, kind, **{**KINDS[kind], **LANGUAGE_MODELS.get(kind, {})})
        source = {"model": str(model), "data": str(pairs), "train_examples": 48, "validation_examples": 24}
        settings = {**spec.settings, **spec.small, **source, "batch_size": 4}
        return CaseContext(
            seed=0, device="cpu", settings=settings, cache=folder / "cache", phase=lambda _: nullcontext()
        )

    return make


@pytest.mark.parametrize("kind", LANGUAGE_MODELS)
def test_techniques_work_on_language_models_or_say_why_not(kind: str, language_case: Case) -> None:
    require_as_expected_of_language(kind, (*USUAL_TECHNIQUES, "head"), language_case)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", [*KINDS][[*KINDS].index("gpt2") :])
def test_all_techniques_work_on_language_models_or_say_why_not(kind: str, language_case: Case) -> None:
    require_as_expected_of_language(kind, TECHNIQUES, language_case)


def require_as_expected_of_language(kind: str, names: Iterable[str], case: Case) -> None:
    for name in names:
        found = reason(TECHNIQUES[name], case(kind), CausalLm())
        expected = "nothing trains" if name == "head" else why_not(name, kind)
        assert expected in found
        assert bool(found) == bool(expected)


@pytest.mark.parametrize("kind", LANGUAGE_MODELS)
@pytest.mark.parametrize("full", [True, False])
def test_a_language_model_is_trained_as_plain_peft_with_labels_trains_it(
    kind: str, full: bool, language_case: Case
) -> None:
    """The loss of every step, from transformers' own loss on labels that it shifts itself, and its own padding."""
    context = language_case(kind)
    context = replace(context, settings={**context.settings, "steps": 12})
    technique = resolve(TECHNIQUES["full"].target)() if full else harness_lora.lora.lora(rank=4, alpha=4)
    found = CausalLm().evaluate(technique, context).series["train_loss"]
    assert found == pytest.approx(language_by_hand(context, full=full), rel=1e-5)


def language_by_hand(context: CaseContext, *, full: bool) -> list[float]:
    """Return the losses of a language model of transformers, in peft's own wrapper or as it is, trained by torch."""
    problem = CausalLm()._problem(context)
    settings, task, examples = problem.settings, problem.task, problem.train
    model = AutoModelForCausalLM.from_pretrained(context.settings["model"])
    for module in model.modules():  # the harness has every dropout at 0
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    if not full:
        names = [name.rpartition(".")[2] for name in task.linears]
        with seeded(task.generator):
            fan = {"fan_in_fan_out": True} if context.settings["model"].endswith("gpt2") else {}
            config = LoraConfig(r=4, lora_alpha=4, target_modules=[*{*names}], task_type="CAUSAL_LM", **fan)
            model = get_peft_model(model, config)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings.lr, weight_decay=settings.weight_decay)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.lr, total_steps=settings.steps, cycle_momentum=False
    )
    losses = []
    model.train()
    for indices in problem.order:
        mask = examples.inputs["attention_mask"][indices]
        labels = torch.cat([torch.full((len(indices), 1), -100), examples.labels[indices][:, :-1]], 1)
        tokens = examples.inputs["input_ids"][indices]
        loss = model(input_ids=tokens, attention_mask=mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, settings.max_grad_norm)
        optimizer.step()
        cycle.step()
        losses.append(loss.item())
    return losses


@pytest.fixture(scope="module")
def vision_case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Return the context of a case on a tiny vision model of a kind."""
    pytest.importorskip("PIL")
    folder = tmp_path_factory.mktemp("vision")
    images = save_images(folder / "images")
    spec = specs("finetune")["image-classification"]

    def make(kind: str) -> CaseContext:
        source = {"model": str(save_vision_model(folder / kind, kind)), "data": str(images)}
        settings = {**spec.settings, **spec.small, **source, "train_examples": 32, "batch_size": 4}
        return CaseContext(
            seed=0, device="cpu", settings=settings, cache=folder / "cache", phase=lambda _: nullcontext()
        )

    return make


@pytest.mark.parametrize("kind", VISION)
def test_techniques_work_on_vision_models_or_say_why_not(kind: str, vision_case: Case) -> None:
    require_as_expected_of_vision(kind, USUAL_TECHNIQUES, vision_case)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", VISION)
def test_all_techniques_work_on_vision_models_or_say_why_not(kind: str, vision_case: Case) -> None:
    require_as_expected_of_vision(kind, TECHNIQUES, vision_case)


def require_as_expected_of_vision(kind: str, names: Iterable[str], case: Case) -> None:
    context = case(kind)
    for name in names:
        found = reason(TECHNIQUES[name], context, ImageClassification())
        narrow = "EVA looks at 16 components" if name == "eva" and kind in {"convnext", "swin"} else ""
        assert narrow in found
        assert bool(found) == bool(narrow)


@pytest.mark.parametrize("kind", ["vit", "swin"])
def test_a_vision_model_is_trained_as_plain_peft_trains_it_on_its_processor_s_pixels(
    kind: str, vision_case: Case
) -> None:
    """The loss of every step, to the rounding of float32, which pixels are normalised with in another order."""
    context = vision_case(kind)
    context = replace(context, settings={**context.settings, "steps": 12})
    found = ImageClassification().evaluate(harness_lora.lora.lora(rank=4, alpha=4), context).series["train_loss"]
    assert found == pytest.approx(vision_by_hand(context), rel=1e-5)


def vision_by_hand(context: CaseContext) -> list[float]:
    """Return the losses of LoRA on transformers' own classifier, in peft's wrapper, trained by torch alone."""
    problem = ImageClassification()._problem(context)
    settings, task, folder = problem.settings, problem.task, Path(str(context.settings["model"]))
    normalise = AutoImageProcessor.from_pretrained(folder, backend="pil", do_resize=False, do_center_crop=False)
    config = AutoConfig.from_pretrained(folder, num_labels=task.classes)
    config.drop_path_rate = 0.0  # as all that is drawn at random
    model = AutoModelForImageClassification.from_pretrained(folder, config=config)
    model.classifier.load_state_dict(
        {name.rpartition(".")[2]: value.detach().clone() for name, value in problem.head.items()}
    )
    names = [name.removeprefix("model.") for name in task.linears]
    with seeded(task.generator):
        wrapped = get_peft_model(model, LoraConfig(r=4, lora_alpha=4, target_modules=names))
    adapters = [parameter for parameter in wrapped.parameters() if parameter.requires_grad]
    head = list(model.classifier.requires_grad_(True).parameters())
    groups = [{"params": head, "lr": settings.head_lr}, {"params": adapters, "lr": settings.lr}]
    optimizer = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
    rates = [settings.head_lr, settings.lr]
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=settings.steps, cycle_momentum=False)
    losses = []
    wrapped.train()
    for indices in problem.order:
        images = problem.train.inputs["pixel_values"][indices].permute(0, 2, 3, 1).numpy()
        pixels = torch.as_tensor(normalise(list(images), return_tensors="pt")["pixel_values"]).float()
        loss = torch.nn.functional.cross_entropy(wrapped(pixel_values=pixels).logits, problem.train.labels[indices])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*head, *adapters], settings.max_grad_norm)
        optimizer.step()
        cycle.step()
        losses.append(loss.item())
    return losses
