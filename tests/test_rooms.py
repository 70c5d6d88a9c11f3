"""The picture of the rooms shows the imports that there are, and leaves out those that follow from others."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import ROOT
from tests.tools import load_tool


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    return load_tool("generate")


def graph_of(**rooms: str) -> dict[str, frozenset[str]]:
    return {room: frozenset(others.split()) for room, others in rooms.items()}


def test_rooms_and_imports_are_read_off_modules_and_packages(generate: ModuleType, tmp_path: Path) -> None:
    package = tmp_path / "house"
    files = {
        "__init__.py": "from house.attic import roof\n",
        "__main__.py": "import house.attic\n",
        "cellar.py": "import os\nfrom pathlib import Path\n",
        "kitchen/__init__.py": "",
        "kitchen/stove.py": "def cook():\n    from house import cellar\n    import house.kitchen.pots\n",
        "kitchen/pots/__init__.py": "",
        "attic.py": "from house.kitchen.stove import cook\nfrom house import __version__\nimport otherhouse.cellar\n",
        "notes/readme.txt": "no room",
    }
    for name, text in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    assert generate.room_imports(package) == graph_of(cellar="", kitchen="cellar", attic="kitchen")


def test_what_follows_from_other_arrows_is_left_out(generate: ModuleType) -> None:
    chain = graph_of(roof="floor cellar ground", floor="cellar ground", cellar="ground", ground="")
    assert generate.arrows(chain) == [("cellar", "ground"), ("floor", "cellar"), ("roof", "floor")]


def test_all_arrows_of_a_circle_are_shown(generate: ModuleType) -> None:
    circle = graph_of(a="b", b="c", c="a d", d="")
    assert generate.arrows(circle) == [("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")]
    assert generate.reached(circle, "a") == {"a", "b", "c", "d"}
    assert generate.reached(circle, "d") == set()


def test_everything_that_can_be_reached_by_imports_can_be_reached_by_arrows(generate: ModuleType) -> None:
    graph = generate.room_imports(ROOT / "harness")
    shown: dict[str, set[str]] = {room: set() for room in graph}
    for room, other in generate.arrows(graph):
        shown[room].add(other)
    assert {room: generate.reached(shown, room) for room in graph} == {
        room: generate.reached(graph, room) for room in graph
    }


def test_the_table_names_every_import(generate: ModuleType) -> None:
    text = generate.picture(graph_of(b="a", a=""), {"a": "The ground.", "b": ""})
    assert "    b --> a\n" in text
    assert "| `a` | The ground. | nothing of the project |" in text
    assert "| `b` | — | `a` |" in text
