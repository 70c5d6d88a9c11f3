"""Mistakes of authors that show when a plugin is declared, or run: each costs its own technique, and is told."""

from __future__ import annotations

import json
import os
import sys
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from harness.host import load_host
from harness.targets import target_problem
from tests.conftest import Harness, Site
from tests.test_host import HEALTHY, record

TOYS = Path(__file__).parent / "toy"

SOURCES = {
    "__init__.py": "",
    "plain.py": """
        from __future__ import annotations
        import json as text
        from os.path import join
        class Right: ...
        def make(): ...
        async def later(): ...
        Other = Right
        Typed: type = Right
        if True:
            class Within: ...
        else:
            Without = None
        try:
            import numpy as maybe
        except ImportError:
            maybe = None
        first, *others = 1, 2
        with open(__file__) as file:
            pass
        """,
    "starred.py": "from os.path import *\n",
    "lazy.py": "def __getattr__(name): return name\n",
    "filled.py": "globals()['Right'] = 3\n",
    "narrowed.py": "if True:\n    def __getattr__(name): return name\n",
    "assigned.py": "__all__, __getattr__ = [], lambda name: name\n",
    "pressed.py": "from os.path import*\n",
    "grown.py": "vars()['Right'] = 3\n",
    "put.py": "import sys\nsetattr(__import__(__name__), 'Right', 3)\n",
    "declared.py": "def fill():\n    global Right\n    Right = 3\nfill()\n",
    "wrong.py": "class Right(:\n",
    "compiled.so": "",
    "inner/__init__.py": "class Right: ...\n",
    "inner/deep.py": "class Right: ...\n",
    "moved/__init__.py": "__path__.append('elsewhere')\n",
}


@pytest.fixture
def sources(site: Site) -> Path:
    """A package ``acme_sources``, which nothing imports."""
    for name, text in SOURCES.items():
        path = site.folder / "acme_sources" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
    return site.folder


BOUND = ["Right", "make", "later", "Other", "Typed", "Within", "Without", "maybe", "first", "others", "file", "text"]
BY_IMPORT = [
    "starred:Right", "lazy:Right", "filled:Right", "declared:Right", "wrong:Wrong", "moved.deep:Right",
    "narrowed:Right", "assigned:Right", "pressed:join", "grown:Right", "put:Right",
]  # fmt: skip
FOUND = [*(f"plain:{name}" for name in (*BOUND, "join", "Right.method")), *BY_IMPORT, "inner:deep", "inner.deep:Right"]


@pytest.mark.parametrize("target", FOUND)
def test_a_target_that_is_there_or_that_only_an_import_tells_is_no_problem(sources: Path, target: str) -> None:
    assert sources
    assert target_problem(f"acme_sources.{target}") == ""
    assert "acme_sources" not in sys.modules


@pytest.mark.parametrize("target", ["os.path:join", "math:sin", "math:sinn", "sys:path", "json:dumps", "json:decoder"])
def test_a_target_of_another_library_is_no_problem(target: str) -> None:
    assert target_problem(target) == ""


