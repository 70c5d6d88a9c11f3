"""Reads from the text of modules, none of which is imported, what they import and which files they may name."""

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

_LONGEST: Final = 200
"""Characters of a text that may be the name of a file."""


@dataclass(frozen=True, kw_only=True)
class Top:
    """A top-level module or package: the folders of a package (several of a namespace), or the file of a module."""

    name: str
    folders: tuple[Path, ...] = ()
    file: Path | None = None

    @property
    def is_namespace(self) -> bool:
        """Return whether it is a package without a file of its own, which several distributions may share."""
        return self.file is None

    @property
    def parents(self) -> tuple[Path, ...]:
        """Return the folders that it lies in."""
        return tuple(folder.parent for folder in self.folders) or ((self.file.parent,) if self.file else ())


def find_top(name: str) -> Top | None:
    """Return the top-level module of a name, found without importing it; None where there is none with a file."""
    top = name.partition(".")[0]
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # a module that was made by hand has no spec
        spec = PathFinder.find_spec(top)
    if spec is None:
        return None
    folders = tuple(dict.fromkeys(Path(folder).resolve() for folder in spec.submodule_search_locations or ()))
    file = Path(spec.origin).resolve() if spec.origin and spec.has_location else None
    return Top(name=top, folders=folders, file=file) if folders or file else None


def module_file(name: str, parents: Iterable[Path]) -> Path | None:
    """Return the source of a module below one of the folders that its top-level package lies in."""
    for parent in parents:
        base = parent.joinpath(*name.split("."))
        for file in (base / "__init__.py", base.with_name(f"{base.name}.py")):
            if file.is_file():
                return file
    return None


@dataclass(frozen=True, kw_only=True)
class Text:
    """What the text of a module says: the names it imports, and the texts in it that may be patterns of file names."""

    imports: tuple[str, ...]
    patterns: tuple[str, ...]


def read(name: str, file: Path) -> Text:
    """Return what the module ``name`` imports and names; nothing where its text is no Python."""
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
    """Yield the names that a statement imports, each of which may be a module or an attribute of one."""
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
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _pattern(node: ast.AST) -> str:
    """Return a text of the source as a pattern: an f-string with ``*`` for what is put in, a suffix with it before."""
    if isinstance(node, ast.JoinedStr):
        parts = [str(part.value) if isinstance(part, ast.Constant) else "*" for part in node.values]
        return "".join(parts)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        text = node.value
        if 0 < len(text) < _LONGEST and "\n" not in text:
            return f"*{text}" if text.startswith(".") and "/" not in text else text
    return ""


def reached(starts: Iterable[str], tops: Mapping[str, Sequence[Path]]) -> tuple[dict[str, Path], frozenset[str]]:
    """Return the modules that ``starts`` import, from module to module, with their files; and all other names.

    ``tops`` holds for each top-level name to follow the folders that it lies in.
    """
    waiting = list(starts)
    found: dict[str, Path] = {}
    others: set[str] = set()
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        parents = tops.get(name.partition(".")[0])
        file = module_file(name, parents) if parents else None
        if file is None:
            others.add(name)
            continue
        found[name] = file
        waiting += read(name, file).imports
        waiting += [name.rpartition(".")[0]] if "." in name else []  # the package is imported first
    return found, frozenset(others)


def is_standard(name: str) -> bool:
    """Return whether a top-level name is of the standard library or built in."""
    return name in sys.stdlib_module_names
