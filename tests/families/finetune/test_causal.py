"""Language models of a user: what they are trained to predict, what is measured, and what is refused."""

from __future__ import annotations

import json
import math
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from harness.api import WARNING, CaseContext, NotApplicable, UsageError
from harness.families.finetune.pretrained import language_model
from harness.families.finetune.sequences import Sequences, _of_pairs, _shortened, passages_of
from harness.families.finetune.settings import CausalSettings
from harness.families.finetune.workloads.causal_lm import CausalLm, divided
from harness.judge.pretrained import tokenizer_of
from harness.judge.tables import Pairs
from harness.judge.training import IGNORED
from tests.declared import specs
from tests.families.finetune.techniques import Honest, Nothing
from tests.families.finetune.tiny import save_language_model, save_model, save_pairs, save_plain

SPEC = specs("finetune")["causal-lm"]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> CaseContext:
    folder = tmp_path_factory.mktemp("causal")
    source = {"model": str(save_language_model(folder / "llama")), "data": str(save_pairs(folder / "pairs.jsonl"))}
    counts = {"train_examples": 48, "validation_examples": 24, "batch_size": 4}
    return CaseContext(
        seed=0,
        device="cpu",
        settings={**SPEC.settings, **SPEC.small, **source, **counts},
        cache=folder / "cache",
        phase=lambda _: nullcontext(),
    )


@pytest.fixture(scope="module")
def plain(case: CaseContext, tmp_path_factory: pytest.TempPathFactory) -> CaseContext:
    """Return the case on one text without prompts, in blocks of 16 tokens."""
    text = save_plain(tmp_path_factory.mktemp("plain") / "plain.txt")
    return replace(case, settings={**case.settings, "data": str(text), "max_length": 16})


def test_the_completion_and_its_end_are_predicted_and_nothing_else(case: CaseContext) -> None:
    material = CausalLm().material(case)
    tokenizer = tokenizer_of(Path(str(case.settings["model"])))
    completions = {"good film[SEP]", "bad film was[SEP]"}
    for part in (material.train, material.validation, material.test):
        batch = part.batch()
        assert batch["labels"].shape == batch["input_ids"].shape
        for tokens, labels, mask in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True):
            predicted = labels != IGNORED
            assert tokenizer.decode(labels[predicted]).replace(" [SEP]", "[SEP]") in completions
            (places,) = predicted.nonzero(as_tuple=True)
            assert torch.equal(tokens[places + 1], labels[places])
            assert int(mask.sum()) == int(places[-1]) + 2


