"""What tiles of AMX need of the system and of a process, and what they leave to the other products of a process."""

from __future__ import annotations

import ctypes
import mmap
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from harness_nf4 import kernel
from harness_nf4.native_technique import Kernel

NATIVE = kernel.LIBRARY.parent

REFUSED = 77

SMALL_STACK = f"""
import ctypes
import sys

class Stack(ctypes.Structure):
    _fields_ = [("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]

room = ctypes.create_string_buffer(2048)  # the tiles of a thread, which a signal saves there, are 8192 bytes
if ctypes.CDLL(None).sigaltstack(ctypes.byref(Stack(ctypes.addressof(room), 0, 2048)), None):
    sys.exit({REFUSED})

from harness_nf4 import kernel

print(*kernel.supported_paths())
"""


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def at_the_end_of_a_page(tensor: torch.Tensor) -> torch.Tensor:
    """Return a copy after whose last byte a page lies that nobody may read or write."""
    pages = -(-tensor.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    room = mmap.mmap(-1, pages + mmap.PAGESIZE)
    guard = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(room)) + pages)
    assert ctypes.CDLL(None).mprotect(guard, mmap.PAGESIZE, 0) == 0
    copy = torch.frombuffer(room, dtype=tensor.dtype, count=tensor.numel(), offset=pages - tensor.nbytes)
    return copy.view(tensor.shape).copy_(tensor)


@pytest.fixture
def tiles() -> None:
    """Skip a test where the processor or the system has no tiles."""
    if not kernel.available() or "avx512-amx" not in kernel.supported_paths():
        pytest.skip("this processor has no avx512-amx")


def test_a_system_that_is_not_linux_compiles_the_kernel_without_tiles(tmp_path: Path) -> None:
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    (tmp_path / "sys").mkdir()
    (tmp_path / "sys" / "syscall.h").write_text("#error Linux's own header\n", encoding="utf-8")
    command = [compiler, "-std=c++17", "-U__linux__", "-fsyntax-only", "-I", str(tmp_path), str(NATIVE / "kernel.cpp")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("tiles")
def test_a_process_that_linux_gives_no_tiles_takes_the_path_without_them() -> None:
    done = subprocess.run([sys.executable, "-c", SMALL_STACK], capture_output=True, text=True, check=False)
    if done.returncode == REFUSED:
        pytest.skip("this system refuses such a stack, whatever a process uses")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [path for path in kernel.PATHS if path != "avx512-amx"]


@pytest.mark.usefixtures("tiles")
def test_threads_that_multiply_by_turns_with_torch_get_the_same_bits() -> None:
    technique = Kernel(levels="nf4")
    ours = [(technique.quantize(normal(n, n, 320)), normal(n + 1, n % 50 + 5, 320).bfloat16()) for n in (80, 131, 515)]
    theirs = [(normal(n, n, 320).bfloat16(), normal(n + 1, 320, n + 3).bfloat16()) for n in (3, 20, 64)]
    products = [technique.linear(x, packed) for packed, x in ours], [left @ right for left, right in theirs]
    wrong: list[int] = []

    def repeat(first: int) -> None:
        for turn in range(first, first + 60):
            packed, x = ours[turn % 3]
            left, right = theirs[turn // 3 % 3]
            if not torch.equal(technique.linear(x, packed), products[0][turn % 3]):
                wrong.append(turn)
            if not torch.equal(left @ right, products[1][turn // 3 % 3]):
                wrong.append(-turn)

    workers = [threading.Thread(target=repeat, args=(first,)) for first in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


@pytest.mark.parametrize("path", ["avx512-bf16", "avx512-amx"])
@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize(("of_inputs", "of_weights"), [(1.0, 1.0), (1e-39, 1e37), (1e-20, 1e-19)])  # of some, subnormal
def test_the_emulation_multiplies_to_the_same_bits_as_an_intel_processor(
    force_path: Callable[[str], AbstractContextManager[str]],
    path: str,
    interleaved: bool,
    of_inputs: float,
    of_weights: float,
) -> None:
    technique = Kernel(levels="nf4", interleaved=interleaved)
    found = []
    for place in (path, f"{path} emulated"):
        with force_path(place):
            if not kernel.loaded(NATIVE / "libkernel.so").harness_prefers_integers():
                pytest.skip("the order of roundings in a dot product is that of Intel's manual")
            packed = technique.quantize(of_weights * normal(0, 130, 576))
            matrix = technique._matrix(packed)
            for inputs in (3, 24, 37):
                product = matrix.multiply_halves((of_inputs * normal(1, inputs, 576)).bfloat16())
                assert product is not None
                found.append(product)
    for here, emulated in zip(found[:3], found[3:], strict=True):
        assert torch.equal(here, emulated)


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize(("rows", "columns"), [(37, 192), (80, 64), (129, 320)])
def test_products_read_nothing_beyond_what_they_are_given(
    path_of_halves: str, rows: int, columns: int, interleaved: bool
) -> None:
    technique = Kernel(levels="nf4", interleaved=interleaved)
    packed = technique.quantize(normal(0, rows, columns))
    guarded = replace(packed, tensors={name: at_the_end_of_a_page(of) for name, of in packed.tensors.items()})
    for inputs in (1, 2, 5, 13, 17, 130):
        x = normal(1, inputs, columns).bfloat16()
        expected = technique.linear(x, packed)
        assert torch.equal(technique.linear(at_the_end_of_a_page(x), guarded), expected), f"{path_of_halves}, {inputs}"