def test_a_module_that_another_finder_serves_within_a_package_is_no_problem(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an editable installation that maps a package of a namespace to a folder."""
    served = tmp_path / "elsewhere.py"
    served.write_text("class Right: ...\n")

    class Finder:
        @staticmethod
        def find_spec(name: str, *_: object) -> ModuleSpec | None:
            return spec_from_file_location(name, served) if name == "acme_sources.mapped" else None

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    assert sources
    assert target_problem("acme_sources.mapped:Right") == ""
    assert "has no 'Rigth'" in target_problem("acme_sources.mapped:Rigth")


MISSING = {
    "acme_sourcess.plain:Right": "there is no module 'acme_sourcess'; did you mean 'acme_sources'?",
    "acme_sources.plian:Right": "acme_sources has no module 'plian'; did you mean 'plain'?",
    "acme_sources.inner.dep:Right": "acme_sources.inner has no module 'dep'; did you mean 'deep'?",
    "acme_sources.plain.Right:Right": "acme_sources.plain has no module 'Right'; correct the target in",
    "acme_sources.plain:Rigth": "acme_sources.plain has no 'Rigth'; did you mean 'Right'?",
    "acme_sources.plain:annotations": "acme_sources.plain has no 'annotations'; correct the target in",
    "acme_sources.inner:dep": "acme_sources.inner has no 'dep'; did you mean 'deep'?",
}


@pytest.mark.parametrize("target", MISSING)
def test_a_target_that_is_not_there_is_told_with_the_nearest_name(sources: Path, target: str) -> None:
    assert sources
    assert target_problem(target).startswith(f"target {target!r}: {MISSING[target]}")
    assert "acme_sources" not in sys.modules


@pytest.mark.parametrize(("file", "advice"), [("decl.py", "acme_ns.decl"), ("sub/__init__.py", "acme_ns.sub")])
def test_an_entry_point_that_names_a_package_without_a_file_is_told_the_module(
    site: Site, file: str, advice: str
) -> None:
    path = site.folder / "acme_ns" / file
    path.parent.mkdir(parents=True)
    path.write_text("'''A plugin.'''\nHARNESS_API = 1\n")
    (site.folder / "acme_ns/another.py").write_text("")
    site.install("acme-ns", {"spaced": "acme_ns"}, {})
    site.plugin("healthy", HEALTHY)
    host = load_host()
    cause = record(host, "spaced").cause
    assert cause.startswith("names acme_ns, a package without a file __init__.py")
    assert cause.endswith(f"name a module, like {advice}")
    assert "healthy/one" in host.techniques


DECLARES = """
    from harness.api import Technique, hookimpl

    HARNESS_API = 1

    def technique(name, target, **params):
        return Technique(id=name, contract="toy", target=target, summary="of a test", params=params)

    @hookimpl
    def register_techniques():
        return [
            technique("right", "bad_impl:Right"),
            technique("no-module", "bad_imlp:Right"),
            technique("no-attribute", "bad_impl:Rigth"),
            technique("no-library", "bad_library:Right"),
            technique("no-method", "bad_impl:NoMethod"),
            technique("other-arguments", "bad_impl:OtherArguments"),
            technique("other-parameter", "bad_impl:Right", shiftt=1.0),
        ]
"""

IMPLEMENTS = """
    class NoMethod:
        behaviour, shift = "right", 0.0

    class Right(NoMethod):
        def apply(self): return self.shift

    class OtherArguments(NoMethod):
        def apply(self, strength): return strength
"""

TOLD = {
    "no-module": "target 'bad_imlp:Right': there is no module 'bad_imlp'; did you mean 'bad_impl'?",
    "no-attribute": "target 'bad_impl:Rigth': bad_impl has no 'Rigth'; did you mean 'Right'?",
    "no-library": "ModuleNotFoundError: No module named 'acme_secret_library'",
    "no-method": "the technique lacks apply of the contract toy; see: harness show contract toy",
    "other-arguments": "it defines apply(self, strength), expected apply(self); see: harness show contract toy",
    "other-parameter": "TypeError: Right() takes no arguments",
}
BEFORE_ANY_CASE = {"bad/no-module", "bad/no-attribute"}


@pytest.fixture
def chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The arguments of a run of the techniques of a plugin that lies, with what it names, on the import path."""
    library = "import acme_secret_library\nclass Right: ...\n"
    sources = {"harness_bad": DECLARES, "bad_impl": IMPLEMENTS, "bad_library": library}
    for name, text in sources.items():
        (tmp_path / f"{name}.py").write_text(dedent(text))
    monkeypatch.setenv("PYTHONPATH", f"{TOYS}{os.pathsep}{tmp_path}")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    techniques = [part for name in ("right", *TOLD) for part in ("--technique", f"bad/{name}")]
    return ["-p", "harness_toy", "-p", "harness_bad", "--no-plugins", "--suite", "toys", *techniques]


def test_each_mistake_of_a_run_costs_its_own_technique_and_says_why(
    tmp_path: Path, harness: Harness, chosen: list[str]
) -> None:
    done = harness("run", *chosen, "--track", "--lane", "accuracy", "--format", "json")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    (stored,) = (tmp_path / "cwd/.harness/runs").glob("*/rows.jsonl")
    rows: list[dict[str, Any]] = [json.loads(line) for line in stored.read_text().splitlines()]
    assert {row["technique"] for row in rows[: len(BEFORE_ANY_CASE)]} == BEFORE_ANY_CASE
    failed = {row["technique"]: row["reason"] for row in rows if row["status"] != "ok"}
    assert failed.keys() == {f"bad/{name}" for name in TOLD}
    for name, reason in TOLD.items():
        assert failed[f"bad/{name}"].startswith(reason), failed
    assert {row["technique"] for row in rows if row["status"] == "ok"} == {"toy/base", "bad/right"}


def test_a_dry_run_tells_a_typo_in_a_target(harness: Harness, chosen: list[str]) -> None:
    done = harness("run", *chosen, "--dry-run", COLUMNS="300")
    assert done.returncode == 0, done.stderr
    for name in BEFORE_ANY_CASE:
        assert TOLD[name.partition("/")[2]] in done.stdout
