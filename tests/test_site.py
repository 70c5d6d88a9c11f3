"""The site of the documentation: every page has a place in its menu, and every link between pages leads to one."""

from __future__ import annotations

import posixpath
import re
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.browser import dom
from tests.conftest import ROOT
from tests.tools import load_tool

hooks = load_tool("site/hooks")
SETTINGS: dict[str, Any] = yaml.safe_load((ROOT / "tools/site/mkdocs.yml").read_text(encoding="utf-8"))
OTHERS = frozenset(hooks.outside())
"""The paths in the repository, and in the site, of the pages that do not lie in docs/."""


def places(menu: list[Any]) -> Iterator[str]:
    """Yield the pages of a menu in its order."""
    for entry in menu:
        value = next(iter(entry.values())) if isinstance(entry, dict) else entry
        yield from places(value) if isinstance(value, list) else [value]


PAGES = list(places(SETTINGS["nav"]))


def source_of(page: str) -> Path:
    return ROOT / (page if page in OTHERS else f"docs/{page}")


def test_every_page_has_one_place_in_the_menu() -> None:
    of_docs = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert sorted(PAGES) == sorted(of_docs | {page for page in OTHERS if page.endswith(".md")})


def test_the_menu_begins_with_the_readme_and_ends_with_what_maintainers_read() -> None:
    assert [next(iter(entry)) for entry in SETTINGS["nav"]] == [
        "Start", "Run", "Own models", "Authors", "Families", "Reference", "Project",
    ]  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_links_of_the_site_s_pages_lead_to_its_pages(page: str) -> None:
    text = hooks.adapted(source_of(page).read_text(encoding="utf-8"), page, OTHERS)
    prose = re.sub(r"(?ms)^```.*?^```$", "", text)
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", prose):
        place = posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
        assert source_of(place).is_file(), f"{page} leads to {place}"
        assert place in PAGES or not place.endswith(".md"), f"{page} leads to {place}, which the site does not have"


@pytest.mark.parametrize(
    ("page", "text", "expected"),
    [
        ("README.md", "[a](docs/suites.md#keys)", "[a](suites.md#keys)"),
        ("README.md", "![a](docs/peft.svg)", "![a](peft.svg)"),
        ("suites.md", "[a](../README.md), [b](gate.md)", "[a](README.md), [b](gate.md)"),
        ("families/route.md", "[a](../../plugins/moe/README.md)", "[a](../plugins/moe/README.md)"),
        ("families/route.md", "[a](../suites.md)", "[a](../suites.md)"),
        ("plugins/moe/README.md", "[a](../../docs/families/route.md)", "[a](../../families/route.md)"),
        ("plugins/moe/README.md", "[a](../../README.md#more)", "[a](../../README.md#more)"),
        ("suites.md", "[a](#keys) [b](https://example.org/a.md)", "[a](#keys) [b](https://example.org/a.md)"),
        ("suites.md", "```text\n[a](../README.md)\n```\n", "```text\n[a](../README.md)\n```\n"),
        ("suites.md", "| `a \\| b` | c \\| d |\n", "| `a | b` | c \\| d |\n"),
        ("suites.md", "Not a row: `a \\| b`.\n", "Not a row: `a \\| b`.\n"),
        ("suites.md", "```python file=a/b.py\nx = 1\n```\n", '```python title="a/b.py"\nx = 1\n```\n'),
        (
            "suites.md",
            "a\n\n```mermaid\nb --> c\n```\n",
            'a\n\n??? note "The diagram, as text"\n    ```text\n    b --> c\n    ```\n',
        ),
    ],
)
def test_a_page_is_adapted_to_its_place(page: str, text: str, expected: str) -> None:
    assert hooks.adapted(text, page, OTHERS) == expected


def test_whatever_is_wrong_fails_the_build() -> None:
    assert SETTINGS["strict"] is True
    assert {level for part in SETTINGS["validation"].values() for level in part.values()} == {"warn"}


def test_the_environment_of_the_harness_has_nothing_of_the_site_s() -> None:
    pinned = {
        name: set(re.findall(r"(?m)^([\w-]+)==\S+$", (ROOT / name).read_text(encoding="utf-8")))
        for name in ("requirements.txt", "tools/site/requirements.txt")
    }
    assert {"mkdocs", "mkdocs-material"} <= pinned["tools/site/requirements.txt"] - pinned["requirements.txt"]
    ignored = subprocess.run(["git", "check-ignore", "site/index.html"], cwd=ROOT, capture_output=True, check=False)
    assert ignored.returncode == 0


class Loaded(HTMLParser):
    """Collects what a page loads: scripts, styles, pictures and frames; a link that a reader follows is none."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        name = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src"}.get(tag, "")
        self.addresses += [value for key, value in attrs if key == name and value]


@pytest.mark.exhaustive
def test_the_built_site_is_complete_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    done = subprocess.run(["make", "site"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = sorted((ROOT / "site").rglob("*.html"))
    assert len(pages) >= len(PAGES)
    for page in pages:
        loaded = Loaded()
        loaded.feed(page.read_text(encoding="utf-8"))
        assert loaded.addresses
        assert not [address for address in loaded.addresses if re.match(r"(?i)([a-z]+:)?//", address)], page
    found = dom(f"{(ROOT / 'site/index.html').as_uri()}?q=fewest_stacked", tmp_path)
    assert re.search(r'href="[^"]*/api\.html[^"]*#workloadspec" class="md-search-result__link"', found)
