"""What a trial of a quantised model counts is what its cases measure."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForSequenceClassification

from harness.api import CaseContext
from harness.families.quantize.workloads import causal_lm, text_classification
from tests.declared import specs
from tests.families.finetune.tiny import configuration, save_language_model, save_plain, save_texts, save_tokenizer
from tests.families.quantize.quantizers import Right

SPECS = specs("quantize")
WORKLOADS = {
    "quantized-causal-lm": (causal_lm, causal_lm.CausalLm, "_nats"),
    "quantized-classifier": (text_classification, text_classification.TextClassification, "_logits"),
}


def context_of(name: str, folder: Path) -> CaseContext:
    if name == "quantized-causal-lm":
        source = {"model": save_language_model(folder / "m"), "data": save_plain(folder / "plain.txt")}
    else:
        names = {"id2label": {0: "blame", 1: "praise"}, "label2id": {"blame": 0, "praise": 1}}
        AutoModelForSequenceClassification.from_config(configuration("bert", **names)).save_pretrained(folder / "m")
        save_tokenizer(folder / "m")
        source = {"model": folder / "m", "data": save_texts(folder / "texts.csv")}
    given = {**SPECS[name].small, **{key: str(path) for key, path in source.items()}, "activations": "float32"}
    given |= {"blocks": 5} if name == "quantized-causal-lm" else {"test_examples": 18, "max_length": 32}
    return CaseContext(
        seed=0, device="cpu", settings={**SPECS[name].settings, **given}, cache=folder / "cache",
        phase=lambda _: nullcontext(),
    )  # fmt: skip


@pytest.mark.parametrize(("name", "parts"), [("quantized-causal-lm", 5), ("quantized-classifier", 5)])
def test_a_case_measures_the_parts_that_were_counted(
    name: str, parts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, made, predicts = WORKLOADS[name]
    context = context_of(name, tmp_path)
    workload: Any = made()
    workload.prepare(context)
    workload.evaluate(Right(), context)  # which leaves in the cache what the model was before
    did: Counter[str] = Counter()
    predict = getattr(module, predicts)
    monkeypatch.setattr(module, predicts, lambda *given: did.update(["part"]) or predict(*given))
    counts = workload.counts(context)
    workload.evaluate(Right(), context)
    assert did["part"] == counts["watched"] + counts["prediction"] == parts
    did.clear()
    found = workload.trial(Right(), context)
    assert set(counts) <= set(found.seconds)
    assert {unit for units in (found.build, *found.phases.values()) for unit in units} <= set(found.seconds)
    assert set(found.phases) == set(SPECS[name].phases)
    assert did["part"] >= 1 + 1 + 1
