"""The suite ``peft``: what its verdicts must say, and what they must not."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from harness.analysis.compare import Rule, compare_family, compare_pair
from harness.suite import read_suite
from tests.conftest import Harness

VECTORS = Path(__file__).parent / "data/peft_accuracy.json"
"""Accuracy by workload, technique and seed, of a run of the suite: ``harness export json``, the final rows."""

LADDER = ("head", "bitfit", "ia3", "lora", "full")

SAME_TECHNIQUE = """
from harness.api import Technique, hookimpl

HARNESS_API = 1


@hookimpl
def register_techniques():
    return [
        Technique(
            id=f"copy-{number}",
            contract="finetune",
            target="same_lora:Burnt",
            summary="LoRA with other draws",
            params={"burn": number},
        )
        for number in range(6)
    ]
"""

BURNT = """
import torch
from harness_lora.lora import Lora


class Burnt(Lora):
    def __init__(self, burn):
        super().__init__(rank=4, alpha=4)
        self.burn = burn

    def adapt(self, model, task):
        torch.rand(1000 * (self.burn + 1), generator=task.generator)
        return super().adapt(model, task)
"""


@pytest.mark.thorough
def test_more_of_the_model_trained_is_better_step_by_step(harness: Harness) -> None:
    chosen = [argument for name in LADDER for argument in ("--technique", f"lora/{name}")]
    done = harness("run", "--suite", "peft", "--workload", "digits-split", *chosen, "--quiet", timeout=600)
    assert done.returncode == 0, done.stderr
    rows = json.loads(harness("export", "json").stdout)
    figures = json.loads(harness("show", "run", "--format", "json").stdout)
    (workload,) = figures["workloads"]
    tuned = {technique["technique"]: technique["tuning"]["tuned"] for technique in workload["techniques"]}
    scores = {
        name: {
            row["seed"]: row["metrics"]["accuracy"]
            for row in rows
            if row["technique"] == f"lora/{name}"
            and row["lane"] == "accuracy"
            and row["tuned"] == tuned[f"lora/{name}"]
        }
        for name in LADDER
    }
    rule = Rule(margin=1.0, higher_is_better=True)
    verdicts = [compare_pair(scores[more], scores[less], rule).verdict for less, more in pairwise(LADDER)]
    assert verdicts[:3] == ["better"] * 3, scores
    assert verdicts[3] in ("better", "same", "undecided"), scores


@pytest.mark.thorough
def test_one_technique_under_several_names_is_not_told_apart(harness: Harness, tmp_path: Path) -> None:
    folder = tmp_path / "cwd"
    (folder / "harness_same.py").write_text(SAME_TECHNIQUE)
    (folder / "same_lora.py").write_text(BURNT)
    suite = """
title = "The same technique"
version = 1
contract = "finetune"
baseline = "lora/lora"
workloads = ["digits-mlp"]
techniques = ["same/*"]
seeds = 5
metrics = ["accuracy"]
[tuning]
lr = [1e-2]
[margins]
accuracy = 1.0
"""
    (folder / "same.toml").write_text(suite)
    done = harness("run", "-p", "harness_same", "--suite", "same.toml", "--quiet", "--format", "json", timeout=900)
    assert done.returncode == 0, done.stderr
    (workload,) = json.loads(done.stdout)["workloads"]
    copies = [technique for technique in workload["techniques"] if technique["technique"] != "lora/lora"]
    assert len(copies) == 6
    means = {copy["technique"]: copy["comparison"]["difference"]["value"] for copy in copies}
    assert len(set(means.values())) > 1, "the copies must draw differently, or nothing is tested"
    assert {copy["comparison"]["verdict"] for copy in copies} <= {"same", "undecided"}, means


@pytest.mark.parametrize("seeds", [5, 10])
def test_stored_noise_gives_no_false_verdict_in_95_of_100_comparisons_of_a_technique_with_itself(seeds: int) -> None:
    """Differences of a technique with itself are drawn from the stored residuals of the suite's own run."""
    stored = json.loads(VECTORS.read_text())
    rule = Rule(margin=read_margin(), higher_is_better=True)
    for workload, techniques in stored.items():
        residuals = np.concatenate([np.subtract(values, np.mean(values)) for values in techniques.values()])
        draw = np.random.default_rng(7)
        false = trials = 0
        for _ in range(60):
            family = draw.choice(residuals, size=(len(techniques), seeds))
            baseline = dict(enumerate(draw.choice(residuals, size=seeds)))
            found = compare_family({str(i): dict(enumerate(scores)) for i, scores in enumerate(family)}, baseline, rule)
            trials += len(found)
            false += sum(comparison.verdict in ("better", "worse") for comparison in found.values())
        assert false / trials <= 0.05, f"{workload}: {false} of {trials}"


def read_margin() -> float:
    from harness.host import load_host

    return read_suite("peft", load_host()).margins["accuracy"]
