"""The news fragments in changelog/ are well-formed, and become a section of CHANGELOG.md."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from harness import __version__
from tests.conftest import ROOT

FOLDER = ROOT / "changelog"
OTHER_FILES = {"README.md", "template.md.jinja"}


def kinds() -> set[str]:
    """Return the kinds of fragments that pyproject.toml declares."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return {kind["directory"] for kind in settings["tool"]["towncrier"]["type"]}


def problems_of(name: str, text: str) -> list[str]:
    """Return what is wrong with a fragment of this name and text, by the rules of changelog/README.md."""
    stem = name.removesuffix(".md").split(".")
    kind = next((part for part in stem[1:] if not part.isdigit()), "")
    found = []
    if not name.endswith(".md") or not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", stem[0]) or len(stem) not in (2, 3):
        found.append("expected a name like suite-keys.feature.md")
    if kind not in kinds():
        found.append(f"kind {kind!r}: expected one of {', '.join(sorted(kinds()))}")
    if not text.strip() or "\n\n" in text.strip():
        found.append("expected one paragraph")
    if re.match(r"\s*([#*-]|\d+\.)\s", text):
        found.append("expected neither a heading nor a bullet")
    if not text.strip().endswith("."):
        found.append("expected full sentences, the last of which ends with a full stop")
    return found


def test_every_fragment_is_well_formed() -> None:
    fragments = [path for path in sorted(FOLDER.iterdir()) if path.name not in OTHER_FILES]
    found = {path.name: problems_of(path.name, path.read_text(encoding="utf-8")) for path in fragments}
    assert not any(found.values()), {name: problems for name, problems in found.items() if problems}


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("costs.feature.md", "A suite states its costs.\n", None),
        ("suite-keys.1.fix.md", "A suite with two titles\nis refused.\n", None),
        ("costs.feature", "A suite states its costs.\n", "a name like"),
        ("Costs_new.feature.md", "A suite states its costs.\n", "a name like"),
        ("costs.features.md", "A suite states its costs.\n", "kind 'features'"),
        ("costs.md", "A suite states its costs.\n", "kind ''"),
        ("costs.feature.md", "\n", "one paragraph"),
        ("costs.feature.md", "A suite states its costs.\n\nThat is new.\n", "one paragraph"),
        ("costs.feature.md", "- A suite states its costs.\n", "a bullet"),
        ("costs.feature.md", "# Costs.\n", "a heading"),
        ("costs.feature.md", "costs in suites", "full sentences"),
    ],
)
def test_a_fragment_that_breaks_a_rule_is_named_with_the_rule(name: str, text: str, problem: str | None) -> None:
    found = problems_of(name, text)
    assert (not found) if problem is None else any(problem in line for line in found)


def test_the_readme_explains_every_kind_and_no_other() -> None:
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([a-z]+)` \|", page, re.MULTILINE)) == kinds()


def test_fragments_become_the_newest_section_and_are_deleted(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "changelog")
    for name in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "changelog/marbles.feature.md").write_text("Marbles are\ncounted.\n")
    (tmp_path / "changelog/marbles.fix.md").write_text("A marble is not lost.\n")
    command = [sys.executable, "-m", "towncrier", "build", "--yes", "--version", "99.1.0", "--date", "2099-01-02"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.split(r"^## ", text, flags=re.MULTILINE)[1]
    assert newest.startswith("99.1.0 (2099-01-02)\n\n### ")
    assert newest.endswith(".\n\n")
    assert "- Marbles are\n  counted.\n" in newest
    assert "- A marble is not lost.\n" in newest
    assert {path.name for path in (tmp_path / "changelog").iterdir()} == OTHER_FILES


def test_the_changelog_has_a_section_for_the_version() -> None:
    assert f"\n## {__version__} (" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