def test_the_loss_is_that_of_transformers_with_labels_of_its_own_form(case: CaseContext) -> None:
    workload = CausalLm()
    problem = workload._problem(case)
    batch = problem.train.at(problem.order[0]).batch()
    labels = torch.full_like(batch["labels"], IGNORED)
    labels[:, 1:] = batch["labels"][:, :-1]  # transformers shifts labels by itself
    with torch.no_grad():
        expected = problem.model(batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss
        assert problem.task.loss(problem.model, batch) == pytest.approx(expected.item(), rel=1e-6)
    assert problem.task.kind == "causal-lm"
    assert not problem.head
    assert problem.task.head == ()


def test_blocks_hold_the_text_once_and_every_token_but_the_first_is_predicted(plain: CaseContext) -> None:
    material = CausalLm().material(plain)
    parts = (material.train, material.validation, material.test)
    words = torch.cat([part.inputs["input_ids"] for part in parts])
    assert len({tuple(row) for row in words.tolist()}) == len(words)
    batch = material.train.batch()
    assert torch.equal(batch["labels"][:, :-1], batch["input_ids"][:, 1:])
    assert (batch["labels"][:, -1] == IGNORED).all()
    assert set(batch) == {"input_ids", "labels"}


SETTINGS = CausalSettings(train_examples=400, validation_examples=40, test_examples=100)


def some(count: int, parts: Tensor, *, paired: bool) -> Sequences:
    """Return sequences of which only the number, the parts and the kind matter."""
    tokens = torch.zeros(count, 8)
    return Sequences(tokens=tokens, starts=tokens, lengths=tokens, parts=parts, cut=0.0, limit=8, paired=paired)


@given(st.integers(20, 3000), st.booleans(), st.integers(0, 2**32))
def test_the_parts_share_out_what_there_is(count: int, paired: bool, seed: int) -> None:
    parts = divided(some(count, torch.zeros(count), paired=paired), SETTINGS, torch.Generator().manual_seed(seed))
    together = torch.cat(parts).tolist()
    assert len({*together}) == len(together) == min(count, 540)
    assert all(len(part) >= 1 for part in parts)
    if not paired:
        assert all(((part[1:] - part[:-1]) % count == 1).all() for part in parts)


@given(st.lists(st.integers(1, 3), min_size=20, max_size=200), st.booleans(), st.integers(0, 2**32))
def test_a_split_of_the_data_is_kept(numbers: list[int], paired: bool, seed: int) -> None:
    own = torch.tensor([1, 1, 1, *numbers])
    parts = divided(some(len(own), own, paired=paired), SETTINGS, torch.Generator().manual_seed(seed))
    together = torch.cat(parts).tolist()
    assert len({*together}) == len(together)
    for number, part in enumerate(parts, start=1):
        assert len(part)
        assert set(own[part].tolist()) == ({number} if number in numbers or number == 1 else {1})


@given(st.lists(st.integers(1, 9), max_size=12), st.integers(-3, 12), st.booleans())
def test_a_long_prompt_keeps_its_end_and_what_it_begins_with(prompt: list[int], room: int, begins: bool) -> None:
    prompt = [0, *prompt] if begins else prompt
    kept = _shortened(prompt, room, begin=0)
    if len(prompt) <= room:
        assert kept == prompt
    else:
        body = kept[1:] if begins and prompt else kept
        assert kept[:1] == prompt[:1] if begins else True
        assert not body or prompt[-len(body) :] == body
        assert len(kept) <= max(room, 1 + begins)


@pytest.mark.parametrize("rendered", [False, True])
def test_a_prompt_without_tokens_leaves_the_first_of_its_completion_to_begin_with(rendered: bool) -> None:
    """No token precedes it, from which it could be predicted."""
    pairs = Pairs(prompts=[" ", "b"], completions=["c", "d"], prompt="p", completion="c", rendered=rendered)
    tokens = [([], [5, 6, 1]), ([4], [7, 1])]
    encoder: Any = SimpleNamespace(begin=None, limit=64, padding=0, plain=lambda *_: tokens, rendered=lambda *_: tokens)
    made = _of_pairs(pairs, encoder, SETTINGS)
    assert made["starts"].tolist() == [1, 1]
    assert made["tokens"][:, :3].tolist() == [[5, 6, 1], [4, 7, 1]]
    assert made["lengths"].tolist() == [3, 3]


def test_what_is_measured_is_what_the_trained_model_predicts(case: CaseContext) -> None:
    workload = CausalLm()
    outcome = workload.evaluate(Honest(), case)
    assert outcome == workload.evaluate(Honest(), case)
    assert set(outcome.metrics) == {*SPEC.metrics} - {"retention_loss"}
    assert outcome.metrics["perplexity"] == pytest.approx(math.exp(outcome.metrics["loss"]))
    assert outcome.metrics["adapter_parameters"] == outcome.metrics["trainable_parameters"]  # there is no head


def test_what_was_lost_on_other_texts_is_measured_against_the_base_model(case: CaseContext, tmp_path: Path) -> None:
    """The loss before is that of the plain model on the same blocks, and the difference is what training made of it."""
    text = save_plain(tmp_path / "other.txt", 400)
    asked = replace(case, settings={**case.settings, "retain": str(text), "retain_examples": 3})
    workload = CausalLm()
    workload.prepare(asked)
    material = workload.material(asked)
    assert material.retained is not None
    batch = material.retained.examples.batch()
    model = language_model(Path(str(case.settings["model"])))
    with torch.no_grad():
        before = model(batch["input_ids"], labels=batch["input_ids"]).loss.item()
    assert material.retained.before == pytest.approx(before, rel=1e-6)
    lost = workload.evaluate(Honest(), asked)
    assert lost.metrics["retention_loss"] != 0
    assert any(note.startswith("retain: other.txt, 3 examples, SHA-256 ") for note in lost.notes)
    kept = workload.evaluate(Honest(), replace(asked, settings={**asked.settings, "lr": 1e-12}))
    assert kept.metrics["retention_loss"] == pytest.approx(0, abs=1e-6)


def test_a_technique_that_trains_the_head_alone_does_not_apply(case: CaseContext) -> None:
    for run in (CausalLm().check, CausalLm().evaluate):
        with pytest.raises(NotApplicable, match="nothing trains: the model keeps its own output"):
            run(Nothing(), case)


def test_the_time_lane_counts_tokens_without_padding(case: CaseContext) -> None:
    workload = CausalLm()
    opened = workload.open(Honest(), case)
    problem = workload._problem(case)
    tokens = int(problem.train.measured(problem.order, case.lane).batch()["attention_mask"].sum())
    assert opened.figures is not None
    assert opened.figures({"train": [1.0, 0.5, 0.25], "infer": [0.1]}) == {
        "train_tokens": tokens / 0.5,
        "infer_tokens": pytest.approx(tokens / 0.1),
    }


def test_the_row_says_what_is_adapted_cut_and_predicted(case: CaseContext) -> None:
    notes = " · ".join(CausalLm().material(replace(case, settings={**case.settings, "max_length": 8})).notes)
    assert "data: pairs.jsonl, 120 different pairs, SHA-256 " in notes
    assert WARNING in notes
    assert "longer than 8 tokens, and cut" in notes
    assert "of all weights are the embedding and the output, each its own; these are not adapted" in notes
    assert "tokens are predicted in the test" in notes


def test_columns_are_guessed_and_told(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps({"Instruction": "a", "response": "b", "text": "c"}) + "\n")
    settings = CausalSettings(data=str(path))
    pairs, text = passages_of(path, settings), passages_of(path, replace(settings, text="text"))
    assert isinstance(pairs, Pairs)
    assert (pairs.prompts, pairs.completions) == (["a"], ["b"])
    assert not isinstance(text, Pairs)
    assert text.texts == ["c"]
    elsewhere = passages_of(path, replace(settings, data="other", text="no-such-column"))
    assert isinstance(elsewhere, Pairs)


def test_what_is_no_language_model_or_too_little_is_refused(case: CaseContext, tmp_path: Path) -> None:
    bert = {**case.settings, "model": str(save_model(tmp_path / "bert"))}
    with pytest.raises(UsageError, match="is BertModel; expected a language model, such as LlamaForCausalLM"):
        CausalLm().check_settings(bert)
    bare = {**case.settings, "model": str(save_model(tmp_path / "bare", "llama"))}
    with pytest.raises(UsageError, match="is LlamaModel; expected a language model"):
        CausalLm().check_settings(bare)
    few = {**case.settings, "data": str(save_pairs(tmp_path / "few.jsonl", 19))}
    with pytest.raises(UsageError, match="the data have 19 different pairs to learn from; expected at least 20"):
        CausalLm().check_settings(few)
    short = {**case.settings, "data": str(save_plain(tmp_path / "short.txt", 300))}
    with pytest.raises(
        UsageError, match=r"the data have \d different blocks of 64 tokens to learn from; expected at least 20"
    ):
        CausalLm().prepare(replace(case, settings=short))
    rows = [json.loads(line) for line in Path(str(case.settings["data"])).read_text().splitlines()]
    split = [{**row, "split": "train" if number < 2 else "test"} for number, row in enumerate(rows)]
    (tmp_path / "split.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in split))
    with pytest.raises(UsageError, match="the data have 2 different pairs to learn from; expected at least 20"):
        CausalLm().check_settings({**case.settings, "data": str(tmp_path / "split.jsonl")})
    with pytest.raises(UsageError, match="max_length 1: expected 0 or at least 2"):
        CausalLm().check_settings({**case.settings, "max_length": 1})
    same = {**case.settings, "retain": case.settings["data"]}
    with pytest.raises(
        UsageError, match=r"retain=.*pairs\.jsonl: has .* of .*, too; expected texts that are not in the"
    ):
        CausalLm().check_settings(same)
