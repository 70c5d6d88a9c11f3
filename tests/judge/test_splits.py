"""The split that users' data have of their own: by a column or by the names of files, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.api import UsageError
from harness.judge.tables import read_labelled, read_texts
from tests.judge.test_tables import TEXTS, rows, written


def test_a_column_or_the_names_of_files_give_each_text_its_part(tmp_path: Path) -> None:
    parts = ["train"] * 10 + ["dev"] * 2 + ["eval"] * 4
    expected = ["train"] * 10 + ["validation"] * 2 + ["test"] * 4
    told = [{**row, "split": part.upper()} for row, part in zip(rows(), parts, strict=True)]
    found = read_labelled(written(tmp_path, "a.csv", told))
    assert (list(found.texts), list(found.parts), found.label) == (TEXTS, expected, "label")
    (tmp_path / "d" / "test").mkdir(parents=True)
    places = {
        "d/train-0.jsonl": (0, 5),
        "d/train-1.jsonl": (5, 10),
        "d/val.jsonl": (10, 12),
        "d/test/0.jsonl": (12, 16),
    }
    for name, (first, last) in places.items():
        written(tmp_path, name, rows()[first:last])
    found = read_labelled(tmp_path / "d")
    assert dict(zip(found.texts, found.parts, strict=True)) == dict(zip(TEXTS, expected, strict=True))


SPLITS = {
    "a text in two parts": (
        {"train.csv": rows(), "test.csv": rows()[3:4]},
        "train.csv: row 4: the parts test and train",
    ),
    "nothing to train on": ({"dev.csv": rows()[:8], "test.csv": rows()[8:]}, "but none to train on, named train"),
    "a class to be tested only": (
        {"train.csv": rows(), "test.csv": [{"id": 0, "text": f"new {n}", "label": "maybe"} for n in range(9)]},
        "label 'maybe' is not in the part train",
    ),
    "two data sets": (
        {"cola/train.csv": rows(), "sst2/train.csv": rows()},
        "has data in several folders: 'cola', 'sst2'; name one of them by its path",
    ),
    "a file of no part": ({"train.csv": rows(), "more.csv": rows()}, "'more.csv' begins with the name of no part"),
    "files without parts": ({"a.csv": rows(), "b.csv": rows()}, "tables there: a.csv, b.csv"),
    "a column that is no split": (
        {"a.csv": [{**rows()[0], "split": "fold 3"}]},
        "row 1: split 'fold 3': expected train",
    ),
}


@pytest.mark.parametrize("mistake", SPLITS)
def test_a_mistake_in_a_split_is_one_line(tmp_path: Path, mistake: str) -> None:
    files, message = SPLITS[mistake]
    for name, table in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        written(tmp_path, name, table)
    with pytest.raises(UsageError) as caught:
        read_labelled(tmp_path)
    (line,) = caught.value.problems
    assert message in line


def test_where_nothing_is_learned_a_split_needs_no_part_to_train_on(tmp_path: Path) -> None:
    for name, table in SPLITS["nothing to train on"][0].items():
        written(tmp_path, name, table)
    found = read_labelled(tmp_path, learned=False)
    assert dict(zip(found.texts, found.parts, strict=True)) == dict(
        zip(TEXTS, ["validation"] * 8 + ["test"] * 8, strict=True)
    )
    assert read_texts(tmp_path, text="text", learned=False).parts == found.parts
    with pytest.raises(UsageError, match="but none to train on, named train"):
        read_texts(tmp_path, text="text")


def test_where_nothing_is_learned_a_class_may_be_tested_only(tmp_path: Path) -> None:
    for name, table in SPLITS["a class to be tested only"][0].items():
        written(tmp_path, name, table)
    assert "maybe" in read_labelled(tmp_path, learned=False).classes
