"""Adapts the pages to the site: those outside of docs/ join it, and links between pages lead to their places in it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]

OUTSIDE: Final = ("*.md", "LICENSE", "changelog/README.md", "examples/*/README.md", "harness/**/*.md", "plugins/*/*.md")
"""The pages outside of docs/; each keeps its path, and those of docs/ are beside them without the folder's name."""

_LINK: Final = re.compile(r"(?<=\]\()(?![a-z]+:)([^)#\s]+)")
"""The path of a link to another page, without the heading."""

_ROW: Final = re.compile(r"(?m)^\|.*\|$")
"""A row of a table."""

_FENCE: Final = re.compile(r"(?ms)^```(\w*)[^\n]*\n.*?^```$")


def outside() -> list[str]:
    """Return the paths of the pages outside of docs/, relative to the repository."""
    return sorted({path.relative_to(ROOT).as_posix() for pattern in OUTSIDE for path in ROOT.glob(pattern)})


def adapted(text: str, page: str, others: frozenset[str]) -> str:
    """Return the Markdown of a page for the site: its links, the names of files above code, and no diagram.

    ``page`` is the path within the site, ``others`` are the paths of the pages from outside of docs/.
    """
    folder = posixpath.dirname(page if page in others else f"docs/{page}")

    def moved(link: re.Match[str]) -> str:
        place = posixpath.normpath(posixpath.join(folder, link[1])).removeprefix("docs/")
        return posixpath.relpath(place, posixpath.dirname(page) or ".")

    return "".join(
        _block(part) if is_code else _ROW.sub(_pipes, _LINK.sub(moved, part)) for is_code, part in _parts(text)
    )


def _parts(text: str) -> Iterator[tuple[bool, str]]:
    """Yield the parts of a page in order: whether each is a fenced block of code, and its text."""
    end = 0
    for fence in _FENCE.finditer(text):
        yield False, text[end : fence.start()]
        yield True, fence[0]
        end = fence.end()
    yield False, text[end:]


def _pipes(row: re.Match[str]) -> str:
    """Return a row of a table without the backslashes that GitHub wants before a bar in code, and the site shows."""
    return re.sub(r"`[^`]*`", lambda code: code[0].replace("\\|", "|"), row[0])


def _block(code: str) -> str:
    """Return a block of code with its file's name as its title; a diagram as its source, which a reader may open.

    What draws such diagrams in a browser would be loaded from elsewhere.
    """
    if code.startswith("```mermaid"):
        lines = code.replace("```mermaid", "```text", 1).splitlines()
        return "\n".join(['??? note "The diagram, as text"', *(f"    {line}" for line in lines)])
    return re.sub(r"\A(```\w+) file=(\S+)", r'\1 title="\2"', code)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Name the headings as GitHub does, so that links to them lead to the same place on both."""
    from pymdownx.slugs import slugify

    config.mdx_configs["toc"] = {**config.mdx_configs.get("toc", {}), "slugify": slugify(case="lower")}
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside of docs/, and what the site has of its own."""
    from mkdocs.structure.files import File

    own = {path.name: path for path in (HERE / "site.css", HERE / "iframe-worker.js")}
    for name, path in ({place: ROOT / place for place in outside()} | own).items():
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Return the Markdown of a page for the site."""
    return adapted(markdown, page.file.src_uri, frozenset(outside()))
