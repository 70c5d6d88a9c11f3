"""The frame of every page: its style, its scripts, and the policy that lets a browser run these and nothing else."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

SCRIPT: Final = "plotly.min.js"
"""Plotly's JavaScript, which all pages of a folder share."""

INDEX: Final = "index.html"

TEMPLATES: Final = Path(__file__).parent / "templates"

_FACT: Final = re.compile(r'<meta name="(?:harness:)?([a-z]+)" content="(.*?)">', re.DOTALL)
_TITLE: Final = re.compile(r"<title>(.*?)</title>", re.DOTALL)

_FIRST_ROWS: Final = 200
"""How many rows of a table a page shows before a reader asks for more."""

_HEAD_BYTES: Final = 6000
"""How much of a page is read for its facts, which stand at its beginning."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What the template of every page needs: the code within the page, and the address of Plotly's."""

    style: str
    theme: str
    script: str
    policy: str
    plotly: str = SCRIPT


@dataclass(frozen=True, kw_only=True)
class Head:
    """What stands in a page's head: ``facts`` are kept there for `facts_of`.

    ``charts`` says whether the page needs Plotly, and ``whole`` whether Plotly's code will stand in the page itself.
    ``script`` names a script among the `TEMPLATES` that this page alone has.
    """

    title: str
    description: str
    facts: Mapping[str, str] = field(default_factory=dict)
    charts: bool = True
    whole: bool = False
    script: str = ""


def rendered(template: str, head: Head, **values: Any) -> str:
    """Return a page of one of the `TEMPLATES`."""
    frame = _frame(head.charts, head.whole, head.script)
    text: str = _environment().get_template(template).render(frame=frame, head=head, **values)
    return text


def facts_of(path: Path) -> dict[str, str]:
    """Return the title, the description and the facts of a page of ours; nothing for another file."""
    with path.open(encoding="utf-8", errors="replace") as file:
        head = file.read(_HEAD_BYTES)
    title = _TITLE.search(head)
    found = {name: html.unescape(text) for name, text in _FACT.findall(head)}
    return {"title": html.unescape(title[1]), **found} if title and "description" in found else {}


def write_script(folder: Path) -> None:
    """Write the installed Plotly's JavaScript, unless the folder has the same version."""
    path, text = folder / SCRIPT, plotly()
    if not path.is_file() or path.stat().st_size != len(text.encode()):
        path.write_text(text, encoding="utf-8")


@cache
def plotly() -> str:
    """Return the JavaScript of the installed Plotly."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def source(name: str) -> str:
    """Return the text of a file among the `TEMPLATES`."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


@cache
def _frame(charts: bool, whole: bool, own: str) -> Frame:
    theme = source("theme.js")
    script = "".join(map(source, ["tables.js", *(["page.js"] if charts else []), *([own] if own else [])]))
    codes = [theme, script, *([plotly()] if whole else [])]
    return Frame(style=source("style.css"), theme=theme, script=script, policy=policy(codes, shared=charts))


def policy(codes: list[str], *, shared: bool) -> str:
    """Return the policy under which a page runs these codes, and ``shared`` ones beside it, and loads nothing else.

    A page that is opened as a file has no origin, so that its scripts beside it are allowed as files. Plotly sets
    styles, so that these are allowed within the page.
    """
    digests = [base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for code in codes]
    scripts = " ".join([*(["'self'", "file:"] if shared else []), *(f"'sha256-{digest}'" for digest in digests)])
    parts = ("default-src 'none'", f"script-src {scripts}", "style-src 'unsafe-inline'", "img-src data:")
    return "; ".join([*parts, "base-uri 'none'", "form-action 'none'"])


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["further"] = _further
    return environment


def _further(loop: Any) -> str:
    """Return the begin of a table's second body where a loop over its rows has written those that are shown first."""
    from markupsafe import Markup

    return Markup('</tbody><tbody class="further">') if loop.index0 == _FIRST_ROWS else ""
