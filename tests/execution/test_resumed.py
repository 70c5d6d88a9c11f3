"""What a stored run must say to be resumed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from harness.api import UsageError
from harness.execution.session import resumed_selection


@pytest.mark.parametrize(
    "selection", [{}, {"params": {}, "lanes": "time", "device": "cpu"}, {"params": [], "lanes": []}]
)
def test_a_damaged_selection_is_refused(selection: dict) -> None:
    info = SimpleNamespace(id="r", suite=SimpleNamespace(id="toys"), selection=selection)
    with pytest.raises(UsageError, match="cannot be resumed"):
        resumed_selection(info)  # type: ignore[arg-type]
