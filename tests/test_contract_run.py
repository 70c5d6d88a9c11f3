"""A family from outside, by its contract alone: its phase is measured and shown, and techniques are held to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Harness

PLUGIN = """
from pathlib import Path
from harness.api import Contract, Metric, Technique, WorkloadSpec, hookimpl

HARNESS_API = 1

@hookimpl
def register_contracts():
    return [Contract(id="code", protocol="code_judge:Codes", summary="codes of rows", phases={"encode": "a row"})]

@hookimpl
def register_workloads():
    return [
        WorkloadSpec(
            id="vectors", contract="code", target="code_judge:Vectors", summary="rows of numbers", version=1,
            metrics=("sparsity",), phases=("encode",),
        )
    ]

@hookimpl
def register_metrics():
    return [Metric(id="sparsity", unit="%", higher_is_better=True, summary="zeros of a code", lane="accuracy")]

@hookimpl
def register_techniques():
    return [
        Technique(id=name.lower(), contract="code", target=f"code_judge:{name}", summary=f"a code that is {name}")
        for name in ("Whole", "Half", "Nameless", "Mute")
    ]

@hookimpl
def register_suites():
    return [Path(__file__).with_name("coding.toml")]
"""

JUDGE = '''
from typing import Protocol
import torch
from harness.api import OpenCase, Outcome, Phase

class Named(Protocol):
    """Something with a name."""

    name: str
    """Return to whom it belongs."""

class Codes(Named, Protocol):
    """What a technique of this contract builds."""

    def encode(self, row: torch.Tensor) -> torch.Tensor:
        """Return the code of a row, float32 ``(n,)``."""

class Whole:
    name = "whole"
    def encode(self, row):
        return row + 0

class Half(Whole):
    def encode(self, row):
        return torch.where(torch.arange(len(row)) % 2 == 0, row, 0)

class Nameless:
    encode = Whole.encode

class Mute:
    name = "mute"
    encode = "no method"

class Vectors:
    def prepare(self, context): pass
    def check(self, technique, context): pass
    def evaluate(self, technique, context):
        code = technique.encode(torch.ones(1000))
        return Outcome(metrics={"sparsity": 100 * float((code == 0).float().mean())})
    def open(self, technique, context):
        row = torch.ones(1000)
        return OpenCase(phases={"encode": Phase(run=lambda: technique.encode(row), samples=1000)})
'''

SUITE = """
title = "Coding"
version = 1
contract = "code"
baseline = "code/whole"
workloads = ["vectors"]
techniques = ["*"]
seeds = 2
metrics = ["sparsity"]
select = "sparsity"
rounds = 5

[margins]
sparsity = 1.0
"""

LACKS = "the technique lacks {} of the contract code; see: harness show contract code"


@pytest.fixture
def coding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harness: Harness) -> Harness:
    """The command, where a family ``code`` lies on the path."""
    folder = tmp_path / "code"
    folder.mkdir()
    for name, text in (("harness_code.py", PLUGIN), ("code_judge.py", JUDGE), ("coding.toml", SUITE)):
        (folder / name).write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return harness


def test_a_phase_of_an_outside_contract_has_its_columns_in_the_table(coding: Harness) -> None:
    done = coding("-p", "harness_code", "--no-plugins", "run", "--suite", "coding", timeout=900, COLUMNS="160")
    assert "Traceback" not in done.stderr
    table = done.stdout
    (headers,) = (line for line in table.splitlines() if line.startswith("technique "))
    assert "encode/s" in headers
    assert "sparsity" in headers
    rows = json.loads(coding("export", "json").stdout)
    measured = {key for row in rows if row["status"] == "ok" for key in row["metrics"]}
    assert {"encode_time", "encode_throughput", "encode_tensor_peak", "encode_process_peak", "sparsity"} <= measured
    reasons = {row["technique"]: row["reason"] for row in rows if row["status"] == "incorrect"}
    assert reasons == {"code/nameless": LACKS.format("name"), "code/mute": LACKS.format("encode")}
    assert not any(key.startswith("protocol") for row in rows for key in row)


def test_an_outside_contract_is_shown_without_importing_its_judge(coding: Harness) -> None:
    text = coding("-p", "harness_code", "--no-plugins", "show", "contract", "code").stdout
    for words in ("name: str", "to whom it belongs", "encode(row: torch.Tensor) -> torch.Tensor", "code/vectors"):
        assert words in text
    listed = json.loads(coding("-p", "harness_code", "--no-plugins", "list", "contracts", "--json").stdout)
    (own,) = (entry for entry in listed if entry["id"] == "code")
    assert (own["techniques"], own["workloads"], own["phases"]) == (4, 1, {"encode": "a row"})
