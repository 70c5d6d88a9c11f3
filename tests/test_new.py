"""``harness new`` writes packages that conform and run, for every contract, and refuses names that cannot be one."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from asv.util import load_json
from packaging.requirements import Requirement

from harness.api import DISTRIBUTION, UsageError
from harness.host import load_host
from harness.report.contracts import show_contract
from harness.report.reference import reference_of
from harness.starting import family_files, named, own_template, technique_files, with_template, write
from harness.suite import read_suite
from tests.conftest import ROOT, Harness, Site

CONTRACTS = [
    "control", "decode", "finetune", "quantize", "quantize-activations", "regularize", "route", "softmax",
]  # fmt: skip


EXAMPLE = ROOT / "examples/harness-retrieve"


def checked_and_run(harness: Harness, folder: Path, name: str, module: str) -> list[str]:
    """Check a plugin that lies in a folder and run its suite, without trained models; return the lines of the table."""
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    place = {"PYTHONPATH": path, "HARNESS_CACHE": str(folder.parent / "cache")}
    done = harness("check", module, **place)
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.rmtree(place["HARNESS_CACHE"], ignore_errors=True)
    done = harness("-p", module, "run", "--suite", name, "--quick", **place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "was imported while the case ran" not in done.stdout  # no author could mend what the judge imports
    return done.stdout.splitlines()


def require_rendered(harness: Harness, folder: Path, contract: str) -> None:
    done = harness("new", "technique", "early-try", "--contract", contract, "--path", str(folder))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n  ") <= 10
    place = folder / "harness-early-try"
    lines = checked_and_run(harness, place, "early-try", "harness_early_try")
    assert any(line.startswith("early-try/plain") and "baseline" in line for line in lines)
    assert any(line.startswith("early-try/first") for line in lines)
    assert "{{" not in "".join(path.read_text() for path in place.rglob("*.py"))


@pytest.mark.thorough
def test_the_template_of_a_contract_conforms_and_has_a_row(harness: Harness, tmp_path: Path) -> None:
    require_rendered(harness, tmp_path, "control")


@pytest.mark.exhaustive
@pytest.mark.parametrize("contract", CONTRACTS)
def test_the_template_of_every_contract_conforms_and_has_a_row(harness: Harness, tmp_path: Path, contract: str) -> None:
    require_rendered(harness, tmp_path, contract)


@pytest.mark.exhaustive
def test_the_template_of_a_family_conforms_and_has_rows(harness: Harness, tmp_path: Path) -> None:
    assert harness("new", "family", "nearby", "--path", str(tmp_path)).returncode == 0
    lines = checked_and_run(harness, tmp_path / "harness-nearby", "nearby", "harness_nearby")
    assert any(line.startswith("nearby/exact") for line in lines)


@pytest.mark.exhaustive
@pytest.mark.parametrize("contract", CONTRACTS)
def test_an_installed_template_passes_its_own_tests(harness: Harness, tmp_path: Path, contract: str) -> None:
    assert harness("new", "technique", "early", "--contract", contract, "--path", str(tmp_path)).returncode == 0
    package, site = tmp_path / "harness-early", tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*install, "--target", str(site), str(package)], check=True)
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=package,
        env={**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert tested.returncode == 0, tested.stdout


@pytest.mark.parametrize("contract", [*CONTRACTS, "retrieve"])
def test_a_new_package_is_followed_over_commits_by_its_tracked_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contract: str
) -> None:
    monkeypatch.syspath_prepend(EXAMPLE)
    host = load_host(["harness_retrieve"])
    name = f"early-{contract}"
    made = named(name)
    files = technique_files(made, contract, own_template(host, contract), "reference")
    write(files, tmp_path / made.folder)
    monkeypatch.syspath_prepend(tmp_path / made.folder)
    host = load_host(["harness_retrieve", made.package])
    suite = read_suite(name, host, form="track")
    assert (suite.form, suite.seeds, suite.baseline) == ("track", (0, 1), f"{name}/plain")
    assert load_json(tmp_path / made.folder / "asv.conf.json", js_comments=True)["benchmark_dir"] == (
        f"{made.package}/suites"
    )


@pytest.fixture(params=[*CONTRACTS, "family"])
def rendered(request: pytest.FixtureRequest) -> Mapping[Path, str]:
    """The files of each kind of package that ``harness new`` writes, whose name is ``early``."""
    made, contract = named("early"), request.param
    if contract == "family":
        return family_files(made)
    return technique_files(made, contract, own_template(load_host(), contract), "reference")


def test_a_new_package_requires_all_that_its_modules_and_tests_import(rendered: Mapping[Path, str]) -> None:
    project = tomllib.loads(rendered[Path("pyproject.toml")])["project"]
    stated = [*project["dependencies"], *project["optional-dependencies"]["test"], *of_the_host()]
    needed = {distribution for text in code_of(rendered).values() for distribution in imported(text)}
    if any("benchmark: Any" in text for text in code_of(rendered).values()):
        needed.add("pytest-benchmark")
    assert needed <= {Requirement(line).name for line in stated}


def test_a_technique_of_a_new_package_is_named_by_the_declaration_alone(rendered: Mapping[Path, str]) -> None:
    """What replaces it has another id: a test or a suite that names it would fail."""
    assert not [path for path, text in code_of(rendered).items() if "early/first" in text or "early/8-bit" in text]


def of_the_host() -> list[str]:
    """Return what the host requires without extras."""
    return [line for line in requires(DISTRIBUTION) or () if "extra ==" not in line]


def code_of(rendered: Mapping[Path, str]) -> dict[Path, str]:
    return {path: text for path, text in rendered.items() if path.suffix == ".py"}


def imported(text: str) -> set[str]:
    """Return the distributions that a module imports, other than the package itself and the host."""
    names = {node.module for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)}
    names |= {each.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import) for each in node.names}
    tops = {name.partition(".")[0] for name in names if name} - {"harness", "harness_early"}
    return {_OWNERS[top] for top in tops - sys.stdlib_module_names}


_OWNERS = {name: owners[0] for name, owners in packages_distributions().items()}


@pytest.mark.parametrize("contract", CONTRACTS)
def test_what_is_said_of_a_contract_names_no_file_of_a_checkout(contract: str) -> None:
    spec = load_host().contracts[contract].spec
    assert "docs/" not in show_contract(spec, reference_of(spec.protocol), {})


@pytest.mark.exhaustive
def test_the_template_of_a_family_of_another_package_conforms_and_has_a_row(harness: Harness, tmp_path: Path) -> None:
    path = os.pathsep.join([str(EXAMPLE), os.environ.get("PYTHONPATH", "")])
    made = ("-p", "harness_retrieve", "new", "technique", "early-try", "--contract", "retrieve")
    done = harness(*made, "--path", str(tmp_path), PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert "plugin 'retrieve', whose contract it has, is not installed" in done.stdout
    place = os.pathsep.join([str(tmp_path / "harness-early-try"), path])
    both = ("-p", "harness_retrieve", "-p", "harness_early_try")
    assert harness("-p", "harness_retrieve", "check", "harness_early_try", PYTHONPATH=place).returncode == 0
    done = harness(*both, "run", "--suite", "early-try", "--quick", PYTHONPATH=place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "early-try/first" in done.stdout


FAMILY = """
from harness.api import Contract, hookimpl
HARNESS_API = 1
@hookimpl
def register_contracts():
    return [Contract(id="other", protocol="harness_other.contract:Other", summary="s", phases={"go": "one go"})]
