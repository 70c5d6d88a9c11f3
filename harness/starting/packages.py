"""The files of a new package: a technique of a contract by the family's template, or a family by the example's."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from harness import __version__
from harness.api import API_VERSION, DISTRIBUTION, UsageError
from harness.starting.names import Named
from harness.starting.own import CODE, OwnTemplate

TEMPLATES: Final = Path(__file__).parent / "templates"
SUFFIX: Final = ".jinja"

Files = Mapping[Path, str]
"""The texts of the files of a package by path."""


def technique_files(new: Named, contract: str, own: OwnTemplate, reference: str) -> Files:
    """Return the files of a package with a technique of a contract, by the template of its family.

    ``reference`` is the text about the contract.
    """
    facts = own.facts
    values = {
        **_values(new, contract, reference),
        "requires": [own.distribution] if own.distribution not in ("", DISTRIBUTION) else [],
        "params": "",
        "space": "",
        **facts,
        "technique": "first",
        "own_suite": facts["suite"].strip(),
        "suite": new.name,
        "baseline": "plain",
        "about": f"A technique of the contract `{contract}`: `{new.name}/first` {facts['summary']}.\n"
        f"It is compared with `{new.name}/plain`: {facts['plain']}.",
        "files": f"Begin with `{new.package}/techniques.py`; `AGENTS.md` tells coding assistants what they need.",
    }
    return {
        **_rendered(TEMPLATES / "shared", values),
        **_rendered(TEMPLATES / "technique", values),
        Path(new.package, CODE): own.code,
    }


def family_files(new: Named) -> Files:
    """Return the files of a package with a family: those of the example, under another name."""
    example = _example()
    requires = f'"{DISTRIBUTION}>={_version()}"'
    old = Named(name=example.name.removeprefix("harness-"))
    renamed = {old.package: new.package, old.camel: new.camel, old.name: new.name, f'"{DISTRIBUTION}"': requires}

    def rename(text: str) -> str:
        for before, after in renamed.items():
            text = text.replace(before, after)
        return text

    paths = [path for path in example.rglob("*") if path.suffix in {".py", ".toml", ".json"}]
    files = {Path(rename(str(path.relative_to(example)))): rename(path.read_text(encoding="utf-8")) for path in paths}
    values = {
        **_values(new, new.name, ""),
        "suite": new.name,
        "phase": "search",
        "baseline": "exact",
        "about": "A family of techniques: a contract, problems, metrics, techniques and a suite.\nIt begins as an "
        "example that works, the nearest neighbours of queries among embeddings, whose parts you replace one by one.",
        "files": "The page on families of the harness's documentation goes through the files in the order in which to "
        "replace them:\n`contract.py`, `settings.py`, `__init__.py`, `checks.py`, `data.py`, `workloads.py`, "
        "`techniques.py`, the suite, the tests, `template/`, and the description in\n`pyproject.toml`.",
    }
    return {**_rendered(TEMPLATES / "shared", values), **files}


def write(files: Files, folder: Path) -> None:
    """Write a package to a folder that does not exist yet, all of it or nothing. Raises UsageError otherwise."""
    if folder.exists() or folder.is_symlink():
        raise UsageError(f"{folder} is there already, and is left as it is; choose another name, or a folder by --path")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".harness-new-") as place:
            package = Path(place, folder.name)
            for path, text in files.items():
                (package / path).parent.mkdir(parents=True, exist_ok=True)
                (package / path).write_text(text, encoding="utf-8")
            shutil.move(package, folder)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror or error}") from error


def _values(new: Named, contract: str, reference: str) -> dict[str, Any]:
    return {
        "name": new.name,
        "package": new.package,
        "title": new.title,
        "contract": contract,
        "reference": reference,
        "api": API_VERSION,
        "version": _version(),
    }


def _version() -> str:
    """Return the first two numbers of the host's version, which a new package requires."""
    return ".".join(__version__.split(".")[:2])


def _rendered(folder: Path, values: Mapping[str, object]) -> dict[Path, str]:
    """Return the files of a folder of templates, whose paths may name values, too."""
    from jinja2 import Environment, StrictUndefined

    engine = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    return {
        Path(engine.from_string(str(path.relative_to(folder)).removesuffix(SUFFIX)).render(values)): engine.from_string(
            path.read_text(encoding="utf-8")
        ).render(values)
        for path in sorted(folder.rglob(f"*{SUFFIX}"))
    }


def _example() -> Path:
    """Return the folder of the example of a family: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).parents[1]
    inside = package / "examples"
    folder = inside if inside.is_dir() else package.parent / "examples"
    return next(path for path in sorted(folder.glob("harness-*")) if path.is_dir())
