"""The documentation is run: generated pages are current, the tutorial's files work, and its commands run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from tests.conftest import ROOT
from tests.tools import load_tool

TUTORIAL = ROOT / "docs/writing-a-plugin.md"
FAMILY = ROOT / "docs/writing-a-family.md"
EXAMPLE = ROOT / "examples/harness-retrieve"


def commands_of(page: Path) -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ harness")]


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-m", *shlex.split(command)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=900, check=False
    )


def test_generated_pages_are_current() -> None:
    generate = load_tool("generate")
    for name, write in generate.PAGES.items():
        assert (ROOT / "docs" / name).read_text(encoding="utf-8") == write(), f"run: python tools/generate.py ({name})"


@pytest.fixture
def tutorial(tmp_path: Path) -> Path:
    """The tutorial's files, as a reader would have typed them."""
    files = re.findall(r"```\w+ file=(\S+)\n(.*?)```", TUTORIAL.read_text(encoding="utf-8"), re.DOTALL)
    assert len(files) == 4
    for name, text in files:
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.slow
def test_the_tutorial_s_plugin_conforms_and_its_commands_run(tutorial: Path) -> None:
    site = tutorial / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*install, "--target", str(site), str(tutorial)], check=True)
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_bias.py"],
        cwd=tutorial, env={**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert tested.returncode == 0, tested.stdout
    assert " passed" in tested.stdout
    for command in commands_of(TUTORIAL):
        done = run(command, tutorial)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        assert "bias/late" in done.stdout


def excerpts() -> list[tuple[str, str]]:
    """Return the blocks of code of the page on families: the file of the example that each is from, and its text."""
    return re.findall(r"```\w+ file=(\S+)\n(.*?)```", FAMILY.read_text(encoding="utf-8"), re.DOTALL)


def test_the_page_on_families_has_the_example_s_own_code() -> None:
    assert len(excerpts()) >= 10
    for name, text in excerpts():
        code = (EXAMPLE / name).read_text(encoding="utf-8")
        assert text in code, f"docs/writing-a-family.md has other code than {name}:\n{text}"


def test_the_page_on_families_names_every_file_of_the_example() -> None:
    page = FAMILY.read_text(encoding="utf-8")
    for path in [*EXAMPLE.glob("harness_retrieve/**/*.py"), *EXAMPLE.glob("harness_retrieve/suites/*.toml")]:
        assert path.name in page, f"docs/writing-a-family.md does not say what {path.name} is for"


@pytest.mark.slow
def test_the_commands_of_the_page_on_families_run(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "example")
    commands = commands_of(FAMILY)
    assert commands
    for command in commands:
        done = run(command, tmp_path / "example")
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        assert "retrieve" in done.stdout


@pytest.mark.slow
def test_the_readme_s_commands_run(tmp_path: Path) -> None:
    commands = commands_of(ROOT / "README.md")
    assert commands
    for command in commands:
        done = run(command, tmp_path)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        assert done.stdout.strip()


PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [
        *ROOT.glob("*.md"),
        *(page for room in ("docs", "examples", "harness") for page in (ROOT / room).rglob("*.md")),
    ]
)


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{page} links to {target}"


def anchors_of(page: Path) -> set[str]:
    """Return the names by which links lead to the headings of a page, as GitHub makes them."""
    headings = re.findall(r"(?m)^#+ (.*)$", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_to_headings_lead_somewhere(page: str) -> None:
    path = ROOT / page
    links = re.findall(r"\]\(([^)#:]*)#([^)]+)\)", path.read_text(encoding="utf-8"))
    for target, anchor in links:
        assert anchor in anchors_of(path.parent / target if target else path), f"{page}: {target}#{anchor}"


@pytest.mark.parametrize("page", PAGES)
def test_commands_that_pages_name_exist(page: str) -> None:
    known = set(re.findall(r"(?m)^## `harness (\w+ \w+)`$", (ROOT / "docs/commands.md").read_text(encoding="utf-8")))
    named = re.findall(r"harness ((?:show|cache) [a-z]+)", (ROOT / page).read_text(encoding="utf-8"))
    assert set(named) <= known


def test_every_hook_is_called_by_a_test_and_documented() -> None:
    from harness import hookspecs

    hooks = [name for name, value in vars(hookspecs).items() if hasattr(value, "harness_spec")]
    assert len(hooks) >= 14
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    documented = (ROOT / "docs/hooks.md").read_text(encoding="utf-8")
    for hook in hooks:
        assert f"def {hook}(" in tests, f"no test implements {hook}"
        assert f"## `{hook}`" in documented


TERMS = {"lane", "stage", "form", "phase", "probe", "block", "turn", "round", "unit", "job", "case", "row", "claim"}


def test_the_glossary_explains_the_terms_with_the_values_that_they_have() -> None:
    from harness.api import LANES, STATUSES, Form, Stage

    page = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    terms = dict(re.findall(r"^\| \*\*([a-z ]+)\*\* \| (.*) \|$", page, re.MULTILINE))
    assert terms.keys() >= TERMS
    for term, values in (("lane", LANES), ("status", STATUSES), ("form", get_args(Form)), ("stage", get_args(Stage))):
        assert set(re.findall(r"`([a-z]+)`", terms[term])) == set(values)


def test_the_page_of_each_family_says_what_its_judge_defends_against() -> None:
    pages = sorted((ROOT / "docs/families").glob("*.md"))
    assert len(pages) == len(list((ROOT / "harness/families").glob("*/contract.py")))
    for page in pages:
        _, _, rest = page.read_text(encoding="utf-8").partition("## What the judge defends against")
        planted = re.findall(r"`(tests/\S+\.py)`", rest.partition("\n## ")[0])
        assert planted, f"{page.name} names no test that plants a cheat"
        assert all((ROOT / name).exists() for name in planted)
