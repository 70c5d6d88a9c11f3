"""Tokens are kept under the digest of all that determines them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.judge import tokenized
from harness.judge.tokenized import key_of_tokens


def write(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


CHANGES: dict[str, Callable[[Path, pytest.MonkeyPatch], object]] = {
    "data": lambda folder, _: write(folder / "data.csv", "other"),
    "tokenizer": lambda folder, _: write(folder / "model" / "tokenizer.json", "{}"),
    "vocabulary": lambda folder, _: write(folder / "model" / "vocab.txt", "word"),
    "chat template": lambda folder, _: write(folder / "model" / "chat_template.jinja", "{{ messages }}"),
    "transformers": lambda _, patch: patch.setattr(tokenized.transformers, "__version__", "0"),
    "sources": lambda _, patch: patch.setattr(tokenized, "sources_of", lambda _: "other"),
}


@pytest.mark.parametrize("change", [*CHANGES, "nothing", "weights"])
def test_the_key_changes_with_all_that_changes_the_tokens(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (model := tmp_path / "model").mkdir()
    data = write(tmp_path / "data.csv", "text")
    write(model / "model.safetensors", "")
    before = key_of_tokens("harness.judge.tables", str(model), str(data), columns=["text"])
    if change == "weights":
        write(model / "model.safetensors", "other weights")
    elif change in CHANGES:
        CHANGES[change](tmp_path, monkeypatch)
    after = key_of_tokens("harness.judge.tables", str(model), str(data), columns=["text"])
    assert (after != before) == (change in CHANGES)


def test_the_key_tells_the_settings_and_how_the_data_are_read(tmp_path: Path) -> None:
    (model := tmp_path / "model").mkdir()
    files = [write(tmp_path / name, "text") for name in ("data.csv", "data.tsv")]
    keys = {
        key_of_tokens("harness.judge.tables", str(model), str(data), columns=columns)
        for data in files
        for columns in (["text"], ["body"])
    }
    assert len(keys) == 4
