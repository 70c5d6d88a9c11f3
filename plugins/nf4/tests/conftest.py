"""One thread, as in a run; the path of the kernel that a test is for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from harness_nf4 import kernel

HERE = Path(__file__).parent
EMULATION = HERE / "avx512_emulated.h"


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


def compile_emulated(header: Path, target: Path, *flags: str) -> None:
    """Compile the library with AVX-512 in plain C++ as ``header`` says it; skip the test where there is no compiler."""
    sys.path.insert(0, str(HERE.parent))
    try:
        import build_kernel
    finally:
        sys.path.remove(str(HERE.parent))
    problem = build_kernel.build(target, *flags, "-mavx2", "-mfma", f'-DHARNESS_EMULATED_AVX512="{header}"')
    if problem:
        pytest.skip(problem)


@pytest.fixture(scope="session")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library with AVX-512 in plain C++, so that its path can be tested on any x86 processor."""
    target = tmp_path_factory.mktemp("emulated") / "libkernel.so"
    compile_emulated(EMULATION, target)
    return target


@pytest.fixture(scope="session")
def compile_faulty(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Return the library whose emulated AVX-512 has ``wrong`` where it should have ``right``."""

    def compiled(right: str, wrong: str) -> Path:
        folder = tmp_path_factory.mktemp("faulty")
        text = EMULATION.read_text(encoding="utf-8")
        assert text.count(right) == 1, f"the header has {right!r} {text.count(right)} times"
        header, target = folder / "faulty.h", folder / "libkernel.so"
        header.write_text(text.replace(right, wrong), encoding="utf-8")
        compile_emulated(header, target, "-O1")  # sooner made than run
        return target

    return compiled


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
