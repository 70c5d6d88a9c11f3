"""The family ``quantize`` passes what every family has to pass."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from harness.api import Json
from harness.testing import FamilyConformance
from tests.families.quantize.tiny import save_source


class TestFamily(FamilyConformance):
    plugin = "quantize"
    technique = "tests.families.quantize.quantizers:Right"
    faults: ClassVar = {
        "tests.families.quantize.quantizers:WrongOnZeros": "differ from the definition",
        "tests.families.quantize.quantizers:ChangingTheWeight": "changes the weight",
        "tests.families.quantize.quantizers:WrongOfWholeVectors": "drawn with seed",
    }

    def source(self, task: str, folder: Path) -> Mapping[str, Json]:
        return save_source(task, folder)
