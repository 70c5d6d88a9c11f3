"""What the plugin declares: nothing of a library that is not there, and whether its kernel is."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import harness_nf4
import pytest
import torch

from harness.api import NotApplicable, Unavailable
from harness.host import load_host
from harness.plan import install_hint

TECHNIQUES = {technique.id: technique for technique in harness_nf4.register_techniques()}


@pytest.mark.parametrize("name", ["bitsandbytes", "bitsandbytes-eval", "bitsandbytes-fp4", "torchao", "triton"])
def test_a_peer_names_the_library_it_needs_and_the_command_that_brings_it(name) -> None:
    requires = TECHNIQUES[name].requires
    assert [requirement.split(">=")[0] for requirement in requires] == [name.removesuffix("-fp4").removesuffix("-eval")]
    assert f'pip install "{requires[0]}"' in install_hint(requires)


def test_what_is_not_a_peer_needs_nothing_more() -> None:
    peers = {"bitsandbytes", "bitsandbytes-eval", "bitsandbytes-fp4", "torchao", "triton"}
    assert {name for name, technique in TECHNIQUES.items() if technique.requires} == peers


def test_the_listing_says_when_the_kernel_is_missing(monkeypatch) -> None:
    module = importlib.import_module("harness_nf4")
    assert not module.HARNESS_NOTE
    monkeypatch.setattr(Path, "is_file", lambda _: False)
    try:
        importlib.reload(module)
        assert "for want of a compiler" in module.HARNESS_NOTE
        (record,) = [plugin for plugin in load_host().plugins if plugin.name == "nf4"]
        assert record.status == "ok"
        assert "the reference runs instead" in record.cause
    finally:
        monkeypatch.undo()
        importlib.reload(module)


def test_without_a_compiler_the_build_says_so_and_what_to_do(tmp_path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import build_kernel, pathlib; "
        "print(build_kernel.build(pathlib.Path(sys.argv[2])))"
    )
    arguments = [sys.executable, "-c", code, str(Path(__file__).parents[1]), str(tmp_path / "libkernel.so")]
    done = subprocess.run(arguments, env={"PATH": ""}, capture_output=True, text=True, check=True)
    assert "no C++ compiler" in done.stdout
    assert "set CXX" in done.stdout
    assert not (tmp_path / "libkernel.so").exists()


@pytest.mark.parametrize("name", ["int4pack", "int8pack", "compiled", "bitsandbytes-eval"])
def test_what_is_made_for_processors_does_not_apply_elsewhere(name, monkeypatch) -> None:
    monkeypatch.setattr("harness_nf4.reference.require_running", lambda _: None)
    if name == "bitsandbytes-eval":
        library = pytest.importorskip("bitsandbytes.functional")
        monkeypatch.setattr(library, "has_avx512bf16", lambda: True)
        monkeypatch.setattr("harness_nf4.bits_and_bytes.require_running", lambda _: None)
    spec = TECHNIQUES[name]
    technique = pkgutil.resolve_name(spec.target)(**spec.params)
    with pytest.raises(NotApplicable, match="on processors alone, and the weight is on meta"):
        technique.quantize(torch.empty(64, 128, device="meta"))


@pytest.mark.parametrize(
    ("name", "operator"), [("int8pack", "_weight_int8pack_mm"), ("int4pack", "_weight_int4pack_mm_for_cpu")]
)
def test_a_peer_that_cannot_run_here_is_unavailable_in_its_own_words(name, operator, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise NotImplementedError("no kernel for this processor")

    monkeypatch.setattr(torch, operator, refuse)
    spec = TECHNIQUES[name]
    with pytest.raises(Unavailable, match="NotImplementedError: no kernel for this processor"):
        pkgutil.resolve_name(spec.target)(**spec.params)
