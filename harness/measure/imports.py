"""Parses modules without importing them, to find what they import and which files their texts may name."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Final

_MAX_CHARACTERS: Final = 200
"""A text of this length or longer is not taken for the name of a file."""


@dataclass(frozen=True, kw_only=True)
class Top:
    """A top-level module or package: the folders of a package (several of a namespace), or the file of a module."""

    name: str
    folders: tuple[Path, ...] = ()
    file: Path | None = None

    @property
    def is_namespace(self) -> bool:
        """Whether this is a namespace package, which has no ``__init__`` file and may be shared by distributions."""
        return self.file is None

    @property
    def parents(self) -> tuple[Path, ...]:
        """The folders that contain the module or package."""
        return tuple(folder.parent for folder in self.folders) or ((self.file.parent,) if self.file else ())


def find_top(name: str) -> Top | None:
    """Return the top-level module of a dotted name, without importing it; None where no file or folder is found."""
    top = name.partition(".")[0]
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # a module object that was created by hand has no spec
        spec = PathFinder.find_spec(top)
    if spec is None:
        return None
    folders = tuple(dict.fromkeys(Path(folder).resolve() for folder in spec.submodule_search_locations or ()))
    file = Path(spec.origin).resolve() if spec.origin and spec.has_location else None
    return Top(name=top, folders=folders, file=file) if folders or file else None


def module_file(name: str, parents: Iterable[Path]) -> Path | None:
    """Return the source file of a module, searched in the folders that contain its top-level package; else None."""
    for parent in parents:
        base = parent.joinpath(*name.split("."))
        for file in (base / "__init__.py", base.with_name(f"{base.name}.py")):
            if file.is_file():
                return file
    return None


@dataclass(frozen=True, kw_only=True)
class Text:
    """The names that a module imports, and the string literals in it that may be patterns of file names."""

    imports: tuple[str, ...]
    patterns: tuple[str, ...]


def read(name: str, file: Path) -> Text:
    """Return the imports and patterns of the module ``name``; none where the file is not valid Python."""
    state = file.stat()
    return _read(name, file, state.st_size, state.st_mtime_ns)


@cache
def _read(name: str, file: Path, _size: int, _mtime_ns: int) -> Text:
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return Text(imports=(), patterns=())
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    imports: dict[str, None] = {}
    patterns: dict[str, None] = {}
    for node in ast.walk(tree):
        imports.update(dict.fromkeys(_imported(node, package)))
        if pattern := _pattern(node):
            patterns[pattern] = None
    return Text(imports=tuple(imports), patterns=tuple(patterns))


def _imported(node: ast.AST, package: str) -> Iterator[str]:
    """Yield the names that a node imports, each of which may be a module or an attribute of a module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parts = package.split(".")
            base = ".".join(filter(None, [*parts[: len(parts) - node.level + 1], base]))
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call) and _name_of(node.func) in ("import_module", "__import__", "find_spec"):
        yield from (arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str))


def _name_of(function: ast.expr) -> str:
    """Return the name of a called function without the objects before it; empty where it has no name."""
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _pattern(node: ast.AST) -> str:
    """Return a string literal as a pattern of file names, empty where the node is no such literal.

    Replacement fields of an f-string become ``*``, and ``*`` is put before a suffix like ``.bin``.
    """
    if isinstance(node, ast.JoinedStr):
        parts = [str(part.value) if isinstance(part, ast.Constant) else "*" for part in node.values]
        return "".join(parts)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        text = node.value
        if 0 < len(text) < _MAX_CHARACTERS and "\n" not in text:
            return f"*{text}" if text.startswith(".") and "/" not in text else text
    return ""


def reached(starts: Iterable[str], tops: Mapping[str, Sequence[Path]]) -> tuple[dict[str, Path], frozenset[str]]:
    """Return the modules that ``starts`` import, directly or indirectly, with their files; and all other names.

    ``tops`` maps each top-level name that is followed to the folders that contain it.
    """
    waiting = list(starts)
    modules: dict[str, Path] = {}
    others: set[str] = set()
    visited: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in visited:
            continue
        visited.add(name)
        parents = tops.get(name.partition(".")[0])
        file = module_file(name, parents) if parents else None
        if file is None:
            others.add(name)
            continue
        modules[name] = file
        waiting += read(name, file).imports
        waiting += [name.rpartition(".")[0]] if "." in name else []  # importing a module imports its package first
    return modules, frozenset(others)


def is_standard(name: str) -> bool:
    """Return whether a top-level name is in the standard library, built-in modules included."""
    return name in sys.stdlib_module_names
