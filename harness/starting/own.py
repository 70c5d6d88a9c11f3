"""Reads the template that a family brings for techniques of its contract: a folder in the package of its plugin."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from harness.api import UsageError, nearest
from harness.host import Host

FOLDER: Final = "template"
"""The folder in a family's package that says what a technique of its contract begins with."""

FACTS: Final = "facts.toml"
CODE: Final = "techniques.py"

NEEDED: Final = ("plain", "target", "summary", "phase", "suite")
OPTIONAL: Final = ("params", "space")
"""What a template says beside its code, each a text: `docs/writing-a-family.md` explains them."""


@dataclass(frozen=True, kw_only=True)
class OwnTemplate:
    """What a technique of a contract begins with: facts by name, and the source of a baseline and a technique.

    ``distribution`` is that of the contract's plugin; empty for a plugin that is not installed.
    """

    facts: Mapping[str, str]
    code: str
    distribution: str


def with_template(host: Host) -> list[str]:
    """Return the contracts whose family brings a template, sorted."""
    return sorted(name for name in host.contracts if (folder := _folder(host, name)) and (folder / FACTS).is_file())


def own_template(host: Host, contract: str) -> OwnTemplate:
    """Return the template of a contract. Raises UsageError where its family has none, or one that is not whole."""
    folder = _folder(host, contract)
    if folder is None or not (folder / FACTS).is_file():
        raise UsageError(
            f"contract {contract!r}: its plugin brings no template, a folder {FOLDER!r} in its package; begin with: "
            f"harness show contract {contract}"
        )
    path = folder / FACTS
    try:
        facts = tomllib.loads(path.read_text(encoding="utf-8"))
        code = (folder / CODE).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{error.filename}: cannot be read: {error.strerror}; {_whose(contract)}") from error
    except ValueError as error:  # of TOML, or of its encoding
        raise UsageError(f"{path}: not valid TOML: {error}; {_whose(contract)}") from error
    if problems := [*_problems(facts)]:
        raise UsageError(*(f"{path}: {problem}; {_whose(contract)}" for problem in problems))
    return OwnTemplate(facts=facts, code=code, distribution=_owner(host, contract)[1])


def _problems(facts: Mapping[str, object]) -> list[str]:
    """Return what is wrong with the facts of a template, one line each."""
    known = (*NEEDED, *OPTIONAL)
    unknown = [f"{name}: unknown key{nearest(name, known)}" for name in facts if name not in known]
    missing = [f"{name}: missing; expected a text" for name in NEEDED if name not in facts]
    wrong = [f"{key}: {facts[key]!r}: expected a text" for key in known if not isinstance(facts.get(key, ""), str)]
    return [*unknown, *missing, *wrong]


def _whose(contract: str) -> str:
    """Return who can mend a template."""
    return f"the template of contract {contract!r} is its family's to mend"


def _folder(host: Host, contract: str) -> Path | None:
    """Return where the template of a contract lies, or would lie; None where its plugin is no package, nor in one."""
    module, _ = _owner(host, contract)
    spec = find_spec(module)
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)), FOLDER)
    return Path(spec.origin or "").parent / FOLDER if "." in module else None


def _owner(host: Host, contract: str) -> tuple[str, str]:
    """Return the module and the distribution of the plugin that owns a contract."""
    plugin = host.contracts[contract].plugin
    record = next(record for record in host.plugins if record.name == plugin and record.status == "ok")
    return record.module, record.distribution
