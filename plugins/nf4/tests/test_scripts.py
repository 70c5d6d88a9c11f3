"""Scripts of reports: each does what its technique does, to the last bit, in a process without the harness."""

from __future__ import annotations

import contextlib
import io
import pkgutil
import subprocess
import sys

import harness_nf4
import pytest
import torch

from harness.api import Unavailable
from harness.families.quantize.contract import QuantizeTechnique
from harness.plan import missing_requirements

ALONE = """
import io, sys, torch
torch.set_num_threads(1)
sys.modules['harness'] = None  # any import of it fails
found = {}
for name, (script, weight, inputs) in torch.load(io.BytesIO(sys.stdin.buffer.read())).items():
    names = {'torch': torch}
    exec(script, names)
    shape, dtype = tuple(weight.shape), weight.dtype
    packed = names['quantize'](weight)
    products = [names['linear'](x, packed, shape, dtype) for x in inputs]
    found[name] = [packed, names['dequantize'](packed, shape, dtype), products]
out = io.BytesIO()
torch.save(found, out)
sys.stdout.buffer.write(out.getvalue())
"""

DOUBLE = ("nf4", "fp8-e4m3", "int4-affine", "k-means", "bitsandbytes", "kernel")
SPECS = {technique.id: technique for technique in harness_nf4.register_techniques() if technique.contract == "quantize"}
CASES = {
    **{name: (name, {}) for name in SPECS},
    **{f"{name}:double": (name, {"double": True}) for name in DOUBLE},
    **{f"kernel:{precision}": ("kernel", {"precision": precision}) for precision in ("exact", "fixed")},
    "int4pack:float32": ("int4pack", {"scales": "float32"}),
}


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


WEIGHT = normal(0, 64, 256)
INPUTS = [normal(1, 3, 256), normal(2, 1, 256).bfloat16()]


@pytest.fixture(scope="module")
def techniques() -> dict[str, QuantizeTechnique]:
    """Those that can run here."""
    found = {}
    for case, (name, changed) in CASES.items():
        spec = SPECS[name]
        if not missing_requirements(spec.requires):
            params = {**spec.params, **changed}
            with contextlib.suppress(Unavailable):
                found[case] = pkgutil.resolve_name(spec.target)(**params)
    return found


@pytest.fixture(scope="module")
def alone(techniques) -> dict[str, list]:
    """What their scripts give in a process that cannot import the harness."""
    data = io.BytesIO()
    torch.save({name: (technique.script, WEIGHT, INPUTS) for name, technique in techniques.items()}, data)
    done = subprocess.run([sys.executable, "-c", ALONE], input=data.getvalue(), capture_output=True, check=False)
    assert not done.returncode, done.stderr.decode()
    return torch.load(io.BytesIO(done.stdout))


@pytest.mark.parametrize("name", CASES)
def test_a_script_does_what_its_technique_does(name, techniques, alone) -> None:
    if name not in techniques:
        pytest.skip("cannot run here")
    technique = techniques[name]
    assert "harness." not in technique.script
    packed = technique.quantize(WEIGHT)
    tensors, values, products = alone[name]
    assert set(tensors) == set(packed.tensors)
    for key, tensor in packed.tensors.items():
        assert torch.equal(tensors[key], tensor), key
    assert torch.equal(values, technique.dequantize(packed))
    for x, product in zip(INPUTS, products, strict=True):
        assert torch.equal(product, technique.linear(x, packed))
