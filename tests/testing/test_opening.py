"""What a plugin's own benchmark asks for: the techniques beside a baseline, and one line where there is none."""

from __future__ import annotations

import pytest

from harness.host import load_host
from harness.testing import opening, rivals
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def family(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load the example of a family as a plugin of the host that the benchmark sees."""
    monkeypatch.syspath_prepend(ROOT / "examples/harness-retrieve")
    host = load_host(["harness_retrieve"])
    monkeypatch.setattr(opening, "load_host", lambda: host)


def test_rivals_are_the_other_techniques_of_the_plugin() -> None:
    assert rivals("retrieve/exact") == ["retrieve/8-bit", "retrieve/inverted-lists", "retrieve/random-projections"]


def test_a_technique_whose_requirement_is_missing_is_no_rival(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "missing_requirements", lambda _: ["peft"])
    assert rivals("retrieve/exact") == []


@pytest.mark.parametrize(
    ("baseline", "line"),
    [
        ("retrieve/plain", "no technique 'retrieve/plain': plugin 'retrieve' has retrieve/8-bit, retrieve/exact, "),
        (
            "retriever/exact",
            "no technique 'retriever/exact': plugin 'retriever' is not installed; run pip install -e",
        ),
    ],
)
def test_a_baseline_that_is_not_there_is_told_with_what_there_is(baseline: str, line: str) -> None:
    with pytest.raises(LookupError) as caught:
        rivals(baseline)
    assert str(caught.value).startswith(line)
