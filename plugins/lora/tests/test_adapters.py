"""Adapters in files of peft: plain peft loads them onto the user's model and predicts what the harness predicted."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import harness_lora
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModel, BitsAndBytesConfig

from harness.api import CaseContext, resolve
from harness.families.finetune.workloads.text_classification import TextClassification
from tests.declared import specs
from tests.families.finetune.tiny import save_model, save_texts

SPEC = specs("finetune")["text-classification"]
TECHNIQUES = {technique.id: technique for technique in harness_lora.register_techniques()}

EQUAL = (
    *("lora", "init-a", "init-b", "lora-plus", "rslora", "dora", "orthogonal", "eva", "eva-control"),
    *("ia3", "vera", "miss", "bone"),
)
CONVERTED = ("pissa", "milora", "olora")
"""Their weight is W - s B_0 A_0 in the harness, and W here: the sum is another one, to the rounding of float32."""

UNKNOWN = ("full", "head", "bitfit", "norm", "houlsby", "svfit", "loldu")


def context_of(folder: Path, kind: str, **values: int) -> CaseContext:
    own = {"model": str(save_model(folder / kind, kind, **values)), "data": str(save_texts(folder / "t.csv"))}
    sizes = {"steps": 6, "batch_size": 8, "train_examples": 48, "validation_examples": 24, "lr": 0.02}
    return CaseContext(
        seed=0,
        device="cpu",
        settings={**SPEC.settings, **own, **sizes},
        cache=folder / "cache",
        phase=lambda _: nullcontext(),
    )


@pytest.fixture(scope="module", params=["bert", "llama"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CaseContext:
    return context_of(tmp_path_factory.mktemp("model"), request.param)


@pytest.fixture(scope="module")
def whole_blocks(tmp_path_factory: pytest.TempPathFactory) -> CaseContext:
    """A model whose rows are whole blocks: bitsandbytes unpacks others wrongly on processors with AVX-512."""
    return context_of(tmp_path_factory.mktemp("model"), "llama", hidden_size=64, intermediate_size=128)


class Seen(TextClassification):
    """Remembers the last logits that the judge took, with their batch."""

    seen: tuple[dict[str, Tensor], Tensor]

    def _logits(self, model: Any, batch: Any) -> Tensor:
        logits = super()._logits(model, batch)
        type(self).seen = dict(batch), logits.detach()
        return logits


def evaluated(name: str, context: CaseContext, folder: Path) -> tuple[list[str], dict[str, Tensor], Tensor]:
    """Return notes of a case that keeps its adapter in a folder, and the last tested batch with its logits."""
    technique = resolve(TECHNIQUES[name].target)(**TECHNIQUES[name].params)
    outcome = Seen().evaluate(technique, replace(context, keep=folder))
    return list(outcome.notes), *Seen.seen


def reloaded(folder: Path, model: str, batch: dict[str, Tensor], *, last: bool) -> Tensor:
    """Return what the user's model with the adapter and the head of a folder predicts, without the harness."""
    options = {} if last else {"add_pooling_layer": False}
    adapted = PeftModel.from_pretrained(AutoModel.from_pretrained(model, **options), folder).eval()
    head = load_file(folder / "head.safetensors")
    mask = batch["attention_mask"]
    with torch.no_grad():
        states = adapted(input_ids=batch["input_ids"], attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).to(states.dtype)
        pooled = (
            states[torch.arange(len(mask)), mask.sum(1) - 1] if last else (states * weights).sum(1) / weights.sum(1)
        )
        return torch.nn.functional.linear(pooled, head["weight"], head["bias"])


@pytest.mark.parametrize("name", [*EQUAL, *CONVERTED])
def test_plain_peft_predicts_what_the_harness_predicted(name: str, case: CaseContext, tmp_path: Path) -> None:
    model = str(case.settings["model"])
    notes, batch, logits = evaluated(name, case, tmp_path / "kept")
    found = reloaded(tmp_path / "kept", model, batch, last=model.endswith("llama"))
    assert not [note for note in notes if note.startswith("not saved")]
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "head.safetensors",
    }
    if name in CONVERTED:
        torch.testing.assert_close(found, logits, rtol=0, atol=1e-5 * float(logits.abs().max()))
    else:
        assert torch.equal(found, logits)


