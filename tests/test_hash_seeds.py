"""What commands print does not depend on the order of sets; the forks of the other tests all have one hash seed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

TOYS = Path(__file__).parent / "toy"
TOY = ("-p", "harness_toy", "--no-plugins")
SEEDS = ("1", "2")

WITHOUT_A_RUN = (
    ("list", "techniques"),
    ("show", "suite", "peft"),
    ("show", "contract", "finetune"),
    ("plugins", "--json"),
    ("claims", "--json"),
    ("baselin",),
    ("run", "--suite", "peft", "--quick", "--dry-run"),
)
OF_A_RUN = (
    ("show", "run", "last", "--details", *TOY),
    ("export", "csv", "last"),
    ("history", "--json"),
    ("report", *TOY, "last", "--output", "pages"),
)
ALONE = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}|\d{4}-\d{2}-\d{2}T[\d:.]+\+00:00")
"""What each run has of its own: its id, and moments."""

Asked = Callable[[str, Sequence[str]], str]


@pytest.fixture
def ask(tmp_path: Path) -> Asked:
    """Return what an interpreter of a hash seed prints, with its exit code; each has a folder."""

    def run(seed: str, command: Sequence[str]) -> str:
        place = tmp_path / seed
        place.mkdir(exist_ok=True)
        own = {"PYTHONHASHSEED": seed, "PYTHONPATH": str(TOYS), "OMP_NUM_THREADS": "1", "HARNESS_CACHE": str(place)}
        kept = {name: value for name, value in os.environ.items() if name != "HARNESS_PLUGINS"}
        done = subprocess.run(
            [sys.executable, "-m", "harness", *command],
            cwd=place, env={**kept, **own}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return f"{done.returncode}\n{done.stdout}{done.stderr}"

    return run


def test_the_seeds_give_sets_another_order() -> None:
    code = "print(*{f'toys/{letter}' for letter in 'abcdefgh'})"
    printed = {
        subprocess.check_output([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed})
        for seed in SEEDS
    }  # fmt: skip
    assert len(printed) == len(SEEDS), "else the test below cannot fail"


@pytest.mark.thorough
def test_commands_print_the_same_whatever_the_order_of_sets_is(
    ask: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = ("--suite", "toys", "--technique", "good", "--quick", "--lane", "accuracy", "--executor", "inline")
    run = ("run", *TOY, *chosen, "--format", "json", "--quiet")
    with ThreadPoolExecutor(len(SEEDS)) as pool:

        def printed(command: Sequence[str]) -> list[str]:
            return [*pool.map(lambda seed: ask(seed, command), SEEDS)]

        for command in (*WITHOUT_A_RUN, run):
            first, second = (
                ALONE.sub("", text.replace(str(tmp_path / seed), ""))
                for seed, text in zip(SEEDS, printed(command), strict=True)
            )
            assert first == second, command
            assert first.startswith("2\n" if command == ("baselin",) else "0\n"), first
        monkeypatch.setenv("HARNESS_STORE", str(tmp_path / SEEDS[0] / ".harness"))  # so that it is one run
        for command in OF_A_RUN:
            first, second = printed(command)
            assert first == second, command
            assert first.startswith("0\n"), first
    (page,) = (tmp_path / SEEDS[0] / "pages").glob("2*.html")
    assert page.read_text() == (tmp_path / SEEDS[1] / "pages" / page.name).read_text()
