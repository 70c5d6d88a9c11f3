"""Whole models in few bits: what is packed, what is measured, and what the judge finds of techniques that cheat."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from harness.api import WARNING, CaseContext, Form, Incorrect, NotApplicable, UsageError
from harness.families.quantize.contract import Packed, QuantizedLinear
from harness.families.quantize.exchange import Exchange
from harness.families.quantize.labelled import class_numbers
from harness.families.quantize.passages import Passages, passages
from harness.families.quantize.pretrained import QuantizedModel, dtype_of, loaded, quantized
from harness.families.quantize.schemes import Scheme
from harness.families.quantize.settings import ClassifierSettings
from harness.families.quantize.watching import watched
from harness.families.quantize.workloads.causal_lm import CausalLm, spread
from harness.families.quantize.workloads.text_classification import TextClassification
from harness.host import load_host
from harness.judge.seeds import generator
from harness.source import source_of
from harness.suite import read_suite
from tests.families.finetune.tiny import CHAT_WORDS, VOCABULARY, save_chat_tokenizer, save_model, save_texts
from tests.families.quantize.quantizers import Right
from tests.families.quantize.tiny import context_of, save_classifier, save_language_model


class Float32(Right):
    """Weights as they are."""

    def __init__(self) -> None:
        self.scheme = Scheme(id="float32", kind="cast", bits=32)
        self.script = ""

    def quantize(self, weight: Tensor) -> Packed:
        return Packed(tensors={"weight": weight.clone()}, shape=tuple(weight.shape), dtype=weight.dtype)

    def dequantize(self, packed: Packed) -> Tensor:
        return packed.tensors["weight"].to(packed.dtype, copy=True)

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        return x @ packed.tensors["weight"].T.to(x.dtype)


class KeepsTheWeights(Right):
    """Multiplies with the weights that it was given, which it keeps beside the packed ones."""

    def __init__(self, block: int = 64) -> None:
        super().__init__(block)
        self.kept: dict[int, Tensor] = {}

    def quantize(self, weight: Tensor) -> Packed:
        packed = super().quantize(weight)
        self.kept[packed.tensors["codes"].data_ptr()] = weight.clone()
        return packed

    def linear(self, x: Tensor, packed: Packed) -> Tensor:
        weight = self.kept.get(packed.tensors["codes"].data_ptr())
        return super().linear(x, packed) if weight is None else x @ weight.T


class UnpacksOnce(KeepsTheWeights):
    """Multiplies with values that it unpacks once and keeps by the address of the codes."""

    def quantize(self, weight: Tensor) -> Packed:
        packed = Right.quantize(self, weight)
        self.kept[packed.tensors["codes"].data_ptr()] = self.dequantize(packed)
        return packed


class TakesSquaresOnly(Right):
    def quantize(self, weight: Tensor) -> Packed:
        if weight.shape[0] != weight.shape[1]:
            raise NotApplicable("it takes squares only")
        return super().quantize(weight)


class TakesNone(Right):
    def quantize(self, weight: Tensor) -> Packed:
        raise NotApplicable(f"it takes no {weight.ndim} axes")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_language_model(folder / "llama")
    save_classifier(folder / "bert")
    save_model(folder / "headless")
    save_texts(folder / "texts.csv")
    return folder


@pytest.fixture
def language(folder: Path) -> CaseContext:
    return context_of("quantized-causal-lm", folder / "llama", folder / "texts.csv", folder / "cache")


@pytest.fixture
def classifying(folder: Path) -> CaseContext:
    return context_of("quantized-classifier", folder / "bert", folder / "texts.csv", folder / "cache")


def made(context: CaseContext, technique: Any, kind: Any = AutoModelForCausalLM, **settings: Any) -> QuantizedModel:
    workload = CausalLm() if kind is AutoModelForCausalLM else TextClassification()
    read = replace(workload.read(context.settings), **settings)
    model = loaded(kind, Path(read.model), dtype_of(read, technique), "cpu")
    return quantized(model, technique, read)


def test_every_linear_layer_of_the_repeated_layers_is_packed_and_nothing_else(language, classifying) -> None:
    found = made(language, Right())
    assert len(found.layers) == 2 * 7
    assert isinstance(found.model.lm_head, nn.Linear)
    assert found.share == 100
    found = made(classifying, Right(), AutoModelForSequenceClassification)
    assert len(found.layers) == 2 * 6
    assert isinstance(found.model.classifier, nn.Linear)


def test_the_head_is_packed_where_the_settings_say_so_and_the_embeddings_stay(language) -> None:
    found = made(language, Right(), head="quantized")
    assert isinstance(found.model.lm_head, QuantizedLinear)
    assert len(found.layers) == 2 * 7 + 1
    assert found.share == 100
    assert isinstance(found.model.get_input_embeddings().weight, nn.Parameter)


def test_bytes_are_those_of_codes_scales_and_of_all_the_rest_with_tied_weights_once(language) -> None:
    found = made(language, Right())
    weights = sum(math.prod(layer.packed.shape) for layer in found.layers.values())
    assert found.linear_bytes == weights + 4 * weights // 64
    plain = AutoModelForCausalLM.from_pretrained(language.settings["model"])
    rest = sum(4 * parameter.numel() for parameter in plain.parameters()) - 4 * weights
    buffers = sum(4 * buffer.numel() for buffer in plain.buffers())
    assert rest <= found.model_bytes - found.linear_bytes <= rest + buffers + 4 * 64  # and the technique's levels


def test_layers_that_a_technique_does_not_take_stay_and_are_told(language) -> None:
    found = made(language, TakesSquaresOnly())
    assert 0 < len(found.layers) < 14
    assert found.share < 95
    notes = found.notes()
    assert notes[0].startswith(f"{WARNING}only {found.share:.1f} %")
    assert notes[1] == f"{WARNING}{14 - len(found.layers)} of 14 linear layers stay as they are: it takes squares only"
    with pytest.raises(NotApplicable, match="it takes no 2 axes"):
        made(language, TakesNone())


def test_perplexity_is_that_of_the_dequantised_weights_in_plain_transformers(language) -> None:
    technique = Right()
    workload, settings = CausalLm(), CausalLm().read(language.settings)
    found = workload.evaluate(technique, language).metrics
    plain = AutoModelForCausalLM.from_pretrained(settings.model).eval()
    for name in made(language, technique).layers:
        weight = plain.get_submodule(name).weight
        weight.data = technique.dequantize(technique.quantize(weight.data))
    tokens = passages(settings, language.cache).tokens
    blocks = tokens[: len(tokens) // 16 * 16].view(-1, 16)
    order = torch.tensor(spread(len(blocks), settings.blocks, generator(0, "blocks")))
    with torch.no_grad():
        loss = float(plain(input_ids=blocks[order], labels=blocks[order]).loss)
    assert found["loss"] == pytest.approx(loss, rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(loss), rel=1e-4)


def test_a_model_in_float32_agrees_with_itself_and_one_in_four_bits_differs(classifying) -> None:
    exact = TextClassification().evaluate(Float32(), classifying).metrics
    assert (exact["agreement"], exact["kl"]) == (100, pytest.approx(0, abs=1e-9))
    plain = AutoModelForSequenceClassification.from_pretrained(classifying.settings["model"]).eval()
    chosen = TextClassification()._chosen(classifying)
    with torch.no_grad():
        predicted = plain(**chosen.batch("cpu")).logits.argmax(1)
    assert exact["accuracy"] == pytest.approx(100 * float((predicted == chosen.labels).double().mean()))
    rough = TextClassification().evaluate(Right(), classifying).metrics
    assert rough["kl"] > exact["kl"]


@pytest.mark.parametrize("workload", [CausalLm, TextClassification])
def test_a_technique_that_multiplies_with_the_weights_it_was_given_is_found(workload, request) -> None:
    context = request.getfixturevalue("language" if workload is CausalLm else "classifying")
    with pytest.raises(Incorrect, match=r"layer .*0\..* is off by .* of the product with its dequantised weight"):
        workload().evaluate(KeepsTheWeights(), context)
    workload().evaluate(UnpacksOnce(), context)  # which the bytes of memory tell, and the timed calls


def test_the_bytes_of_memory_have_what_a_technique_keeps(language) -> None:
    honest, keeping = (made(language, technique) for technique in (Right(), UnpacksOnce()))
    weights = sum(math.prod(layer.packed.shape) for layer in honest.layers.values())
    assert keeping.model_bytes - honest.model_bytes == 4 * weights


@pytest.mark.parametrize(
    ("workload", "phase"), [(CausalLm, "prompt"), (CausalLm, "decode"), (TextClassification, "predict")]
)
def test_timed_calls_find_values_that_were_unpacked_before_layers_exchanged_their_weights(
    workload, phase, request
) -> None:
    context = request.getfixturevalue("language" if workload is CausalLm else "classifying")
    for technique, wrong in ((Right(), False), (UnpacksOnce(), True)):
        case = workload().open(technique, context)
        for timed in case.phases.values():
            for _ in range(2):
                if timed.refresh is not None:
                    timed.refresh()
        timed = case.phases[phase]
        assert timed.verify is not None
        result = timed.run()
        if wrong:
            with pytest.raises(Incorrect, match="is off by"):
                timed.verify(result)
        else:
            timed.verify(result)


@pytest.mark.parametrize("phase", ["prompt", "decode"])
def test_logits_of_a_timed_call_that_are_not_the_layers_are_found(language, phase) -> None:
    case = CausalLm().open(Right(), language)
    timed = case.phases[phase]
    if timed.refresh is not None:
        timed.refresh()
    assert timed.verify is not None
    *given, logits = timed.run()
    with pytest.raises(Incorrect, match="the logits of a timed call"):
        timed.verify((*given, logits + 0.1 * logits.abs().max()))


def test_decoding_with_the_cache_gives_the_logits_of_the_whole_text(language) -> None:
    case = CausalLm().open(Right(), language)
    timed = case.phases["decode"]
    assert timed.refresh is not None
    timed.refresh()
    calls = [timed.run() for _ in range(2)]
    assert not torch.equal(calls[0][1], calls[1][1])
    model = made(language, Right()).model
    for prompt, tokens, logits in calls:
        with torch.no_grad():
            whole = model(input_ids=torch.cat([prompt, tokens], 1), use_cache=False).logits[0, prompt.shape[1] :]
        assert torch.allclose(logits, whole, atol=1e-4)


def test_a_model_that_reads_the_weights_of_its_layers_itself_is_told(folder) -> None:
    model = save_language_model(folder / "mamba", "mamba")
    context = context_of("quantized-causal-lm", model, folder / "texts.csv", folder / "cache")
    with pytest.raises(NotApplicable, match=r"uses a linear layer otherwise than by calling it: .* 'weight'"):
        CausalLm().check(Right(), context)


def test_the_rest_of_a_model_is_in_bfloat16_but_for_weights_in_float32(language) -> None:
    settings = replace(CausalLm().read(language.settings), activations="auto")
    assert dtype_of(settings, Right()) == torch.bfloat16
    assert dtype_of(settings, Float32()) == torch.float32
    found = made(language, Right(), activations="bfloat16")
    assert found.model.get_input_embeddings().weight.dtype == torch.bfloat16
    with watched(found.technique, found.layers), torch.no_grad():
        found.model(input_ids=torch.tensor([[4, 5, 6]]))


def test_an_exchange_is_taken_back_by_the_next(language) -> None:
    found = made(language, Right())
    before = copy.deepcopy(found.model.state_dict())
    exchange = Exchange(found.layers)
    exchange()
    changed = [name for name, value in found.model.state_dict().items() if not torch.equal(value, before[name])]
    assert changed
    for pair in exchange._exchanged:
        _exchanged_back(*pair)
    assert all(torch.equal(value, before[name]) for name, value in found.model.state_dict().items())


def _exchanged_back(first: QuantizedLinear, second: QuantizedLinear) -> None:
    for mine, theirs in zip(first.packed.tensors.values(), second.packed.tensors.values(), strict=True):
        kept = mine.clone()
        mine.copy_(theirs)
        theirs.copy_(kept)


def test_the_check_finds_a_layer_that_is_not_the_definition(language) -> None:
    class WrongOfLargeWeights(Right):
        fault = """
