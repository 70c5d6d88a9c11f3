"""What the plugin imports, and what it leaves out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ADAPTED = """
import sys
import torch
from types import SimpleNamespace
from harness_lora import lora, vectors

for technique in (lora.dora(rank=2, alpha=2), vectors.IA3(), vectors.Vera(rank=2, d_initial=0.1), vectors.Miss(rank=2)):
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    parts = {"linears": ["0"], "feedforward": ["0"], "keys": [], "values": [], "fused": []}
    technique.insert(model, SimpleNamespace(**parts, generator=torch.Generator()))
assert sys.modules.get("bitsandbytes", "left out") == "left out"
import bitsandbytes
"""


def test_adapting_does_not_import_bitsandbytes_which_others_still_can(tmp_path: Path) -> None:
    (tmp_path / "bitsandbytes.py").write_text("print('imported')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", ADAPTED],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "imported\n"), done.stderr