def onto_packed(folder: Path, model: str, batch: dict[str, Tensor]) -> Tensor:
    """Return what the user's model, packed by transformers as a folder says, predicts with the folder's adapter.

    It is in training, where nothing is random in a Llama: in evaluation the layers of bitsandbytes pack their codes
    anew on some processors, for products in bfloat16.
    """
    config = BitsAndBytesConfig(**json.loads((folder / "quantization.json").read_text()))
    base = AutoModel.from_pretrained(model, quantization_config=config)
    adapted = PeftModel.from_pretrained(base, folder).train()
    head = load_file(folder / "head.safetensors")
    mask = batch["attention_mask"]
    with torch.no_grad():
        states = adapted(input_ids=batch["input_ids"], attention_mask=mask).last_hidden_state
        last = states[torch.arange(len(mask)), mask.sum(1) - 1]
        return torch.nn.functional.linear(last, head["weight"], head["bias"])


@pytest.mark.parametrize("base", ["nf4", "bitsandbytes_nf4", "bitsandbytes_nf4_double"])
@pytest.mark.parametrize("name", ["lora", "dora", "ia3", "vera", "miss", "pissa"])
def test_plain_peft_predicts_the_same_beside_the_same_packed_weights(
    name: str, base: str, whole_blocks: CaseContext, tmp_path: Path
) -> None:
    packed = replace(whole_blocks, settings={**whole_blocks.settings, "base": f"harness_nf4.bases:{base}"})
    model = str(packed.settings["model"])
    notes, batch, logits = evaluated(name, packed, tmp_path / "kept")
    assert [note for note in notes if note.startswith("saved: ")] == [
        "saved: it loads onto the model that transformers packs as quantization.json in the folder says"
    ]
    most = float(logits.abs().max())
    found = onto_packed(tmp_path / "kept", model, batch)
    torch.testing.assert_close(found, logits, rtol=0, atol=1e-5 * most)
    plain = reloaded(tmp_path / "kept", model, batch, last=True)
    assert float((plain - logits).abs().max()) > 1e-3 * most, "what was packed makes no difference"


@pytest.mark.parametrize("case", ["llama"], indirect=True)
def test_an_adapter_beside_weights_that_no_library_packs_is_not_saved(case: CaseContext, tmp_path: Path) -> None:
    packed = replace(case, settings={**case.settings, "base": "harness_nf4.bases:nf4_double"})
    notes, _, _ = evaluated("lora", packed, tmp_path / "kept")
    (why,) = [note for note in notes if note.startswith("not saved: ")]
    assert why.startswith("not saved: it was trained beside packed weights that transformers does not make, and would")
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("case", ["gpt2", "gpt_neox"], indirect=True)
def test_plain_peft_scales_the_keys_and_values_of_a_fused_projection(case: CaseContext, tmp_path: Path) -> None:
    notes, batch, logits = evaluated("ia3", case, tmp_path / "kept")
    found = reloaded(tmp_path / "kept", str(case.settings["model"]), batch, last=True)
    saved = load_file(tmp_path / "kept/adapter_model.safetensors")
    fused = [value for name, value in saved.items() if "c_attn" in name or "query_key_value" in name]
    assert not [note for note in notes if note.startswith("not saved")]
    assert [int((value == 1).sum()) for value in fused] == [len(value) // 3 for value in fused] != []
    torch.testing.assert_close(found, logits, rtol=0, atol=1e-5 * float(logits.abs().max()))


@pytest.mark.parametrize("case", ["bert"], indirect=True)
@pytest.mark.parametrize("name", UNKNOWN)
def test_what_peft_has_no_format_for_is_told(name: str, case: CaseContext, tmp_path: Path) -> None:
    technique = resolve(TECHNIQUES[name].target)(**TECHNIQUES[name].params)
    notes = TextClassification().evaluate(technique, replace(case, keep=tmp_path / "kept")).notes
    assert len([note for note in notes if note.startswith("not saved: ")]) == 1
    assert not (tmp_path / "kept").exists()
