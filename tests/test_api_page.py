"""The page of the API: every public name with its documentation, and a fault for each that has none."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from textwrap import dedent

import pytest

import harness.api
from tests.conftest import ROOT, Site
from tests.tools import load_tool

PAGE = (ROOT / "docs/api.md").read_text(encoding="utf-8")

INIT = '''
    """Marbles.

    Each name stands once:

    - players: `Marble`, `COLOURS`;
    - referees: `Judge`, `weigh`.
    """

    from harness_marbles._things import COLOURS, Judge, Marble, weigh

    __all__ = ["COLOURS", "Judge", "Marble", "weigh"]
    '''
THINGS = '''
    from dataclasses import dataclass, field
    from typing import Final, Protocol

    COLOURS: Final = ("red", "blue")
    """The colours that a `Marble` may have."""


    @dataclass(frozen=True, kw_only=True)
    class Marble:
        """A ball of glass."""

        colour: str
        """One of `COLOURS`."""

        marks: dict[str, int | None] = field(default_factory=dict)
        """What was scratched into it,
        by place."""


    class Judge(Protocol):
        """Who decides."""

        def winner(self, marbles: list[Marble]) -> Marble:
            """Return the `Marble` that won."""


    def weigh(marble: Marble, *, scale: float = 1.0) -> float:
        """Return grams."""
        return scale
    '''


def page_of(site: Site, init: str = INIT, things: str = THINGS) -> str:
    """Return the page of a package with these modules, which is on the import path."""
    package = site.folder / "harness_marbles"
    package.mkdir()
    (package / "__init__.py").write_text(dedent(init))
    (package / "_things.py").write_text(dedent(things))
    return str(load_tool("generate").api("harness_marbles"))


def test_a_name_is_shown_with_its_signature_its_docstring_and_its_fields(site: Site) -> None:
    _, players, referees = page_of(site).split("\n## ")
    marble, colours = players.split("\n### ")[1:]
    assert players.startswith("Players\n")
    assert marble == dedent("""\
        `Marble`

        ```python
        @dataclass(frozen=True, kw_only=True)
        class Marble
        ```

        A ball of glass.

        | field | type | default | what it is |
        |---|---|---|---|
        | `colour` | `str` |  | One of [`COLOURS`](#colours). |
        | `marks` | `dict[str, int \\| None]` | `{}` | What was scratched into it, by place. |
        """)
    assert "COLOURS = ('red', 'blue')\n```\n\nThe colours that a [`Marble`](#marble) may have.\n" in colours
    assert "class Judge(Protocol)\n" in referees
    assert "`winner(marbles: list[Marble]) -> Marble`\n\nReturn the [`Marble`](#marble) that won.\n" in referees
    assert "weigh(marble: Marble, *, scale: float=1.0) -> float\n```\n\nReturn grams.\n" in referees


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('"""A ball of glass."""', "Marble: has no docstring"),
        ('"""One of `COLOURS`."""', "Marble.colour: has no docstring"),
        ('"""The colours that a `Marble` may have."""', "COLOURS: has no docstring"),
        ('"""Return the `Marble` that won."""', "Judge.winner: has no docstring"),
        ('"""Return grams."""', "weigh: has no docstring"),
    ],
)
def test_what_has_no_docstring_is_named(site: Site, text: str, problem: str) -> None:
    assert THINGS.count(text) == 1
    with pytest.raises(SystemExit, match=rf"(?m)^harness_marbles:\n{re.escape(problem)}\Z"):
        page_of(site, things=THINGS.replace(text, "..."))


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("`Judge`, `weigh`", "`Judge`", "weigh: stands under 0 audiences"),
        ("`Judge`, `weigh`", "`Judge`, `weigh`, `Marble`", "Marble: stands under 2 audiences"),
        ("`Judge`, `weigh`", "`Judge`, `weigh`, `Bag`", "Bag: stands under an audience, and is no public name"),
    ],
)
def test_a_name_without_one_audience_is_named(site: Site, before: str, after: str, problem: str) -> None:
    with pytest.raises(SystemExit, match=re.escape(problem)):
        page_of(site, init=INIT.replace(before, after))


def test_the_page_has_every_public_name_and_every_field() -> None:
    sections = {part.partition("`")[0]: part for part in PAGE.split("\n### `")[1:]}
    assert sections.keys() == set(harness.api.__all__)
    classes = [value for name in harness.api.__all__ if dataclasses.is_dataclass(value := getattr(harness.api, name))]
    assert len(classes) >= 23
    for described in classes:
        section = sections[described.__name__]  # type: ignore[union-attr]
        rows = re.findall(r"^\| `(\w+)` \| `[^`]+` \| (.*?) \| (.*) \|$", section, re.MULTILINE)
        fields = dataclasses.fields(described)
        assert [name for name, _, _ in rows] == [field.name for field in fields]
        for field, (_, default, text) in zip(fields, rows, strict=True):
            missing = dataclasses.MISSING
            assert bool(default.strip()) == (field.default is not missing or field.default_factory is not missing)
            assert len(text) > 5


def test_the_page_shows_the_values_of_constants() -> None:
    for name in ("LANES", "STATUSES", "API_VERSION", "DISTRIBUTION"):
        assert f"```text\n{name} = {getattr(harness.api, name)!r}\n```\n" in PAGE
    assert all(repr(status) in PAGE.partition("FAILED = ")[2].partition("\n")[0] for status in harness.api.FAILED)


def test_the_api_imports_no_torch() -> None:
    code = "import sys, harness.api; assert not {'torch', 'numpy'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
