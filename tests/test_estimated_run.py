"""A run on a model of one's own says beforehand what it takes, and is refused where it does not fit into memory."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.conftest import Harness
from tests.families.finetune.tiny import save_model, save_texts


def test_a_run_tells_its_cases_and_memory_and_later_how_the_estimate_did(harness: Harness, tmp_path: Path) -> None:
    model, data = save_model(tmp_path / "bert"), save_texts(tmp_path / "texts.csv")
    values = {"train_examples": 48, "validation_examples": 24, "batch_size": 4, "steps": 2, "lr": 0.001}
    given = [word for name, value in values.items() for word in ("--param", f"{name}={value}")]
    options = ("--suite", "peft", "--model", str(model), "--data", str(data), "--technique", "head", *given)
    short = (*options, "--quick", "--seeds", "2", "--lane", "accuracy", "--lane", "memory", "--jobs", "2")

    # with less than a few MiB an interpreter may fail before a tensor does, and not by a MemoryError
    refused = harness("run", *short, "--memory-limit", "4MiB", "--param", "micro_batch=4")
    assert refused.returncode == 2
    said = " ".join(refused.stderr.split())
    assert re.search(
        r"lora/\w+ on finetune/text-classification: a case takes more memory than it may, .* GiB are", said
    )
    assert "--param batch_size=N" in said
    assert not list((tmp_path / "cwd/.harness").rglob("run.json"))

    done = harness("run", *short)
    assert done.returncode == 0, done.stderr
    told = re.search(r"(\d+) cases, about .* on 2 processes, [\d.]+ [KMG]iB each", done.stderr)
    assert told is not None
    folder = next((tmp_path / "cwd/.harness/runs").iterdir())
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    estimate = json.loads((folder / "run.json").read_text())["estimate"]
    assert int(told[1]) == estimate["cases"] == estimate["took_cases"] == len(rows) == 6
    assert estimate["took_seconds"] > 0
    assert estimate["took_bytes"] == max(row["peak_bytes"] for row in rows) > 0

    details = " ".join(harness("show", "run", "--details").stdout.split())
    assert re.search(r"estimate 6 cases on 2 processes; time .*, took .*\(x[\d.]+\); memory of an accuracy", details)
