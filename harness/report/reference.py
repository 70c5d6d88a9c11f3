"""The interface of a contract's techniques, read from the protocol's source without importing the source."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeGuard

from harness.api import UsageError

_NAME = re.compile(r"(?<!`)`(?:[A-Za-z_][\w.]*\.)?([A-Za-z_]\w*)`(?!`)")
"""A name that a docstring refers to: `Layout`, but not ``width``."""

Definition = ast.ClassDef | ast.FunctionDef | ast.Assign | ast.AnnAssign
"""What a name of a module may be: a class, a function, a constant, or another name for a type."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """An attribute (``passes: Passes``) or a method with its signature, and the docstring that explains it."""

    name: str
    signature: str
    text: str
    annotation: str = ""
    """The type of an attribute; empty for a method and a property."""

    default: str = ""
    """The default of an attribute, as a user of the class would write it; empty where it has none."""


@dataclass(frozen=True, kw_only=True)
class Described:
    """A class, a function or a constant: its signature, its docstring, and members in the order of the source."""

    name: str
    signature: str
    text: str
    members: tuple[Member, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A protocol, and what its signatures and docstrings name of the same project, directly or through one another.

    ``text`` is the docstring of the protocol's module, which introduces the contract.
    """

    module: str
    text: str
    protocol: Described
    handed: tuple[Described, ...]


def reference_of(target: str) -> Reference:
    """Return the description of the protocol ``package.module:Name``.

    Only the module's parent packages are imported. Raises UsageError where the source or the class does not exist.
    """
    module, _, name = target.partition(":")
    try:
        source = _Source(module)
    except (ModuleNotFoundError, SyntaxError) as error:
        raise UsageError(f"the protocol {target!r} cannot be read: {error}") from error
    node = source.definitions.get(name)
    if not isinstance(node, ast.ClassDef):
        raise UsageError(f"the protocol {target!r} cannot be read: {source.path} has no class {name!r}")
    return Reference(
        module=module,
        text=ast.get_docstring(source.tree) or "",
        protocol=_described(name, node, source),
        handed=tuple(_described(other, *place) for other, place in _named_by(name, node, source).items()),
    )


def description_of(target: str) -> Described | None:
    """Return the description of ``package.module:Name``, a class with its bases and its own members.

    None where nothing of that name is in the module's source or what it imports, or a constant has no docstring.
    """
    module, _, name = target.partition(":")
    place = _Source(module).find(name)
    if place is None:
        return None
    found, node = _described(name, *place), place[0]
    if not isinstance(node, ast.ClassDef):
        return found
    bases = [ast.unparse(base) for base in node.bases]
    constructor = next((_call(child) for child in node.body if _is_constructor(child)), "")
    arguments = constructor.partition(" ->")[0].removeprefix("__init__")
    lines = [
        *(f"@{ast.unparse(mark)}" for mark in node.decorator_list),
        f"class {name}({', '.join(bases)})" if bases else f"class {name}",
        *([f"{name}{arguments}"] if arguments else []),
    ]
    return replace(found, signature="\n".join(lines), members=tuple(_members(node)))


class _Source:
    """A module as it is written: its definitions, and where the names come from that it imports of its own project."""

    def __init__(self, module: str) -> None:
        found = importlib.util.find_spec(module)
        if found is None or not found.origin or not found.origin.endswith(".py"):
            raise ModuleNotFoundError(f"there is no source of the module {module!r}")
        self.module = module
        self.path = Path(found.origin)
        self.tree = ast.parse(self.path.read_text(encoding="utf-8"))
        self._imported: dict[str, _Source | None] = {}

    @cached_property
    def definitions(self) -> dict[str, Definition]:
        """Classes and functions, and assignments that a string below explains, by name."""
        found: dict[str, Definition] = {}
        for node in self.tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                found[node.name] = node
            elif isinstance(node, ast.Assign | ast.AnnAssign) and self.text_of(node):
                target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
                if isinstance(target, ast.Name) and node.value is not None:
                    found[target.id] = node
        return found

    def text_of(self, node: Definition) -> str:
        """Return the docstring of a definition."""
        if isinstance(node, ast.Assign | ast.AnnAssign):
            return _text_below(self.tree.body, self.tree.body.index(node))
        return ast.get_docstring(node) or ""

    def find(self, name: str) -> tuple[Definition, _Source] | None:
        """Return a definition and the module that holds it, which this one may import it from."""
        if name in self.definitions:
            return self.definitions[name], self
        for node in self.tree.body:
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                taken = {alias.asname or alias.name: alias.name for alias in node.names}
                source = self._neighbour(node.module) if name in taken else None
                if source:
                    return source.find(taken[name])
        return None

    def _neighbour(self, module: str) -> _Source | None:
        """Return a module of the same project, None where it is of another."""
        if module.partition(".")[0] != self.module.partition(".")[0]:
            return None
        if module not in self._imported:
            self._imported[module] = _Source(module)
        return self._imported[module]


