"""``harness export adapters``: the adapter of a run, trained once more, in files that plain peft loads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from peft import PeftConfig

from harness.api import UsageError
from harness.execution.keeping import first_finals
from tests.conftest import Harness
from tests.families.finetune.tiny import save_model, save_texts
from tests.results.builders import make_row


def row(technique: str, seed: int, stage: str, lr: float, lane: str = "accuracy"):
    return make_row(technique=technique, seed=seed, stage=stage, tuned={"lr": lr}, lane=lane)


def test_the_first_seed_with_the_tuned_values_is_taken() -> None:
    rows = [
        row("a/x", 0, "tuning", 0.1),
        row("a/x", 0, "tuning", 0.2),
        row("a/x", 1, "final", 0.2),
        row("a/x", 0, "final", 0.2, lane="memory"),
        row("a/y", 1, "tuning", 0.1),
    ]
    assert first_finals(rows, "*") == [rows[1], rows[4]]
    assert first_finals(rows, "*/y") == [rows[4]]
    with pytest.raises(UsageError, match="no results of such a technique"):
        first_finals(rows, "b/*")


@pytest.mark.thorough
def test_an_adapter_is_that_of_the_run_or_is_not_saved(harness: Harness, tmp_path: Path) -> None:
    model, texts = save_model(tmp_path / "model"), save_texts(tmp_path / "texts.csv")
    sizes = ("--param", "train_examples=48", "--param", "validation_examples=24", "--param", "steps=4")
    own = ("--model", str(model), "--data", str(texts), *sizes, "--param", "lr=0.01")
    done = harness("run", "--suite", "peft", *own, "--technique", "lora", "--seeds", "1", "--lane", "accuracy")
    assert done.returncode == 0, done.stderr
    done = harness("export", "adapters", "--output", str(tmp_path / "kept"))
    assert done.returncode == 0, done.stderr
    full, lora = sorted(done.stderr.splitlines() or done.stdout.splitlines())  # in the order in which the cases ended
    assert full == "lora/full: not saved: no library has a format for it that loads onto the unchanged model"
    folder = Path(lora.removeprefix("lora/lora: "))
    assert PeftConfig.from_pretrained(str(folder)).r == 4
    assert harness("export", "adapters", "--output", str(tmp_path / "kept")).returncode == 2, "the folder is not empty"

    (rows,) = tmp_path.rglob("rows.jsonl")
    changed = [json.loads(line) for line in rows.read_text().splitlines()]
    for entry in changed:
        entry["metrics"]["loss"] += 1e-3
    rows.write_text("".join(json.dumps(entry) + "\n" for entry in changed))
    done = harness("export", "adapters", "--output", str(tmp_path / "other"), "--technique", "lora/lora")
    assert done.returncode == 1
    assert "lora/lora: not saved: loss is now" in done.stdout + done.stderr
    assert not (tmp_path / "other").exists()
