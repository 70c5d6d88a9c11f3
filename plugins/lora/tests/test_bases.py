"""Every technique on bases of fewer bits: it works, by the judge's own checks, or says why not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import harness_lora
import pytest
import torch

from harness.api import CaseContext, Incorrect, NotApplicable, resolve
from harness.families.finetune.contract import FinetuneTechnique
from harness.families.finetune.protocol import FinetuneWorkload
from harness.families.finetune.workloads.causal_lm import CausalLm
from harness.families.finetune.workloads.image_classification import ImageClassification
from harness.families.finetune.workloads.text_classification import TextClassification
from harness.judge.bases import PackedLinear, packed_layers
from harness.measure.memory import tensor_peaks
from tests.declared import specs
from tests.families.finetune.tiny import (
    save_images,
    save_language_model,
    save_model,
    save_pairs,
    save_texts,
    save_vision_model,
)

pytest.importorskip("harness_nf4")

NF4 = "harness_nf4.bases"
BASES = {
    "bfloat16": "bfloat16",
    "nf4": f"{NF4}:nf4",
    "nf4-double": f"{NF4}:nf4_double",
    "bitsandbytes-nf4": f"{NF4}:bitsandbytes_nf4",
    "bitsandbytes-nf4-double": f"{NF4}:bitsandbytes_nf4_double",
}
USUAL = ("full", "ia3", "lora", "pissa")
TECHNIQUES = {technique.id: technique for technique in harness_lora.register_techniques()}
WORKLOADS: dict[str, type[FinetuneWorkload]] = {
    "bert": TextClassification,
    "llama": TextClassification,
    "language": CausalLm,
    "vit": ImageClassification,
}
TASKS = {TextClassification: "text-classification", CausalLm: "causal-lm", ImageClassification: "image-classification"}

Case = Callable[[str, str], CaseContext]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Return the context of a case on a tiny model of a kind, on a base."""
    folder = tmp_path_factory.mktemp("models")
    saved: dict[str, tuple[Path, Path]] = {}

    def save(kind: str) -> tuple[Path, Path]:
        if kind == "language":
            return save_language_model(folder / kind), save_pairs(folder / "pairs.jsonl")
        if kind == "vit":
            pytest.importorskip("PIL")
            return save_vision_model(folder / kind), save_images(folder / "images")
        return save_model(folder / kind, kind), save_texts(folder / "texts.csv")

    def make(kind: str, base: str) -> CaseContext:
        if kind not in saved:
            saved[kind] = save(kind)
        model, data = saved[kind]
        spec = specs("finetune")[TASKS[WORKLOADS[kind]]]
        source = {"model": str(model), "data": str(data), "base": BASES.get(base, base)}
        sizes = {"train_examples": 24, "validation_examples": 12, "batch_size": 4, "steps": 4}
        return CaseContext(
            seed=0,
            device="cpu",
            settings={**spec.settings, **spec.small, **source, **sizes},
            cache=folder / "cache",
            phase=lambda _: nullcontext(),
        )

    return make


def built(name: str) -> FinetuneTechnique:
    technique: FinetuneTechnique = resolve(TECHNIQUES[name].target)(**TECHNIQUES[name].params)
    return technique


def require_as_expected(name: str, kind: str, context: CaseContext) -> None:
    """Raise unless the judge finds nothing wrong, or the technique says what it has to say."""
    without = {("bitfit", "llama"): "no biases", ("bitfit", "language"): "no biases"}
    without[("head", "language")] = "nothing trains"
    if expected := without.get((name, kind)):
        with pytest.raises(NotApplicable, match=expected):
            WORKLOADS[kind]().check(built(name), context)
    else:
        WORKLOADS[kind]().check(built(name), context)


@pytest.mark.parametrize(
    ("kind", "base"),
    [("bert", "bfloat16"), ("llama", "bfloat16"), ("llama", "nf4"), ("bert", "bitsandbytes-nf4-double")],
)
def test_techniques_work_on_bases_of_fewer_bits(kind: str, base: str, case: Case) -> None:
    require_base(base)
    for name in USUAL:
        require_as_expected(name, kind, case(kind, base))


