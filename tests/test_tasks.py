"""The task that a user's data tell: which is taken, and what is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.api import UsageError, WorkloadSpec
from harness.source import Source, learned, workload_for

READS = {
    "text-classification": ("labelled",),
    "causal-lm": ("pairs", "messages", "texts"),
    "image-classification": ("images",),
}


def spec(task: str) -> WorkloadSpec:
    return WorkloadSpec(
        id=task, contract="toy", target="toy:Toy", summary="toy", version=1, metrics=(), phases=(), task=task,
        reads=READS[task], settings={"model": "", "data": "", "text": "", "label": ""},
    )  # fmt: skip


def host(*tasks: str) -> Any:
    entries = {f"toy/{task}": SimpleNamespace(spec=spec(task)) for task in tasks or READS}
    return SimpleNamespace(workloads=entries)


def saved(folder: Path, name: str, content: str = "") -> str:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content)
    return str(folder / name)


@pytest.mark.parametrize(
    ("name", "content", "task"),
    [
        ("d.csv", "text,label\na,b\n", "text-classification"),
        ("d.tsv", "Sentiment\tReview\na\tb\n", "text-classification"),
        ("d.jsonl", '{"prompt": "a", "completion": "b"}\n', "causal-lm"),
        ("d.jsonl", '{"id": 1, "question": "a", "answer": "b", "category": "c"}\n', "causal-lm"),
        ("d.jsonl", '{"messages": [{"role": "user", "content": "a"}]}\n', "causal-lm"),
        ("d.jsonl", '{"text": "a"}\n', "causal-lm"),
        ("d.csv", "words\na\n", "causal-lm"),
        ("d.txt", "once upon a time", "causal-lm"),
    ],
)
def test_the_columns_choose_the_task(tmp_path: Path, name: str, content: str, task: str) -> None:
    source = Source(model="m", data=saved(tmp_path, name, content))
    assert workload_for(source, "toy", host()) == f"toy/{task}"


@pytest.mark.parametrize("place", ["cat/a.png", "train/cat/a.JPG"])
def test_folders_of_images_choose_their_task(tmp_path: Path, place: str) -> None:
    saved(tmp_path, place)
    assert workload_for(Source(model="m", data=str(tmp_path)), "toy", host()) == "toy/image-classification"


def test_a_named_task_or_column_overrides_what_is_likeliest(tmp_path: Path) -> None:
    labelled = saved(tmp_path, "d.csv", "text,label\na,b\n")
    assert workload_for(Source(model="m", data=labelled, task="causal-lm"), "toy", host()) == "toy/causal-lm"
    assert workload_for(Source(model="m", data=labelled), "toy", host("causal-lm")) == "toy/causal-lm"
    both = saved(tmp_path, "e.csv", "question,answer,category,remark\na,b,c,d\n")
    assert workload_for(Source(model="m", data=both), "toy", host()) == "toy/causal-lm"
    source = Source(model="m", data=both, columns={"text": "remark"})
    assert workload_for(source, "toy", host()) == "toy/text-classification"


@pytest.mark.parametrize(
    ("content", "task", "columns", "message"),
    [
        ("prompt,completion\na,b\n", "text-classification", {}, "has a column of prompts and one of completions; the"),
        ("text,label\na,b\n", "image-classification", {}, "task image-classification reads a folder with a folder of"),
        ("text,label\na,b\n", "causal-lm", {"label": "label"}, "the task causal-lm reads a column of prompts"),
        ("a,b\n1,2\n", "", {}, "like a text or a prompt; name it with --column text=COLUMN; it has: a, b"),
        ("prompt,label\na,b\n", "", {"prompt": "prompt"}, "like a completion; name it with --column completion=COL"),
        ("a,b\na,b\n", "", {"prompt": "a", "label": "b"}, "--column label and prompt: no data have both"),
        ("a,b\na,b\n", "", {"text": "a", "label": "a"}, "expected two different columns"),
        ("text,label\na,b\n", "", {"label": "lable"}, "there is no column 'lable'; did you mean 'label'?"),
        ("", "", {}, "has no rows"),
    ],
)
def test_a_contradiction_is_one_line(
    tmp_path: Path, content: str, task: str, columns: dict[str, str], message: str
) -> None:
    data = saved(tmp_path, "d.csv", content)
    with pytest.raises(UsageError, match=message.replace("?", r"\?")) as caught:
        workload_for(Source(model="m", data=data, task=task, columns=columns), "toy", host())
    assert len(caught.value.problems) == 1


def test_what_is_learned_is_said_with_its_reason(tmp_path: Path) -> None:
    settings = {"model": "m", "data": saved(tmp_path, "d.csv", "text,label\na,b\n"), "text": "", "label": ""}
    (line,) = learned(spec("text-classification"), settings)
    assert line.startswith("the task is text-classification: d.csv has a column of texts and one of labels; --task")
    assert not list(learned(spec("text-classification"), {}))


@pytest.mark.parametrize("reads", [(), ("labels",)])
def test_a_workload_with_a_task_says_what_it_reads(reads: tuple[str, ...]) -> None:
    settings = {"model": "", "data": ""}
    with pytest.raises(ValueError, match=r"reads = .*: expected some of labelled, pairs, messages, texts, images"):
        WorkloadSpec(
            id="a", contract="toy", target="a:B", summary="", version=1, metrics=(), phases=(), settings=settings,
            task="t", reads=reads,
        )  # fmt: skip
