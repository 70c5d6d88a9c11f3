"""docs/suites.md describes every key that a suite file may have, and no other; its example is a suite that runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness import suite as suites
from harness.api import Suite
from harness.host import load_host
from harness.suite import read_suite
from harness.suite_claims import CLAIM, FORMS
from harness.suite_comparison import COMPARISON
from tests.conftest import ROOT, Harness

PAGE = (ROOT / "docs/suites.md").read_text(encoding="utf-8")


def section(heading: str) -> str:
    """Return what the page says below a heading of the second level."""
    (found,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return found


def keys(text: str) -> list[str]:
    """Return the first cells of all tables in a text that are keys."""
    return re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)


def cells(line: str) -> list[list[str]]:
    """Return the keys in each cell of a row."""
    return [re.findall(r"`(\w+)`", cell) for cell in line.strip("| ").split("|")]


@pytest.mark.parametrize(
    ("heading", "known"),
    [
        ("Required keys", suites._REQUIRED),
        ("Optional keys", suites._OPTIONAL),
        ("Short forms", suites._OVERRIDES),
        ("What is compared", COMPARISON),
        ("Claims", CLAIM),
    ],
)
def test_every_key_has_a_row_and_every_row_is_a_key(heading: str, known: object) -> None:
    assert keys(section(heading)) == list(known)


def test_every_kind_of_claim_is_described_with_its_keys() -> None:
    found = [re.match(r"\| (\w+) \| `", line) for line in section("Claims").splitlines()]
    rows = [(match[1], *cells(match.string)[1:3]) for match in found if match]
    assert rows == [(form.kind, [*form.keys], [*form.extras]) for form in FORMS]
    assert "`metric`" in section("Claims")


def test_defaults_are_those_of_the_code() -> None:
    defaults = dict(re.findall(r"^\| `(\w+)` \| [^|]* \| (\d+) \|", section("Optional keys"), re.MULTILINE))
    assert defaults == {
        "tuning_seeds": str(suites.DEFAULT_TUNING_SEEDS),
        "rounds": str(suites.DEFAULT_ROUNDS),
        "repeatability": str(Suite.__dataclass_fields__["repeatability"].default),
    }


# ------------------------------------------------------------------------------------------------ the example


@pytest.fixture
def example(tmp_path: Path) -> Path:
    ((name, text),) = re.findall(r"```toml file=(\S+)\n(.*?)```", PAGE, re.DOTALL)
    file = tmp_path / name
    file.write_text(text)
    return file


def test_the_example_uses_every_key(example: Path) -> None:
    used = set(re.findall(r"^\[*(\w+)\]*(?: = .*)?$", example.read_text(encoding="utf-8"), re.MULTILINE))
    assert {*suites._REQUIRED, *suites._OPTIONAL} - {"source"} <= used  # a model is the reader's own


@pytest.mark.parametrize("form", ["full", "quick", "track"])
def test_the_example_is_a_suite_in_all_its_forms(example: Path, form: str) -> None:
    suite = read_suite(str(example), load_host(), form=form)
    assert isinstance(suite, Suite)
    assert suite.form == form
    assert suite.margins == {"accuracy": 1.0, "loss": 0.05}


@pytest.mark.slow
def test_the_example_runs_by_the_command_of_the_page(example: Path, harness: Harness) -> None:
    (command,) = re.findall(r"^\$ harness (.*)$", section("An example"), re.MULTILINE)
    done = harness(*command.replace("./", f"{example.parent}/").split(), timeout=900)
    assert done.returncode == 0, done.stderr
    assert "lora/lora:rank=8" in done.stdout
    assert "pissa-beats-lora" in done.stdout
