"""Texts of a user: their division, their batches, their tokens, and what the row says of them."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.api import WARNING, CaseContext, UsageError
from harness.families.finetune.examples import Examples
from harness.families.finetune.splits import shares, stratified
from harness.families.finetune.workloads.text_classification import TextClassification
from harness.judge.seeds import generator
from tests.declared import specs
from tests.families.finetune.techniques import Honest
from tests.families.finetune.tiny import save_model, save_texts

SPEC = specs("finetune")["text-classification"]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> CaseContext:
    folder = tmp_path_factory.mktemp("text")
    source = {"model": str(save_model(folder / "bert")), "data": str(save_texts(folder / "texts.csv"))}
    counts = {"train_examples": 48, "validation_examples": 24, "batch_size": 4}
    return CaseContext(
        seed=0,
        device="cpu",
        settings={**SPEC.settings, **SPEC.small, **source, **counts},
        cache=folder / "cache",
        phase=lambda _: nullcontext(),
    )


@given(
    st.lists(st.integers(0, 3), min_size=12, max_size=200).filter(lambda labels: len(set(labels)) == max(labels) + 1),
    st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40)),
    st.integers(0, 2**32),
)
def test_parts_are_disjoint_and_have_each_label_in_its_share(
    labels: list[int], counts: tuple[int, int, int], seed: int
) -> None:
    parts = stratified(torch.tensor(labels), counts, torch.Generator().manual_seed(seed))
    together = torch.cat(parts).tolist()
    assert len(set(together)) == len(together) == min(sum(counts), len(labels))
    assert [len(part) for part in parts][:2] == [
        min(counts[0], len(labels)),
        min(counts[1], max(0, len(labels) - counts[0])),
    ]
    for part in parts:
        found = Counter(labels[index] for index in part.tolist())
        for label, count in Counter(labels).items():
            assert (
                abs(found[label] - len(part) * count / len(labels)) < 2
            )  # a stretch of an even order: one at each end


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 7), st.integers(0, 2**32))
def test_batches_lose_no_token_and_pad_little(lengths: list[int], size: int, seed: int) -> None:
    longest = max(lengths)
    places = torch.arange(longest)
    mask = (places < torch.tensor(lengths).unsqueeze(1)).long()
    examples = Examples(inputs={"mask": mask}, labels=torch.arange(len(lengths)), lengths=torch.tensor(lengths))
    seen = []
    for indices, batch in examples.groups(size):
        own = [lengths[index] for index in indices]
        assert batch["mask"].sum(1).tolist() == own
        assert batch["mask"].shape[1] == max(own)
        assert batch["labels"].tolist() == indices.tolist()
        seen += indices.tolist()
    assert sorted(seen) == list(range(len(lengths)))
    order = torch.randint(len(lengths), (9, size), generator=torch.Generator().manual_seed(seed))
    sorted_by_length = examples.bucketed(order, torch.Generator().manual_seed(seed))
    assert sorted_by_length.shape == order.shape
    assert sorted(sorted_by_length.flatten().tolist()) == sorted(order.flatten().tolist())
    padded = sum(int(examples.at(indices).batch()["mask"].numel()) for indices in sorted_by_length)
    assert padded <= sum(int(examples.at(indices).batch()["mask"].numel()) for indices in order)


def test_the_seed_settles_the_division_and_every_number(case: CaseContext) -> None:
    workload = TextClassification()
    first, again = (workload.evaluate(Honest(), case) for _ in range(2))
    other = workload.evaluate(Honest(), replace(case, seed=1))
    assert first == again
    assert first.series["train_loss"] != other.series["train_loss"]


@pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
def test_what_a_saved_head_was_trained_for_does_not_count(case: CaseContext, tmp_path: Path, problem: str) -> None:
    folder = save_model(tmp_path / "bert", problem_type=problem, architectures=["BertForSequenceClassification"])
    other = replace(case, settings={**case.settings, "model": str(folder)})
    workload = TextClassification()
    workload.check_settings(other.settings)
    plain, found = (workload.evaluate(Honest(), context) for context in (case, other))
    assert (found.metrics, found.series) == (plain.metrics, plain.series)


def test_padding_and_company_change_no_logits(case: CaseContext) -> None:
    """A text's logits are those it has alone, to the rounding of float32 sums of this width."""
    workload = TextClassification()
    material = workload.material(case)
    material.model.eval()
    batch = material.test.batch()
    with torch.no_grad():
        together = workload.forward(material.model, batch)
        alone = torch.cat([workload.forward(material.model, one.batch()) for one in (
            material.test.at(torch.tensor([index])) for index in range(len(material.test))
        )])  # fmt: skip
    assert (together - alone).abs().max() < 1e-5 * together.abs().max().clamp(min=1)


def test_the_row_names_model_data_and_what_was_cut(case: CaseContext) -> None:
    short = replace(case, settings={**case.settings, "max_length": 6})
    notes = " · ".join(TextClassification().evaluate(Honest(), short).notes)
    assert "model: bert, SHA-256 " in notes
    assert "data: texts.csv, 120 different texts, SHA-256 " in notes
    assert WARNING in notes
    assert "longer than 6 tokens" in notes
    assert WARNING not in " ".join(TextClassification().evaluate(Honest(), case).notes)


@pytest.mark.parametrize(
    ("kind", "read"), [("bert", "the mean of the states of the tokens"), ("llama", "the last token")]
)
def test_the_row_says_what_the_head_reads(kind: str, read: str, case: CaseContext, tmp_path: Path) -> None:
    settings = {**case.settings, "model": str(save_model(tmp_path / kind, kind))}
    notes = TextClassification().material(replace(case, settings=settings)).notes
    assert any("the head reads" in note and read in note for note in notes)