"""
FACTS = """
plain = "the plain way"
target = "Half"
summary = "half of it"
phase = "go"
suite = "seeds = 3"
"""


def installed(site: Site, facts: str = FACTS, *, module: str = "harness_other") -> Path:
    """Install a package with a family whose plugin is a module of it; return the folder of its template."""
    site.install("harness-other", {"other": module}, {})
    package = site.folder / "harness_other"
    (package / "template").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / f"{module.partition('.')[2] or '__init__'}.py").write_text(FAMILY)
    (package / "template/facts.toml").write_text(facts)
    (package / "template/techniques.py").write_text("class Plain: ...\nclass Half: ...\n")
    return package / "template"


@pytest.mark.parametrize("module", ["harness_other", "harness_other.declared"])
def test_the_template_of_an_installed_family_is_found_beside_its_plugin(site: Site, module: str) -> None:
    installed(site, module=module)
    host = load_host()
    assert "other" in with_template(host)
    own = own_template(host, "other")
    files = {str(path): text for path, text in technique_files(named("early"), "other", own, "reference").items()}
    assert '"torch>=2.8", "harness-other"]' in files["pyproject.toml"]
    assert files["harness_early/techniques.py"] == own.code
    assert 'target="harness_early.techniques:Half"' in files["harness_early/__init__.py"]
    assert 'baseline = "early/plain"\ntechniques = ["early/*"]\nseeds = 3' in files["harness_early/suites/early.toml"]


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        (f"{FACTS}params = {{}}", "facts.toml: params: {}: expected a text"),
        (f"{FACTS}sapce = '1'", "facts.toml: sapce: unknown key; did you mean 'space'?"),
        (FACTS.replace("phase", "#"), "facts.toml: phase: missing; expected a text"),
        ("plain = ", "facts.toml: not valid TOML: "),
    ],
)
def test_a_template_that_is_not_whole_is_one_line_that_names_its_family(site: Site, facts: str, line: str) -> None:
    folder = installed(site, facts)
    with pytest.raises(UsageError) as caught:
        own_template(load_host(), "other")
    (told,) = caught.value.problems
    assert told.startswith(f"{folder}/{line}")
    assert told.endswith("the template of contract 'other' is its family's to mend")


def test_a_family_without_a_template_is_told_so_wherever_one_stands(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of that name is not the family's where its plugin is a module alone."""
    site.plugin("other", FAMILY)
    for place in (site.folder, tmp_path):
        (place / "template").mkdir()
        (place / "template/facts.toml").write_text(FACTS)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="contract 'other': its plugin brings no template"):
        own_template(load_host(), "other")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["class", "--contract", "route"], "is a keyword of Python"),
        (["Two Words", "--contract", "route"], "expected lower-case words"),
        (["lora", "--contract", "route"], "is that of a plugin that is installed"),
        (["harness-mine", "--contract", "route"], "leave out what every plugin's package begins with: 'mine'"),
        (["mine", "--contract", "finetun"], "did you mean 'finetune'?"),
    ],
)
def test_a_name_that_cannot_be_one_is_refused_in_one_line(
    harness: Harness, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    done = harness("new", "technique", *arguments, "--path", str(tmp_path / "packages"))
    assert done.returncode == 2
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "packages").exists()


def test_a_folder_that_is_there_is_left_as_it_is(harness: Harness, tmp_path: Path) -> None:
    (tmp_path / "harness-mine").mkdir()
    done = harness("new", "technique", "mine", "--contract", "route", "--path", str(tmp_path))
    assert done.returncode == 2
    assert "is there already, and is left as it is" in done.stderr
    assert list((tmp_path / "harness-mine").iterdir()) == []
