"""A user's classifier in few bits: its classes are the labels', and texts of a batch get what each gets alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from harness.api import WARNING, UsageError
from harness.families.quantize.labelled import class_numbers, texts_of
from harness.families.quantize.passages import passages
from harness.families.quantize.passages import texts_of as language_texts
from harness.families.quantize.settings import CausalSettings, ClassifierSettings
from harness.families.quantize.workloads.text_classification import TextClassification
from harness.judge.pretrained import tokenizer_of
from harness.judge.settings import read_settings
from tests.conftest import Harness
from tests.families.finetune.tiny import VOCABULARY, save_texts, save_tokenizer
from tests.families.quantize.quantizers import Right
from tests.families.quantize.tiny import context_of, save_language_model


def save_decoder(folder: Path, padding: int | None, **values: str) -> Path:
    """Save a classifier that reads the last token of a text, with this ``pad_token_id`` in its configuration."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama", vocab_size=len(VOCABULARY), hidden_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, intermediate_size=128, max_position_embeddings=64, pad_token_id=0,
        id2label={0: "blame", 1: "praise"}, label2id={"blame": 0, "praise": 1}, **values,
    )  # fmt: skip
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    save_tokenizer(folder)
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "pad_token_id": padding}))
    return folder


@pytest.mark.parametrize("padding", [0, -1, None])
def test_a_decoder_predicts_of_texts_of_a_batch_what_it_predicts_of_each_alone(
    tmp_path: Path, padding: int | None
) -> None:
    model, data = save_decoder(tmp_path / "model", padding), save_texts(tmp_path / "texts.csv")
    context = context_of("quantized-classifier", model, data, tmp_path / "cache", test_examples=24)
    workload = TextClassification()
    workload.check_settings(context.settings)
    workload.prepare(context)
    chosen = workload._chosen(context)
    assert len(set(chosen.lengths.tolist())) > 1
    plain = AutoModelForSequenceClassification.from_pretrained(model, local_files_only=True).eval()
    with torch.no_grad():
        alone = [
            plain(tokens[:length].unsqueeze(0)).logits[0]
            for tokens, length in zip(chosen.tokens, chosen.lengths, strict=True)
        ]
    torch.testing.assert_close(workload._before(chosen, context), torch.stack(alone), rtol=1e-4, atol=1e-5)


def test_texts_that_are_cut_are_told(tmp_path: Path) -> None:
    model, data = save_decoder(tmp_path / "model", 0), save_texts(tmp_path / "texts.csv")
    context = context_of("quantized-classifier", model, data, tmp_path / "cache", max_length=3)
    notes = TextClassification().evaluate(Right(64), context).notes
    settings = read_settings(ClassifierSettings, context.settings)
    longer = [len(tokenizer_of(model)(text)["input_ids"]) > 3 for text in texts_of(settings)[0]]
    share = 100 * sum(longer) / len(longer)
    assert f"{WARNING}{share:.1f} % of the texts are longer than max_length=3 tokens, and cut" in notes


def test_a_text_that_ends_in_what_fills_short_ones_is_refused(tmp_path: Path) -> None:
    data = save_texts(tmp_path / "texts.csv")
    (first, *_), _ = texts_of(ClassifierSettings(data=str(data), model=str(save_decoder(tmp_path / "plain", 0))))
    model = save_decoder(tmp_path / "model", tokenizer_of(tmp_path / "plain")(first)["input_ids"][-1])
    context = context_of("quantized-classifier", model, data, tmp_path / "cache")
    with pytest.raises(UsageError, match=r"ends in token \d+, which fills short texts; give the tokenizer a pad_token"):
        TextClassification().prepare(context)


@pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
def test_a_model_whose_outputs_do_not_exclude_each_other_is_refused_in_one_line(
    tmp_path: Path, problem: str, called: Harness
) -> None:
    model, data = save_decoder(tmp_path / "model", 0, problem_type=problem), save_texts(tmp_path / "texts.csv")
    done = called("run", "--suite", "quantization", "--model", str(model), "--data", str(data))
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert f"has the problem_type {problem!r} in its config.json; expected a classifier of one class" in line


def test_a_model_that_says_that_a_text_has_one_class_is_taken(tmp_path: Path) -> None:
    model = save_decoder(tmp_path / "model", 0, problem_type="single_label_classification")
    context = context_of("quantized-classifier", model, save_texts(tmp_path / "texts.csv"), tmp_path / "cache")
    TextClassification().check_settings(context.settings)


@pytest.mark.parametrize("columns", ["text,label,split", "prompt,completion,split", "text,split"])
def test_data_without_a_part_to_train_on_are_measured_on_the_part_test(tmp_path: Path, columns: str) -> None:
    lines = save_texts(tmp_path / "texts.csv").read_text().splitlines()[1:]
    cut = [line.partition(",")[0] for line in lines] if columns == "text,split" else lines
    parts = ["validation" if number % 3 else "test" for number in range(len(cut))]
    data = tmp_path / "parted.csv"
    data.write_text("\n".join([columns, *map(",".join, zip(cut, parts, strict=True))]))
    tested = [line for line, part in zip(cut, parts, strict=True) if part == "test"]
    if columns == "text,label,split":
        settings = ClassifierSettings(data=str(data), model=str(save_decoder(tmp_path / "model", 0)))
        assert list(texts_of(settings)[0]) == [line.partition(",")[0] for line in tested]
    else:
        read = language_texts(CausalSettings(data=str(data), model=str(save_language_model(tmp_path / "model"))))
        assert list(read) == [line.replace(",", "") for line in tested]


def test_a_label_is_a_name_before_it_is_a_number() -> None:
    settings = ClassifierSettings(data="d.csv")
    stars = {number: str(number + 1) for number in range(5)}
    assert class_numbers(["1", "2", "5"], stars, settings) == [0, 1, 4]
    assert class_numbers(["0", "4"], stars, settings) == [0, 4]
    assert class_numbers(["0", "1"], {0: "NEGATIVE", 1: "POSITIVE"}, settings) == [0, 1]
    with pytest.raises(UsageError, match="label '0': the model knows no, yes"):
        class_numbers(["0", "no"], {0: "no", 1: "yes"}, settings)


def test_a_token_that_a_language_model_lacks_is_refused_while_the_text_is_read(tmp_path: Path) -> None:
    model = save_language_model(tmp_path / "model")
    context = context_of("quantized-causal-lm", model, save_texts(tmp_path / "texts.csv"), tmp_path / "cache")
    settings = read_settings(CausalSettings, context.settings)
    file = model / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "vocab_size": 5}))
    with pytest.raises(UsageError, match="its tokenizer makes tokens that the model has no embedding for"):
        passages(replace(settings, model=str(model)), tmp_path / "cache")
