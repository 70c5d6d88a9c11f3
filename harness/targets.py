"""Looks for what a target ``package.module:attribute`` names in the sources, and imports nothing of it."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import Final

from harness.api import nearest
from harness.foreign import contained

_BY_RUNNING: Final = re.compile(
    r"\b__getattr__\b|^\s+global |\b(globals|locals|vars|setattr|exec)\(|\bsys\.modules\b|\bimport *\(?\*",
    re.MULTILINE,
)
"""Source of a module that may have attributes which none of its own statements binds."""

_MORE_MODULES: Final = re.compile(r"\b__path__\b|\bsys\.modules\b")
"""Source of a package or module that may have modules which no file beside it holds."""

_MEND: Final = "; correct the target in register_techniques"


class _OnlyByImport(Exception):
    """Whether a module is there can be told only by importing what is around it."""


def target_problem(target: str) -> str:
    """Return what is missing of a technique's target, with the nearest name; an empty text where nothing is.

    The text is empty too where only an import would tell: of a module that is no Python source, or that makes its
    attributes while it runs.
    """
    module, _, attribute = target.partition(":")
    name = attribute.partition(".")[0]
    try:
        with contained():
            found = _found(module)
            if isinstance(found, str):
                return f"target {target!r}: {found}"
            source = _source(found)
            if not source or _BY_RUNNING.search(source) or _is_plainly_bound(name, source):
                return ""
            names = sorted({*_bound(ast.parse(source).body), *_modules_in(found)})
    except Exception:  # a finder may be anybody's, and the case that imports the module says what is wrong with it
        return ""
    return "" if name in names else f"target {target!r}: {module} has no {name!r}{nearest(name, names) or _MEND}"


def _found(module: str) -> ModuleSpec | str:
    """Return where a module is found, without importing the packages around it, or in words that it is not.

    Raises _OnlyByImport where the files do not tell.
    """
    top, *rest = module.split(".")
    spec, name = find_spec(top), top
    if spec is None:
        return f"there is no module {top!r}{nearest(top, _beside(top)) or _MEND}"
    for part in rest:
        around, inner = spec, None
        if around.submodule_search_locations is not None:
            inner = _in_package(f"{name}.{part}", list(around.submodule_search_locations))
        if inner is None:
            if f"{name}.{part}" in sys.modules or _MORE_MODULES.search(_source(around)):
                raise _OnlyByImport
            return f"{name} has no module {part!r}{nearest(part, _modules_in(around)) or _MEND}"
        spec, name = inner, f"{name}.{part}"
    return spec


def _in_package(name: str, folders: list[str]) -> ModuleSpec | None:
    """Return where a finder of this process, such as that of an editable installation, finds a module of a package."""
    found = (finder.find_spec(name, folders) for finder in sys.meta_path)
    return next((spec for spec in found if spec is not None), None)


def _source(spec: ModuleSpec) -> str:
    """Return the source of a module; an empty text where the module is no Python source."""
    path = Path(spec.origin) if spec.has_location and spec.origin else None
    return path.read_text(encoding="utf-8") if path and path.suffix == ".py" else ""


def _beside(name: str) -> list[str]:
    """Return the modules of the import path that begin like a name: a typo seldom changes the first letter."""
    return [entry.name for entry in iter_modules() if entry.name[:1] == name[:1]]


def _modules_in(spec: ModuleSpec) -> list[str]:
    """Return the names of the modules in a package."""
    return [entry.name for entry in iter_modules(spec.submodule_search_locations or ())]


def _is_plainly_bound(name: str, source: str) -> bool:
    """Return whether a line of a module begins to define the name: for most targets there is no more to look at."""
    return bool(
        re.search(rf"^(class|def|async def) {re.escape(name)}\b|^{re.escape(name)} *[:=]", source, re.MULTILINE)
    )


def _bound(body: Sequence[ast.stmt]) -> Iterator[str]:
    """Yield the names that the statements of a module bind, also where they are within an ``if`` or a ``try``."""
    nodes: list[ast.AST] = list(body)
    while nodes:
        node = nodes.pop()
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.name
                continue  # what is bound within it is none of the module's
            case ast.Import() | ast.ImportFrom():
                if not isinstance(node, ast.ImportFrom) or node.module != "__future__":
                    yield from ((alias.asname or alias.name).partition(".")[0] for alias in node.names)
            case ast.Name(ctx=ast.Store()):
                yield node.id
            case ast.MatchAs(name=str()) | ast.MatchStar(name=str()):
                yield str(node.name)
        nodes += ast.iter_child_nodes(node)
