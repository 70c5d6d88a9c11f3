"""Audits the pinned requirements, also of the site: their licences, and the vulnerabilities that are known of them.

``python tools/audit.py`` prints one line for each problem. The exit code is 0 where there is none, 1 where there are
some, and 2 where there are none but the service of known vulnerabilities could not be asked about every package.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

ROOT: Final = Path(__file__).resolve().parents[1]

TIMEOUT_S: Final = 20
"""Seconds that the service of known vulnerabilities may take to answer one question."""

_PIN: Final = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==(\S+)", re.MULTILINE)

_OPERATORS: Final = re.compile(r"([()]| AND | OR )")
_PYTHON: Final[Mapping[str, str]] = {"AND": "and", "OR": "or", "(": "(", ")": ")"}
"""The operators of SPDX expressions as Python has them."""

_NAMES: Final[Mapping[str, str]] = {
    "3-clause bsd license": "BSD-3-Clause",
    "apache": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd": "BSD-3-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "isc license": "ISC",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
}
"""The SPDX identifiers of what packages call their licences that state none."""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """An environment of pinned packages: the file that pins them, its folder, and the command that sets it up."""

    file: str
    folder: Path
    setup: str

    def pinned(self) -> dict[str, str]:
        """Return the pinned versions by package."""
        return pins((ROOT / self.file).read_text(encoding="utf-8"))

    def read(self, name: str) -> metadata.PackageMetadata:
        """Return the metadata of an installed package. Raises PackageNotFoundError where there is none."""
        path = [str(place) for place in self.folder.glob("lib/python*/site-packages")]
        for found in metadata.distributions(name=name, path=path):
            return found.metadata
        raise metadata.PackageNotFoundError(name)


ENVIRONMENTS: Final = (
    Environment(file="requirements.txt", folder=Path(sys.prefix), setup="make setup"),
    Environment(file="tools/site/requirements.txt", folder=Path(sys.prefix) / "site", setup="make site"),
)
"""What is audited: the harness with its tests, and what builds the site."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What an audit found: lines about problems, and why something could not be checked; empty where all was.

    ``packages`` is the number of packages that it was about.
    """

    problems: Sequence[str]
    unchecked: str = ""
    packages: int = 0


def pins(requirements: str) -> dict[str, str]:
    """Return the pinned versions by package; editable packages, which are this project's own, are left out."""
    return dict(_PIN.findall(requirements))


# ------------------------------------------------------------------------------------------------ licences


def licence_of(facts: metadata.PackageMetadata) -> str:
    """Return the licence of a package as an SPDX expression, or what the package calls it; empty where it says none."""
    stated = next((text for field in ("License-Expression", "License") for text in facts.get_all(field) or ()), "")
    if stated in ("", "UNKNOWN") or "\n" in stated:  # of an old setuptools; some put the whole text there
        classifiers = [line for line in facts.get_all("Classifier") or () if line.startswith("License ::")]
        stated = " AND ".join(_NAMES.get(name.lower(), name) for name in (_last(line) for line in classifiers))
    return _NAMES.get(stated.lower(), stated)


def _last(classifier: str) -> str:
    return classifier.rpartition(" :: ")[2]


def is_allowed(expression: str, allowed: Collection[str]) -> bool:
    """Return whether an SPDX expression leaves a choice of licences that are all allowed; not where it is invalid."""
    try:
        stated = canonicalize_license_expression(expression)
    except InvalidLicenseExpression:
        return False
    parts = [part.strip() for part in _OPERATORS.split(stated) if part.strip()]
    words = [_PYTHON.get(part, str(part in allowed)) for part in parts]
    return _holds(ast.parse(" ".join(words), mode="eval").body)


def _holds(node: ast.expr) -> bool:
    """Return the value of a Boolean expression, in which AND binds more strongly than OR, as in SPDX."""
    if isinstance(node, ast.BoolOp):
        values = [_holds(value) for value in node.values]
        return all(values) if isinstance(node.op, ast.And) else any(values)
    return isinstance(node, ast.Constant) and node.value is True