@pytest.mark.parametrize("kind", ["language", "vit"])
def test_bases_stand_under_language_and_vision_models_too(kind: str, case: Case) -> None:
    for base in ("bfloat16", "nf4"):
        for name in ("full", "lora"):
            require_as_expected(name, kind, case(kind, base))


@pytest.mark.exhaustive
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("kind", WORKLOADS)
def test_all_techniques_work_on_bases_of_fewer_bits(kind: str, base: str, case: Case) -> None:
    require_base(base)
    for name in TECHNIQUES:
        require_as_expected(name, kind, case(kind, base))


def require_base(name: str) -> None:
    if name.startswith("bitsandbytes") and find_spec("bitsandbytes") is None:
        pytest.skip("bitsandbytes is not installed")


@pytest.mark.parametrize("base", ["bfloat16", "nf4"])
@pytest.mark.parametrize("name", ["full", "lora"])
def test_all_that_trains_is_in_float32(name: str, base: str, case: Case) -> None:
    _, adapted = TextClassification()._adapt(built(name), case("bert", base))
    trained = [parameter for parameter in adapted.model.parameters() if parameter.requires_grad]
    assert {parameter.dtype for parameter in trained} == {torch.float32}


def test_every_linear_layer_of_a_packed_base_is_packed_but_for_full_fine_tuning(case: Case) -> None:
    problem = TextClassification()._problem(case("bert", "nf4"))
    assert set(problem.task.packed) == set(problem.task.linears)
    assert packed_layers(problem.model).keys() == set(problem.task.linears)
    unpacked = built("full").adapt(problem.model, problem.task)
    assert not packed_layers(unpacked)


@pytest.mark.parametrize("base", ["bfloat16", "nf4"])
def test_the_memory_of_a_base_is_seen(base: str, case: Case, tmp_path: Path) -> None:
    """Weights that other threads convert while they load are no tensors for a profiler."""
    context = case("bert", base)
    large = save_model(tmp_path / "large", "bert", vocab_size=20_000)
    context = replace(context, settings={**context.settings, "model": str(large)})
    peaks = tensor_peaks(lambda: TextClassification().open(built("lora"), context), lambda _: nullcontext())
    weights = 20_000 * 16 * (2 if base == "bfloat16" else 4)
    assert weights < peaks["infer_tensor_peak"] < 1.5 * weights


def test_full_fine_tuning_begins_with_the_unpacked_weights(case: Case) -> None:
    context = case("bert", "nf4")
    weights = {
        name: layer.weight for name, layer in packed_layers(TextClassification()._problem(context).model).items()
    }
    _, adapted = TextClassification()._adapt(built("full"), context)
    assert all(torch.equal(adapted.model.get_submodule(name).weight, weight) for name, weight in weights.items())


@pytest.mark.parametrize("name", ["lora", "pissa", "svfit"])
def test_an_adapter_stays_beside_packed_weights_when_merged(name: str, case: Case) -> None:
    problem, adapted = TextClassification()._adapt(built(name), case("bert", "nf4"))
    merged = built(name).merge(adapted.model)
    inside = [module for module in merged.modules() if isinstance(module, PackedLinear)]
    assert len(inside) == len(problem.task.linears)
    assert not {*map(id, inside)} & {id(merged.get_submodule(name)) for name in problem.task.linears}


def test_the_report_says_what_a_base_means(case: Case) -> None:
    notes = " ".join(TextClassification().material(case("bert", "nf4")).notes)
    assert "linear layers are packed" in notes
    assert "inference is measured with them" in notes
    assert "in bfloat16" in " ".join(TextClassification().material(case("bert", "bfloat16")).notes)


def test_a_merge_that_is_off_by_more_than_rounding_is_caught_in_bfloat16(case: Case) -> None:
    class Careless(type(built("lora"))):  # type: ignore[misc]  # a class that a function returns
        def merge(self, model: torch.nn.Module) -> torch.nn.Module:
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.data.mul_(-1)
            return super().merge(model)

    technique: Any = Careless(rank=4, alpha=32.0)
    context = case("bert", "bfloat16")
    context = replace(context, settings={**context.settings, "lr": 0.1})
    with pytest.raises(Incorrect, match="merged model differs"):
        TextClassification().check(technique, context)
