"""The interface of a contract's techniques, read from the protocol's source without importing the source."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.api import UsageError

_DATACLASS = re.compile(r"\bdataclass\b")


@dataclass(frozen=True, kw_only=True)
class Member:
    """An attribute (``passes: Passes``) or a method with its signature, and the docstring that explains it."""

    name: str
    signature: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Described:
    """A class of a contract's module: its name, docstring, and members in the order of the source."""

    name: str
    text: str
    members: tuple[Member, ...]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A protocol, and the classes of the same module that its signatures name, directly or through one another."""

    module: str
    protocol: Described
    handed: tuple[Described, ...]


def reference_of(target: str) -> Reference:
    """Return the description of the protocol ``package.module:Name``.

    Only the module's parent packages are imported. Raises UsageError where the source or the class does not exist.
    """
    module, _, name = target.partition(":")
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        spec = None
    if spec is None or not spec.origin:
        raise UsageError(f"the protocol {target!r} cannot be read: there is no source of the module {module!r}")
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    if name not in classes:
        raise UsageError(f"the protocol {target!r} cannot be read: {spec.origin} has no class {name!r}")
    protocol = _described(classes[name], classes)
    return Reference(
        module=module,
        protocol=protocol,
        handed=tuple(_described(classes[other], classes) for other in _named_by(name, classes)),
    )


def _named_by(name: str, classes: dict[str, ast.ClassDef]) -> list[str]:
    """Return the classes that a class refers to, directly or indirectly, in the order of the source."""
    reached, waiting = {name}, [name]
    while waiting:
        node = classes[waiting.pop()]
        words = {child.id for child in ast.walk(node) if isinstance(child, ast.Name)}
        words |= set(re.findall(r"\w+", " ".join(_texts(node))))
        new = [other for other in classes if other in words and other not in reached and not other.startswith("_")]
        reached.update(new)
        waiting += new
    return [other for other in classes if other in reached and other != name]


def _texts(node: ast.ClassDef) -> Iterator[str]:
    """Yield annotations that are written as strings."""
    for child in ast.walk(node):
        if isinstance(child, ast.AnnAssign) and isinstance(child.annotation, ast.Constant):
            yield str(child.annotation.value)


def _described(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> Described:
    inherited = [classes[base.id] for base in node.bases if isinstance(base, ast.Name) and base.id in classes]
    members = {member.name: member for base in inherited for member in _described(base, classes).members}
    members |= {member.name: member for member in _members(node)}
    return Described(name=node.name, text=_docstring(node), members=tuple(members.values()))


def _members(node: ast.ClassDef) -> Iterator[Member]:
    for place, child in enumerate(node.body):
        if isinstance(child, ast.FunctionDef) and not child.name.startswith("_"):
            marks = {ast.unparse(mark) for mark in child.decorator_list}
            if "property" in marks:
                signature = f"{child.name}: {ast.unparse(child.returns) if child.returns else 'object'}"
            else:
                signature = f"{child.name}({_arguments(child)})"
                signature += f" -> {ast.unparse(child.returns)}" if child.returns else ""
            yield Member(name=child.name, signature=signature, text=_docstring(child))
        elif isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
            if child.target.id.startswith("_"):
                continue
            default = f" = {ast.unparse(child.value)}" if child.value is not None else ""
            text = _text_below(node.body, place)
            yield Member(
                name=child.target.id,
                signature=f"{child.target.id}: {ast.unparse(child.annotation)}{default}",
                text=text,
            )


def _arguments(function: ast.FunctionDef) -> str:
    arguments = function.args
    if arguments.args and arguments.args[0].arg in ("self", "cls"):
        arguments.args = arguments.args[1:]
    return ast.unparse(arguments)


def _docstring(node: ast.ClassDef | ast.FunctionDef) -> str:
    return ast.get_docstring(node) or ""


def _text_below(body: list[ast.stmt], place: int) -> str:
    """Return the string below an attribute, which is the attribute's docstring."""
    if place + 1 < len(body):
        below = body[place + 1]
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
            return inspect.cleandoc(below.value.value)
    return ""