def quantize(weight):
    packed = right_quantize(weight)
    if tuple(weight.shape) == (128, 64):
        packed['codes'] ^= 1
    return packed
"""

    with pytest.raises(
        Incorrect, match=r"the weight of model\.layers\.0\.mlp\.gate_proj: .* differ from the definition"
    ):
        CausalLm().check(WrongOfLargeWeights(), language)


@pytest.mark.parametrize(("workload", "count"), [(CausalLm, 3), (TextClassification, 4)])
def test_an_estimate_counts_what_a_trial_times(workload, count, request) -> None:
    context = request.getfixturevalue("language" if workload is CausalLm else "classifying")
    trial, counts = workload().trial(Right(), context), workload().counts(context)
    assert {*counts, *trial.phases} == {*trial.seconds}
    assert counts["watched"] + counts["prediction"] == count
    assert all(seconds > 0 for seconds in trial.seconds.values())


def test_a_watched_model_has_to_call_its_layers(language) -> None:
    found = made(language, Right())
    with pytest.raises(Incorrect, match="no quantised layer was called"), watched(found.technique, found.layers):
        pass


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32))
def test_blocks_are_spread_over_the_text(count: int, most: int, seed: int) -> None:
    found = spread(count, most, torch.Generator().manual_seed(seed))
    assert len(found) == len(set(found)) == min(most, count)
    for part, number in enumerate(found):
        assert part * count // len(found) <= number < (part + 1) * count // len(found)


def test_blocks_begin_with_the_first_token_of_the_tokenizer() -> None:
    tokens = torch.arange(10, 31)
    plain, begun = Passages(tokens=tokens, first=-1), Passages(tokens=tokens, first=1)
    assert (plain.blocks(7), begun.blocks(8)) == (3, 3)
    assert plain.block(1, 7).tolist() == [list(range(17, 24))]
    assert begun.block(1, 8).tolist() == [[1, *range(17, 24)]]


@pytest.mark.parametrize("names", [{0: "Blame", 1: "praise"}, {0: "LABEL_0", 1: "LABEL_1"}])
def test_labels_are_classes_of_the_model_by_name_or_number(names) -> None:
    settings = ClassifierSettings(data="d.csv")
    if "LABEL_0" in names.values():
        assert class_numbers(["1", "0"], names, settings) == [1, 0]
    else:
        assert class_numbers(["praise", "BLAME"], names, settings) == [1, 0]
    with pytest.raises(UsageError, match=r"d\.csv: label 'neutral': the model knows "):
        class_numbers(["neutral"], names, settings)


def test_a_model_without_what_the_task_needs_is_refused_before_anything_runs(folder, language, classifying) -> None:
    headless = {"model": str(folder / "headless")}
    with pytest.raises(UsageError, match="is saved as BertModel, without a trained classification head"):
        TextClassification().check_settings({**classifying.settings, **headless})
    with pytest.raises(UsageError, match="is saved as BertModel, not as a language model"):
        CausalLm().check_settings({**language.settings, **headless})
    with pytest.raises(UsageError, match="context of 2000 tokens: expected at most 1024, the positions of the model"):
        CausalLm().check_settings({**language.settings, "context": 2000})


def test_a_prompt_and_its_completion_are_one_text_and_the_part_test_is_what_is_held_out(tmp_path, language) -> None:
    data = tmp_path / "pairs.csv"
    rows = "".join(f"good film {number},bad plot,{'test' if number % 2 else 'train'}\n" for number in range(80))
    data.write_text("prompt,completion,split\n" + rows)
    read = CausalLm().read({**language.settings, "data": str(data)})
    of_all = passages(replace(read, data=str(_without_split(data))), tmp_path)
    assert len(passages(read, tmp_path).tokens) == len(of_all.tokens) // 2


def test_a_conversation_is_one_text_as_the_chat_template_writes_it(tmp_path, language) -> None:
    data = tmp_path / "chats.jsonl"
    turns = [{"role": "user", "content": "the film"}, {"role": "assistant", "content": "good"}]
    data.write_text("".join(json.dumps({"messages": [*turns, *turns[:number]]}) + "\n" for number in (0, 2)))
    model = save_chat_tokenizer(tmp_path / "model")
    config = json.loads((Path(str(language.settings["model"])) / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "vocab_size": 64}))
    read = CausalLm().read({**language.settings, "data": str(data), "model": str(model)})
    one = "<user> the film <end> <assistant> good <end>"
    words = f"{one} {one} {one}".split()
    found = passages(read, tmp_path)
    numbers = [{**VOCABULARY, **CHAT_WORDS}[word] for word in words]
    assert found.tokens.tolist() == numbers
    assert found.block(0, 6).tolist() == [[VOCABULARY["[CLS]"], *numbers[:5]]]  # which the template wrote, too
    with pytest.raises(UsageError, match="its tokenizer has no chat template"):
        CausalLm().check_settings({**language.settings, "data": str(data)})


def _without_split(data: Path) -> Path:
    plain = data.with_name("plain.csv")
    plain.write_text("".join(line.rpartition(",")[0] + "\n" for line in data.read_text().splitlines()))
    return plain


@pytest.mark.parametrize("form", ["full", "quick"])
@pytest.mark.parametrize(("task", "judge"), [("causal-lm", "loss"), ("text-classification", "accuracy")])
def test_the_suite_says_what_it_compares_on_a_model_of_ones_own(
    folder: Path, task: str, judge: str, form: Form
) -> None:
    host = load_host()
    source = source_of(folder / ("llama" if task == "causal-lm" else "bert"), folder / "texts.csv", task)
    suite = read_suite("quantization", host, form=form, source=source)
    assert {"nf4/bf16", "nf4/fp32", "nf4/kernel"} <= {*suite.techniques}
    assert suite.baseline == "nf4/bf16"
    assert judge in suite.margins
    assert not suite.claims
