"""Conversations as data of a language model: the tokens by the template written by hand, and what is refused."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.api import CaseContext, UsageError
from harness.families.finetune.sequences import sequences
from harness.families.finetune.settings import CausalSettings
from harness.families.finetune.workloads.causal_lm import CausalLm
from harness.judge.chats import DAY, ChatTemplate
from harness.judge.conversations import Message
from harness.judge.training import IGNORED
from tests.declared import specs
from tests.families.finetune.techniques import Honest
from tests.families.finetune.tiny import (
    CHAT_TEMPLATE,
    CHAT_WORDS,
    VOCABULARY,
    save_chat_model,
    save_chat_tokenizer,
    save_chats,
    save_language_model,
)

NUMBERS = {**VOCABULARY, **CHAT_WORDS}


def turn(role: str, content: str) -> Message:
    return {"role": role, "content": content}


ASKED = [turn("user", "the film"), turn("assistant", "good"), turn("user", "the plot")]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_chat_model(tmp_path_factory.mktemp("chat") / "model")


def with_template(model: Path, folder: Path, template: str) -> Path:
    """Return a copy of the model in which the tokenizer has another template."""
    for file in ("config.json", "model.safetensors"):
        folder.mkdir(exist_ok=True)
        (folder / file).write_bytes((model / file).read_bytes())
    return save_chat_tokenizer(folder, template)


def written(path: Path, *conversations: list[Any], column: str = "messages") -> Path:
    path.write_text("".join(json.dumps({column: turns}) + "\n" for turns in conversations))
    return path


def tokens_of(model: Path, data: Path, **named: str) -> tuple[list[int], list[int]]:
    """Return the tokens of the only conversation of data, and those of them that are predicted."""
    made = sequences(str(data), CausalSettings(model=str(model), data=str(data), **named), data.parent / "cache")
    row, start, length = made.tokens[0].tolist(), int(made.starts[0]), int(made.lengths[0])
    labels = made.examples("cpu").labels[0]
    assert labels[labels != IGNORED].tolist() == row[start:length], "the loss counts the answer"
    return row[:length], row[start:length]


def numbers(text: str) -> list[int]:
    return [NUMBERS[word] for word in text.split()]


def test_the_tokens_are_those_of_the_template_and_the_last_answer_is_predicted(model: Path, tmp_path: Path) -> None:
    data = written(tmp_path / "d.jsonl", [*ASKED, turn("assistant", "bad plot"), turn("user", "and")])
    tokens, predicted = tokens_of(model, data)
    before = "[CLS] <user> the film <end> <assistant> good <end> <user> the plot <end> <assistant>"
    assert tokens == numbers(f"{before} bad plot <end>")
    assert predicted == numbers("bad plot <end>")


def test_a_column_of_any_name_may_be_told(model: Path, tmp_path: Path) -> None:
    data = written(tmp_path / "d.jsonl", [turn("user", "the plot"), turn("assistant", "bad")], column="turns")
    assert tokens_of(model, data, messages="turns")[1] == numbers("bad <end>")


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ("", "bad [SEP]"),  # nothing has ended the answer: the tokenizer's end does
        ("<end>", "bad <end>"),
        ("[SEP]", "bad [SEP]"),
        ("<end>\\n", "bad <end>"),
        ("and", "bad and [SEP]"),
    ],
)
def test_an_end_is_added_where_the_template_writes_none(model: Path, tmp_path: Path, ends: str, expected: str) -> None:
    folder = with_template(model, tmp_path / "model", CHAT_TEMPLATE.replace("<end>", f"{{{{ '{ends}' }}}}"))
    data = written(tmp_path / "d.jsonl", [turn("user", "the plot"), turn("assistant", "bad")])
    assert tokens_of(folder, data)[1] == numbers(expected)


def test_what_a_template_writes_of_an_answer_but_does_not_ask_with_is_predicted(model: Path, tmp_path: Path) -> None:
    """Some templates ask with an opened thought, which an answer that is there does not have."""
    template = CHAT_TEMPLATE.replace("<assistant> {% endif %}", "<assistant> with {% endif %}")
    folder = with_template(model, tmp_path / "model", template)
    data = written(tmp_path / "d.jsonl", [turn("user", "the plot"), turn("assistant", "bad")])
    assert tokens_of(folder, data) == (
        numbers("[CLS] <user> the plot <end> <assistant> bad <end>"),
        numbers("<assistant> bad <end>"),
    )


def test_today_is_always_the_same_day(model: Path, tmp_path: Path) -> None:
    day = "{% if strftime_now is defined %}{{ strftime_now('%Y') }}{% endif %}"
    folder = with_template(model, tmp_path / "model", day + CHAT_TEMPLATE)
    assert ChatTemplate(folder)([*ASKED, turn("assistant", "bad")])[0].startswith(f"{DAY}[CLS]")


FORBIDS = "{{ raise_exception('roles must alternate') }}"
ONCE_ANSWERED = "{% if messages[-1]['role'] == 'assistant' %}a {% else %}the {% endif %}"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (FORBIDS, "row 1: the model's chat template refuses the conversation: roles must alternate"),
        ("{{ 1 / 0 }}", "row 1: the model's chat template refuses the conversation: division by zero"),
        (
            ONCE_ANSWERED + CHAT_TEMPLATE,
            "row 1: the model's chat template writes what precedes the last answer in another way",
        ),
        ("the film", "row 1: the model's chat template writes what precedes"),
    ],
)
def test_what_a_template_cannot_write_is_one_line(model: Path, tmp_path: Path, template: str, message: str) -> None:
    folder = with_template(model, tmp_path / "model", template)
    data = written(tmp_path / "d.jsonl", [*ASKED, turn("assistant", "bad")])
    with pytest.raises(UsageError, match=message) as caught:
        tokens_of(folder, data)
    assert len(caught.value.problems) == 1


@pytest.fixture(scope="module")
def case(model: Path, tmp_path_factory: pytest.TempPathFactory) -> CaseContext:
    folder = tmp_path_factory.mktemp("case")
    spec = specs("finetune")["causal-lm"]
    source = {"model": str(model), "data": str(save_chats(folder / "chats.jsonl"))}
    counts = {"train_examples": 24, "validation_examples": 12, "batch_size": 4}
    settings = {**spec.settings, **spec.small, **source, **counts}
    return CaseContext(
        seed=0, device="cpu", settings=settings, cache=folder / "cache", phase=lambda _: nullcontext()
    )  # fmt: skip


def test_a_model_learns_conversations(case: CaseContext) -> None:
    workload = CausalLm()
    workload.check_settings(case.settings)
    workload.prepare(case)
    workload.check(Honest(), case)
    assert workload.evaluate(Honest(), case).metrics["loss"] > 0


def test_a_tokenizer_without_a_chat_template_is_refused_before_any_case(case: CaseContext, tmp_path: Path) -> None:
    plain = save_language_model(tmp_path / "plain")
    with pytest.raises(UsageError, match="plain': its tokenizer has no chat template, by which conversations are"):
        CausalLm().check_settings({**case.settings, "model": str(plain)})


def test_too_few_conversations_and_damaged_ones_are_refused_before_any_case(case: CaseContext, tmp_path: Path) -> None:
    few = save_chats(tmp_path / "few.jsonl", 19)
    with pytest.raises(UsageError, match="have 19 different conversations to learn from; expected at least 20"):
        CausalLm().check_settings({**case.settings, "data": str(few)})
    lines = Path(str(case.settings["data"])).read_text().splitlines()
    (tmp_path / "odd.jsonl").write_text("\n".join([*lines, json.dumps({"messages": [turn("user", "the")]})]))
    with pytest.raises(UsageError, match=r"odd\.jsonl: row 61: no message in 'messages' has the role 'assistant'"):
        CausalLm().check_settings({**case.settings, "data": str(tmp_path / "odd.jsonl")})


def test_conversations_may_be_what_is_retained(case: CaseContext, tmp_path: Path) -> None:
    others = save_chats(tmp_path / "all.jsonl", 65).read_text().splitlines()[60:]
    (tmp_path / "kept.jsonl").write_text("\n".join(others))
    kept = replace(case, settings={**case.settings, "retain": str(tmp_path / "kept.jsonl")})
    CausalLm().check_settings(kept.settings)
    assert CausalLm().material(kept).retained is not None
