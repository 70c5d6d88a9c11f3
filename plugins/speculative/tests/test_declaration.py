"""What the plugin says of itself, before torch is anywhere near."""

from __future__ import annotations

import subprocess
import sys

from harness_speculative import register_techniques

TECHNIQUES = register_techniques()


def test_declaring_imports_no_torch() -> None:
    code = (
        "import sys, harness_speculative; harness_speculative.register_techniques();"
        "print({'torch', 'transformers'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_ids_are_told_apart() -> None:
    assert len({technique.id for technique in TECHNIQUES}) == len(TECHNIQUES) >= 8


def test_what_needs_transformers_says_so() -> None:
    for technique in TECHNIQUES:
        assert bool(technique.requires) == (".library:" in technique.target)