def audit_licences(
    pinned: Collection[str],
    allowed: Collection[str],
    read: Callable[[str], metadata.PackageMetadata] = metadata.metadata,
    setup: str = ENVIRONMENTS[0].setup,
) -> Findings:
    """Find the packages whose licence is not among the allowed ones, and those whose licence is not known.

    ``read`` returns the metadata of an installed package, and ``setup`` is the command that installs them.
    """
    problems = []
    for name in pinned:
        try:
            licence = licence_of(read(name))
        except metadata.PackageNotFoundError:
            problems.append(f"{name}: not installed, so its licence is not known; run: {setup}")
            continue
        if not is_allowed(licence, allowed):
            problems.append(f"{name}: its licence is {licence or 'not stated'}, expected one of {', '.join(allowed)}")
    return Findings(problems=problems, packages=len(pinned))


# ------------------------------------------------------------------------------------------ vulnerabilities


def read_report(report: Mapping[str, Any]) -> Findings:
    """Find the known vulnerabilities in a report of pip-audit, and what it could not find out."""
    problems: list[str] = []
    skipped = []
    packages = report["dependencies"]
    for package in packages:
        if "skip_reason" in package:
            skipped.append(package["name"])
        for fault in package.get("vulns", ()):
            names = ", ".join([fault["id"], *fault.get("aliases", ())])
            mended = ", ".join(fault["fix_versions"]) or "no version yet"
            problems.append(f"{package['name']} {package['version']}: {names}; mended in {mended}")
    unchecked = ""
    if skipped:
        shown = ", ".join(skipped[:5]) + (", …" if len(skipped) > 5 else "")
        unchecked = f"the service knows nothing of {len(skipped)} of {len(packages)} packages: {shown}"
    return Findings(problems=problems, unchecked=unchecked, packages=len(packages))


def audit_vulnerabilities(pinned: Mapping[str, str], program: Path) -> Findings:
    """Ask the service of known vulnerabilities about every pinned version."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requirements.txt"
        file.write_text("".join(f"{name}=={version}\n" for name, version in pinned.items()), encoding="utf-8")
        asked = [str(program), "--requirement", str(file), "--no-deps", "--disable-pip", "--timeout", str(TIMEOUT_S)]
        asked += ["--format", "json", "--progress-spinner", "off"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
    try:
        return read_report(json.loads(done.stdout))
    except (ValueError, KeyError):
        last = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        return Findings(problems=(), unchecked=f"the service cannot be reached: {last[:200]}")


def install(requirements: Sequence[str], folder: Path) -> Path:
    """Install pip-audit into an environment of its own, where it is not there yet; return the program.

    Its own requirements would otherwise move the pinned versions. Raises CalledProcessError where pip fails.
    """
    program = folder / "bin" / "pip-audit"
    if not program.exists():
        venv.create(folder, with_pip=True)
        command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *requirements]
        subprocess.run(command, check=True, capture_output=True, text=True)
    return program


def main() -> int:
    """Print what was found, one line each, and return the exit code."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    allowed = project["tool"]["harness-audit"]["licences"]
    tools = project["project"]["optional-dependencies"]["audit"]
    found: dict[str, Findings] = {}
    for environment in ENVIRONMENTS:
        pinned = environment.pinned()
        licences = audit_licences(pinned, allowed, environment.read, environment.setup)
        try:
            vulnerabilities = audit_vulnerabilities(pinned, install(tools, Path(sys.prefix) / "audit"))
        except subprocess.CalledProcessError as error:
            last = (error.stderr.strip().splitlines() or [str(error)])[-1]
            vulnerabilities = Findings(problems=(), unchecked=f"pip-audit cannot be installed: {last[:200]}")
        found |= {f"{environment.file}: licences": licences, f"{environment.file}: vulnerabilities": vulnerabilities}
    return tell(found)


def tell(found: Mapping[str, Findings]) -> int:
    """Print each problem, and what was not checked; return the exit code."""
    for what, findings in found.items():
        for problem in findings.problems:
            sys.stdout.write(f"{what}: {problem}\n")
        if findings.unchecked:
            sys.stdout.write(f"{what}: not checked: {findings.unchecked}\n")
        elif not findings.problems:
            sys.stdout.write(f"{what}: no problem in {findings.packages} packages\n")
    if any(findings.problems for findings in found.values()):
        return 1
    return 2 if any(findings.unchecked for findings in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