def _named_by(name: str, node: Definition, source: _Source) -> dict[str, tuple[Definition, _Source]]:
    """Return what a definition names, and what that names in turn, by name, the nearest first."""
    reached: dict[str, tuple[Definition, _Source]] = {name: (node, source)}
    waiting = [name]
    while waiting:
        current, where = reached[waiting.pop(0)]
        for other in _names(current, where):
            place = where.find(other) if other not in reached and not other.startswith("_") else None
            if place:
                reached[other] = place
                waiting.append(other)
    del reached[name]
    return reached


def _names(node: Definition, source: _Source) -> Iterator[str]:
    """Yield the names in the public signatures and docstrings of a definition, in their order."""
    yield from _NAME.findall(source.text_of(node))
    if isinstance(node, ast.Assign | ast.AnnAssign):
        yield from _names_in(node.value)
    elif isinstance(node, ast.FunctionDef):
        yield from _names_in(node.args, node.returns)
    else:
        yield from _names_in(*node.bases)
        for place, child in enumerate(node.body):
            if isinstance(child, ast.FunctionDef) and _is_public(child.name):
                yield from _names_in(child.args, child.returns)
                yield from _NAME.findall(ast.get_docstring(child) or "")
            elif (
                isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name) and _is_public(child.target.id)
            ):
                yield from _names_in(child.annotation)
                yield from _NAME.findall(_text_below(node.body, place))


def _names_in(*nodes: ast.AST | None) -> Iterator[str]:
    for node in nodes:
        for child in ast.walk(node) if node is not None else ():
            if isinstance(child, ast.Name):
                yield child.id
            elif isinstance(child, ast.Constant) and isinstance(child.value, str):  # an annotation in quotes
                yield from re.findall(r"\w+", child.value)


def _described(name: str, node: Definition, source: _Source) -> Described:
    text = source.text_of(node)
    if isinstance(node, ast.ClassDef):
        return Described(name=name, signature=name, text=text, members=tuple(_all_members(node, source).values()))
    if isinstance(node, ast.FunctionDef):
        return Described(name=name, signature=_call(node), text=text)
    value = ast.unparse(node.value) if node.value is not None else "..."
    return Described(name=name, signature=f"{name} = {value}", text=text)


def _all_members(node: ast.ClassDef, source: _Source) -> dict[str, Member]:
    """Return the members of a class by name: first those that it inherits from classes of the same project."""
    members: dict[str, Member] = {}
    for base in node.bases:
        place = source.find(base.id) if isinstance(base, ast.Name) else None
        if place and isinstance(place[0], ast.ClassDef):
            members |= _all_members(place[0], place[1])
    return members | {member.name: member for member in _members(node)}


def _members(node: ast.ClassDef) -> Iterator[Member]:
    for place, child in enumerate(node.body):
        if isinstance(child, ast.FunctionDef) and _is_public(child.name):
            is_property = "property" in {ast.unparse(mark) for mark in child.decorator_list}
            returns = ast.unparse(child.returns) if child.returns else "object"
            signature = f"{child.name}: {returns}" if is_property else _call(child)
            yield Member(name=child.name, signature=signature, text=ast.get_docstring(child) or "")
        elif isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name) and _is_public(child.target.id):
            annotation = ast.unparse(child.annotation)
            is_shown = child.value is not None and not isinstance(child.value, ast.Call)
            default = f" = {ast.unparse(child.value)}" if is_shown and child.value else ""
            yield Member(
                name=child.target.id,
                signature=f"{child.target.id}: {annotation}{default}",
                text=_text_below(node.body, place),
                annotation=annotation,
                default=_default(child.value),
            )


def _default(value: ast.expr | None) -> str:
    """Return the default of a field, that of a factory as what it makes."""
    if isinstance(value, ast.Call):
        factory = next((keyword.value for keyword in value.keywords if keyword.arg == "default_factory"), None)
        made = ast.unparse(factory) if factory else ""
        return {"": "", "dict": "{}", "list": "[]"}.get(made, f"{made}()")
    return ast.unparse(value) if value else ""


def _is_constructor(node: ast.stmt) -> TypeGuard[ast.FunctionDef]:
    return isinstance(node, ast.FunctionDef) and node.name == "__init__"


def _is_public(name: str) -> bool:
    return not name.startswith("_") or name == "__call__"


def _call(function: ast.FunctionDef) -> str:
    """Return a function's name, arguments and result as they are written, without ``self``."""
    fields = dict(ast.iter_fields(function.args))
    for kind in ("posonlyargs", "args"):
        fields[kind] = [argument for argument in fields[kind] if argument.arg not in ("self", "cls")]
    result = f" -> {ast.unparse(function.returns)}" if function.returns else ""
    return f"{function.name}({ast.unparse(ast.arguments(**fields))}){result}"


def _text_below(body: list[ast.stmt], place: int) -> str:
    """Return the string below an attribute, which is the attribute's docstring."""
    if place + 1 < len(body):
        below = body[place + 1]
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
            return inspect.cleandoc(below.value.value)
    return ""
