"""Labelled texts of users: what is read, what is guessed, and what is refused with the place of the mistake."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.api import UsageError
from harness.judge.tables import FEWEST, read_labelled

TEXTS = [f"text {number}" for number in range(2 * FEWEST)]
LABELS = ["yes", "no"] * FEWEST


def written(folder: Path, name: str, rows: list[dict[str, object]]) -> Path:
    path = folder / name
    if name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path
    file = io.StringIO()
    table = csv.DictWriter(file, list(rows[0]), delimiter="\t" if name.endswith(".tsv") else ",")
    table.writeheader()
    table.writerows(rows)
    path.write_text(file.getvalue(), encoding="utf-8")
    return path


def rows(text: str = "text", label: str = "label") -> list[dict[str, object]]:
    return [{"id": n, text: words, label: kind} for n, (words, kind) in enumerate(zip(TEXTS, LABELS, strict=True))]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.CSV"])
@pytest.mark.parametrize(("text", "label"), [("text", "label"), ("Review", "Sentiment"), ("sentence", "category")])
def test_the_usual_columns_are_found(tmp_path: Path, name: str, text: str, label: str) -> None:
    found = read_labelled(written(tmp_path, name, rows(text, label)))
    assert (found.text, found.label) == (text, label)
    assert list(found.texts) == TEXTS
    assert [found.classes[index] for index in found.labels] == LABELS


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(str.strip), min_size=1))
def test_any_text_survives_every_format(tmp_path_factory: pytest.TempPathFactory, words: list[str]) -> None:
    folder = tmp_path_factory.mktemp("texts")
    texts = list(dict.fromkeys([*words, *TEXTS]))
    table: list[dict[str, object]] = [{"text": text, "label": number % 2} for number, text in enumerate(texts)]
    table += table[:3]
    for name in ("a.csv", "a.tsv", "a.jsonl"):
        found = read_labelled(written(folder, name, table))
        assert list(found.texts) == texts
        assert found.repeated == len(table) - len(texts)


MISTAKES = {
    "a label is missing": (
        [*rows(), {"id": 1, "text": "x", "label": ""}],
        {},
        "row 17: expected a text in 'text' and a label",
    ),
    "two labels": (
        [*rows(), {"id": 1, "text": "text 0", "label": "no"}],
        {},
        "row 17: the same text has the labels 'yes' and 'no'",
    ),
    "one class": (
        [{**row, "label": "yes"} for row in rows()],
        {},
        "column 'label' has 1 different values",
    ),
    "numbers": (
        [{"text": f"t {n}", "label": n} for n in range(200)],
        {},
        "column 'label' has 200 different values",
    ),
    "a rare class": (
        [*rows(), {"id": 1, "text": "x", "label": "maybe"}],
        {},
        "label 'maybe' has 1 texts; expected at least 8",
    ),
    "a column that is not there": (
        rows(),
        {"text": "txet"},
        "there is no column 'txet'; did you mean 'text'?",
    ),
    "no usual column": (
        rows("a", "b"),
        {},
        "no column is named like a text; name it with --column text=COLUMN",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_mistake_is_one_line_with_its_place(tmp_path: Path, mistake: str, name: str) -> None:
    table, columns, message = MISTAKES[mistake]
    path = written(tmp_path, name, table)
    with pytest.raises(UsageError) as caught:
        read_labelled(path, **columns)
    (line,) = caught.value.problems
    assert line.startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"text,label\na,b,c\n", "line 2: expected 2 fields"),
        ("a.csv", b'text,label\n"a,b\n', "unexpected end of data"),
        ("a.csv", b"\xff\xfe", "is no UTF-8 text"),
        ("a.csv", b"", "has no rows"),
        ("a.csv", b"text,label\n", "has no rows"),
        ("a.jsonl", b'{"text": 1', "line 1: is no JSON"),
        ("a.jsonl", b"[" * 100_000, "line 1: is no JSON"),
        ("a.jsonl", b"[1]\n", "line 1: expected an object"),
        ("a.xlsx", b"", "expected a file that ends in .csv, .tsv, .jsonl"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_labelled(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_labelled(tmp_path / "a.csv")