def test_few_texts_are_shared_out_in_the_proportions_of_the_settings(case: CaseContext) -> None:
    counts = {"train_examples": 800, "validation_examples": 200, "test_examples": 1000}
    context = replace(case, settings={**case.settings, **counts})
    TextClassification().check_settings(context.settings)
    material = TextClassification().material(context)
    assert [len(part) for part in (material.train, material.validation, material.test)] == [54, 13, 53]
    assert "54 texts to train on, 13 to choose by, 53 to test on" in material.notes


@pytest.mark.parametrize(
    ("count", "expected"),
    [(2000, [800, 200, 1000]), (1900, [800, 200, 900]), (1800, [800, 200, 800]), (900, [400, 100, 400])],
)
def test_the_test_is_made_smaller_before_the_training_but_no_smaller_than_it(count: int, expected: list[int]) -> None:
    assert shares(count, [800, 200, 1000]) == expected


@pytest.mark.parametrize("asked", [0, 1000])
def test_no_text_is_longer_than_the_model_takes(asked: int, case: CaseContext, tmp_path: Path) -> None:
    data = tmp_path / "long.csv"
    rows = [f"{' '.join(['film'] * 90)} n{number},{'praise' if number % 2 else 'blame'}" for number in range(40)]
    data.write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    context = replace(case, settings={**case.settings, "data": str(data), "max_length": asked})
    material = TextClassification().material(context)
    assert material.train.inputs["input_ids"].shape[1] == 64  # the positions of the tiny model
    assert any("100.0 % of the texts are longer than 64 tokens, and cut" in note for note in material.notes)


def test_without_a_model_and_data_it_is_said_how_to_name_them() -> None:
    with pytest.raises(UsageError, match="add --model and --data"):
        TextClassification().check_settings(SPEC.settings)


def test_a_folder_that_transformers_cannot_load_is_refused_in_one_line(case: CaseContext, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "nonsense"}')
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(UsageError) as caught:
        TextClassification().check_settings({**case.settings, "model": str(tmp_path)})
    (line,) = caught.value.problems
    assert line.startswith(f"model {str(tmp_path)!r}: transformers cannot load it: ")
    assert "\n" not in line


def test_a_model_without_its_tokenizer_is_refused_with_what_to_do(case: CaseContext, tmp_path: Path) -> None:
    folder = save_model(tmp_path / "bert")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(UsageError, match="has no tokenizer; texts need the model's own, saved beside it once"):
        TextClassification().check_settings({**case.settings, "model": str(folder)})


def test_the_order_of_batches_does_not_depend_on_the_technique(case: CaseContext) -> None:
    workload = TextClassification()
    orders = [workload._problem(case).order for _ in range(2)]
    assert torch.equal(*orders)
    assert not torch.equal(orders[0], workload._problem(replace(case, seed=1)).order)
    assert generator(0, "order").initial_seed() != generator(1, "order").initial_seed()


def test_time_is_measured_on_a_batch_of_the_median_length_and_memory_on_the_longest(case: CaseContext) -> None:
    case = replace(case, settings={**case.settings, "steps": 9, "max_length": 16})
    workload = TextClassification()
    problem = workload._problem(case)
    widths = [batch["input_ids"].shape[1] for batch in problem.train.at(problem.order).batches()]
    assert len(set(widths)) > 2
    found = {}
    for lane in ("time", "memory"):
        batch, _ = workload.open(Honest(), replace(case, lane=lane)).phases["infer"].run()
        found[lane] = batch["input_ids"].shape[1]
    assert found == {"time": sorted(widths)[4], "memory": max(widths)}


@given(st.lists(st.lists(st.integers(1, 40), min_size=3, max_size=3), min_size=1, max_size=12))
def test_batches_of_one_shape_leave_the_lanes_with_the_first(lengths: list[list[int]]) -> None:
    order = torch.arange(3 * len(lengths)).view(-1, 3)
    padded = Examples(inputs={}, labels=order.flatten(), lengths=torch.tensor(lengths).flatten())
    widths = [max(batch) for batch in lengths]
    for lane, wanted in (("time", sorted(widths)[len(widths) // 2]), ("memory", max(widths))):
        taken = padded.measured(order, lane).labels
        assert torch.equal(taken, order[widths.index(wanted)])
        assert torch.equal(replace(padded, lengths=None).measured(order, lane).labels, order[0])


def test_the_test_is_the_data_s_own_where_they_have_one(case: CaseContext, tmp_path: Path) -> None:
    rows = Path(str(case.settings["data"])).read_text(encoding="utf-8").splitlines()
    for name, own in (("train", rows[1:101]), ("test", rows[101:])):
        (tmp_path / f"{name}.csv").write_text("\n".join([rows[0], *own]), encoding="utf-8")
    settings = {**case.settings, "data": str(tmp_path)}
    whole, *some = [
        TextClassification().material(replace(case, seed=seed, settings={**settings, "test_examples": count}))
        for seed, count in ((0, 1000), (0, 8), (1, 8))
    ]
    assert [len(part.labels) for part in (whole.train, whole.validation, whole.test)] == [48, 24, 20]
    assert "split of the data: 100 in train, 20 in test" in whole.notes
    own = {tuple(tokens.tolist()) for tokens in whole.test.inputs["input_ids"]}
    drawn = [{tuple(tokens.tolist()) for tokens in part.test.inputs["input_ids"]} for part in some]
    assert all(len(tokens) == 8 and tokens < own for tokens in drawn)
    assert drawn[0] != drawn[1]
    assert own.isdisjoint({tuple(tokens.tolist()) for tokens in whole.train.inputs["input_ids"]})
