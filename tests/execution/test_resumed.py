"""What a stored run must say to be resumed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.api import UsageError
from harness.execution.session import resumed_selection
from harness.execution.surroundings import of_suite
from harness.host import load_host
from harness.suite import read_suite

TOYS = Path(__file__).parents[1] / "toy"


@pytest.mark.parametrize(
    "selection", [{}, {"params": {}, "lanes": "time", "device": "cpu"}, {"params": [], "lanes": []}]
)
def test_a_damaged_selection_is_refused(selection: dict) -> None:
    suite = SimpleNamespace(id="toys", settings={"model": "/m", "data": "/my data.csv"})
    info = SimpleNamespace(id="r", suite=suite, selection=selection, plugins=(), folder=Path("r"))
    again = r"(?s)cannot be resumed.* harness run --suite toys --model /m --data '/my data\.csv'"
    with pytest.raises(UsageError, match=again):
        resumed_selection(info)  # type: ignore[arg-type]


def test_a_run_knows_the_state_of_its_suite_and_a_resumed_run_keeps_it(tmp_path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(TOYS)
    host = load_host(["harness_toy"], entry_points=False)
    file = tmp_path / "toys.toml"
    file.write_text((TOYS / "toys.toml").read_text())
    suite = read_suite(str(file), host)
    begun = of_suite(host, suite).environment
    assert begun["suite"]["dirty"] is True
    file.unlink()
    assert of_suite(host, suite, begun).environment["suite"] == begun["suite"]
    assert "suite" not in of_suite(host, suite, {}).environment
