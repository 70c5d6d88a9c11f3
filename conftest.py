"""Lets every test of the project and of its plugins see the same random numbers in each run."""

from __future__ import annotations

import gc
import random
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# A verdict must not depend on how busy the machine is, nor on what was drawn: every run tries the same examples, for as
# long as these take. Fixtures, such as the path of a kernel, are meant to be the same for all examples of a test.
settings.register_profile(
    "same",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("quick", settings.get_profile("same"), max_examples=25)
settings.load_profile("same")

DRAW = random.Random()
"""Stands in for the system's source of random numbers, from which the judge draws what nobody can foresee."""

random.SystemRandom.getrandbits = lambda _, k: DRAW.getrandbits(k)  # type: ignore[method-assign]
random.SystemRandom.random = lambda _: DRAW.random()  # type: ignore[method-assign]


gc.disable()  # until the tests are collected, of which almost nothing is garbage: looking for it is a third of the time


def pytest_collection_finish() -> None:
    """Leave what the collection made to itself from now on, and look for garbage among what the tests make."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Begin each test, and what is made for it, with the same states of the generators that all tests share."""
    random.seed(0)
    DRAW.seed(1)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(scope="session")
def plain_calls() -> Callable[..., Any]:
    """Return what runs a peer's script in ``docs/peers.md`` with the given names and returns its ``run``."""
    text = (Path(__file__).parent / "docs/peers.md").read_text(encoding="utf-8")
    sections = (part.partition("\n") for part in re.split(r"^##+ ", text, flags=re.MULTILINE)[1:])
    scripts = {heading: re.findall(r"```python\n(.*?)```", body, re.DOTALL) for heading, _, body in sections}

    def made(heading: str, **given: Any) -> Any:
        import torch

        names = {"torch": torch, **given}
        (script,) = scripts[heading]
        exec(compile(script, f"docs/peers.md, {heading}", "exec"), names)
        return names["run"]

    return made


@pytest.fixture(scope="session")
def shared_memory() -> Callable[..., int]:
    """Return what compiles a Triton kernel for a GPU that need not be there, and returns the shared memory it needs.

    Called with the kernel, the types of its arguments by name, its constants, and the compute capability, such as 80.
    """

    def needs(kernel: Any, types: Mapping[str, str], constants: Mapping[str, object], capability: int) -> int:
        import triton
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource

        names = kernel.arg_names
        source = ASTSource(
            fn=kernel,
            signature={name: "constexpr" if name in constants else types[name] for name in names},
            constexprs={(names.index(name),): value for name, value in constants.items()},
        )
        compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32))
        assert compiled.asm["cubin"]
        return int(compiled.metadata.shared)

    return needs
