"""One thread, as in a run; the path of the kernel that a test is for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from harness_nf4 import kernel

HERE = Path(__file__).parent


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library with AVX-512 in plain C++, so that its path can be tested on any x86 processor."""
    sys.path.insert(0, str(HERE.parent))
    try:
        import build_kernel
    finally:
        sys.path.remove(str(HERE.parent))
    target = tmp_path_factory.mktemp("emulated") / "libkernel.so"
    header = HERE / "avx512_emulated.h"
    problem = build_kernel.build(target, "-mavx2", "-mfma", f'-DHARNESS_EMULATED_AVX512="{header}"')
    if problem:
        pytest.skip(problem)
    return target


@pytest.fixture(params=["portable", "avx2", "avx512", "avx512 emulated"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Each path, forced; AVX-512 as it is where the processor has it, and emulated everywhere."""
    if not kernel.available():
        pytest.skip("the plugin was installed without a compiler")
    name, _, emulation = request.param.partition(" ")
    if emulation:
        monkeypatch.setattr(kernel, "LIBRARY", request.getfixturevalue("emulated"))
    if name not in kernel.supported_paths():
        pytest.skip(f"this processor has no {name}")
    with kernel.use_path(name):
        yield name
