"""One thread, as in a run; the path of the kernel that a test is for."""

from __future__ import annotations

import fcntl
import os
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Protocol

import pytest
import torch
from harness_nf4 import kernel

HERE = Path(__file__).parent
EMULATION = HERE / "avx512_emulated.h"


@pytest.fixture
def in_random_order() -> Callable[[Iterable[str]], list[str]]:
    """Return a function that orders names anew at each call: in turns of one order each follows the same other."""
    draw = random.Random(0)

    def order(names: Iterable[str]) -> list[str]:
        listed = list(names)
        return draw.sample(listed, len(listed))

    return order


class RequireProduct(Protocol):
    """Raise AssertionError unless a product is that of float64, but for rounding in float32 and for ``beside``."""

    def __call__(
        self,
        found: torch.Tensor,
        x: torch.Tensor,
        weight: torch.Tensor,
        *,
        roundings: int | None = None,
        beside: torch.Tensor | float = 0.0,
    ) -> None: ...


@pytest.fixture(scope="session")
def require_product() -> RequireProduct:
    """Return the check of ``x @ weight.T``: sums in whatever order, fused or not, on whatever processor.

    A sum of n products each of whose terms is rounded k times, one way or another, is off by k u / (1 - k u) times the
    sum of the terms' sizes at most, u = 2^-24 (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1).
    k is n where the order is unknown: one product and n - 1 additions. ``roundings`` is k where it is known.
    """

    def check(
        found: torch.Tensor,
        x: torch.Tensor,
        weight: torch.Tensor,
        *,
        roundings: int | None = None,
        beside: torch.Tensor | float = 0.0,
    ) -> None:
        x, weight = x.detach().double(), weight.detach().double()
        k = 2.0**-24 * (x.shape[1] if roundings is None else roundings)
        allowed = k / (1 - k) * (x.abs() @ weight.abs().T) + beside
        off = (found.detach().double() - x @ weight.T).abs()
        assert (off <= allowed).all(), f"{(off / allowed).nan_to_num(0).max():.3g} of what rounding explains"

    return check


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def path_of_the_environment() -> Iterator[None]:
    """The path that HARNESS_PATH names, so that a slower one than the processor's best can be measured."""
    name = os.environ.get("HARNESS_PATH")
    with kernel.use_path(name) if name else nullcontext():
        yield


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
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the folder above theirs: one of them compiles
        folder = folder.parent
    target = folder / "emulated-libkernel.so"
    with (folder / "emulated.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            compile_emulated(EMULATION, target, "-O2")  # sooner made than with -O3, and nearly as fast
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


@pytest.fixture
def force_path(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], AbstractContextManager[str]]:
    """Return a context that forces a path; "avx512 emulated" is AVX-512 in plain C++, on any x86 processor."""

    @contextmanager
    def forced(param: str) -> Iterator[str]:
        if not kernel.available():
            pytest.skip("the plugin was installed without a compiler")
        name, _, emulation = param.partition(" ")
        if emulation:
            monkeypatch.setattr(kernel, "LIBRARY", request.getfixturevalue("emulated"))
        if name not in kernel.supported_paths():
            pytest.skip(f"this processor has no {name}")
        with kernel.use_path(name):
            yield name

    return forced


EVERY = ("portable", "avx2", "avx512", "avx512-bf16", "avx512-amx", "avx512 emulated", "avx512-bf16 emulated")


@pytest.fixture(params=EVERY)
def path(request: pytest.FixtureRequest, force_path: Callable[[str], AbstractContextManager[str]]) -> Iterator[str]:
    """Each path of the kernel, forced; AVX-512 as it is where the processor has it, and emulated everywhere."""
    with force_path(request.param) as name:
        yield name


@pytest.fixture(params=[*EVERY, "avx512-amx emulated"])
def path_of_halves(
    request: pytest.FixtureRequest, force_path: Callable[[str], AbstractContextManager[str]]
) -> Iterator[str]:
    """Each path, forced, for products in bfloat16: all that AMX has of its own, which is emulated for them alone."""
    with force_path(request.param) as name:
        yield name
