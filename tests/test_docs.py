"""The documentation is run: generated pages are current, the tutorial's files work, and its commands run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True, kw_only=True)
class Installed:
    """An environment that holds what others' packages are installed, and has our own to install, as wheels."""

    python: Path
    wheels: Path

    def run(self, commands: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """Run commands in a shell as a user types them one after the other; the first that fails ends it."""
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("HARNESS_", "PYTHON"))},
            "PATH": f"{self.python.parent}:{os.environ['PATH']}",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "PIP_NO_BUILD_ISOLATION": "0",  # pip reads this as: no isolation, hatchling is here
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "OMP_NUM_THREADS": "1",
        }
        return subprocess.run(
            ["bash", "-exc", commands], cwd=folder, env=environment,
            capture_output=True, text=True, timeout=900, check=False,
        )  # fmt: skip


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    """An environment without a checkout: links to the packages that are installed here, none of them ours."""
    wheels, place = tmp_path / "wheels", tmp_path / "environment"
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*wheel, str(wheels), str(ROOT), str(ROOT / "plugins/lora")], check=True)
    venv.create(place, symlinks=True)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(place), "platbase": str(place)}))
    for folder in map(Path, reversed(sys.path)):
        if folder.name == "site-packages":
            for package in folder.iterdir():
                if "harness" not in package.name and package.suffix != ".pth":
                    (site / package.name).unlink(missing_ok=True)
                    (site / package.name).symlink_to(package)
    return Installed(python=place / "bin/python", wheels=wheels)


def edited(text: str, change: str) -> str:
    """Return a text with a change: lines that begin with - or a blank are found, those with + or a blank stay."""
    lines = change.splitlines(keepends=True)
    before, after = ("".join(line[1:] for line in lines if line[0] in marks) for marks in ("- ", "+ "))
    assert text.count(before) == 1, f"expected once:\n{before}"
    return text.replace(before, after)


def steps_of(page: Path) -> Iterator[tuple[str, str, str]]:
    """Yield the blocks of a page in their order: language, name of the file if any, and text."""
    yield from re.findall(r"(?ms)^```(\w+)(?: file=(\S+))?\n(.*?)^```$", page.read_text(encoding="utf-8"))


@pytest.mark.thorough
def test_the_page_on_plugins_works_line_by_line_from_an_empty_folder(installed: Installed, tmp_path: Path) -> None:
    place = tmp_path / "empty"
    place.mkdir()
    printed, package = [], place / "harness-bias"
    for language, name, text in steps_of(TUTORIAL):
        if language == "console":
            commands = "".join(f"{line.removeprefix('$ ')}\n" for line in text.splitlines())
            done = installed.run(commands, package if package.is_dir() else place)
            assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
            printed.append(done.stdout)
        elif language == "diff":
            (package / name).write_text(edited((package / name).read_text(), text))
        elif name:
            assert (package / name).read_text() == text
    begun, changed, tested, beside = printed
    assert "bias/plain" in begun
    assert "bias/first" in begun
    assert "bias/whole" not in begun
    assert "bias/whole" in changed
    assert "weights true" in changed
    assert re.search(r"\d+ passed", tested)
    assert all(name in beside for name in ("lora/full", "lora/head", "bias/first", "bias/whole"))


@pytest.mark.parametrize("change", ["-c\n+d\n", " b\n-c\n", "-a\n+b\n"])
def test_a_change_that_a_file_does_not_have_once_is_no_change(change: str) -> None:
    with pytest.raises(AssertionError, match="expected once"):
        edited("a\nb\na\n", change)


def test_a_change_takes_the_place_of_its_lines() -> None:
    assert edited("a\n  b\nc\n", " a\n-  b\n+  d\n+e\n") == "a\n  d\ne\nc\n"


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


@pytest.mark.thorough
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
