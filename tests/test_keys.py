"""A key holds what computes, all of it and nothing else: each kind of file is edited, and the key looked at."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from harness.api import Suite, UsageError
from harness.execution import surroundings as around
from harness.host import Host, load_host
from harness.measure import sources
from harness.measure.distributions import PluginCode, required_versions
from harness.plan import Plan
from harness.revisions.commits import clean_environment, install
from harness.revisions.repository import Repository
from harness.selection import Selection
from harness.suite import read_suite
from tests.conftest import ROOT, Harness
from tests.execution.repositories import Folder
from tests.painted import BIAS, CANVAS_FILES, CODE_OF_A_CASE, OTHER_FILES, PAINT_FILES, PROJECT_FILES

TOYS = Path(__file__).parent / "toy"


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def append(path: Path) -> None:
    """Add a line to a file, which need not be there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write("\n# edited\n")


def metadata(site: Path, name: str, *, version: str = "1.0", **files: str) -> None:
    """Leave what an installer leaves of a distribution; ``files`` are those of its metadata besides METADATA."""
    requires = files.pop("requires", "")
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}"
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    write(info, {"METADATA": text, **{key.replace("__", "."): value for key, value in files.items()}})


def commit(folder: Path) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    for command in (["init"], ["add", "."], ["commit", "-m", "one"]):
        subprocess.run(["git", "-C", str(folder), *identity, *command], check=True, capture_output=True)


@dataclass(frozen=True, kw_only=True)
class Place:
    """A plugin in one of the forms that one can have, and how its case's key is read."""

    form: str
    folder: Path
    """Where its modules lie."""
    site: Path
    key: Callable[..., str]

    def edit(self, name: str, *, folder: Path | None = None) -> tuple[str, str, str]:
        """Return the key before an edit of a file, with it, and after it was taken back."""
        path = (folder or self.folder) / name
        before = self.key()
        there = path.exists()
        text = path.read_text() if there else ""
        append(path)
        edited = self.key()
        path.write_text(text) if there else path.unlink()
        return before, edited, self.key()


def read_key(host: Host, params: Mapping[str, str] | None = None, technique: str = "paint/late") -> str:
    suite = read_suite("canvas", host)
    plan = Plan(suite, host, Selection(params=params or {}), around.surroundings(host, suite.contract).identity)
    contestant = next(contestant for contestant in plan.contestants if contestant.technique == technique)
    return plan.case(contestant, {}, 0).key


@pytest.fixture(params=["editable", "installed", "module"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A plugin that is installed in one of three ways, beside the judge and another plugin."""
    site = tmp_path / "venv" / "site-packages"
    form = request.param
    folder = {"editable": tmp_path / "paint", "installed": site, "module": tmp_path / "scripts"}[form]
    write(folder, PAINT_FILES)
    kernels = tmp_path / "shared"
    write(kernels, {"linked.cu": "x"})
    modules = ["harness_canvas", "harness_other"]
    if form == "installed":
        record = "".join(f"{name},,\n" for name in (*PAINT_FILES, "../../bin/paint"))
        points = "[harness.plugins]\npaint = harness_paint\n"
        metadata(site, "harness-paint", RECORD=record, entry_points__txt=points)
    else:
        (folder / "harness_paint_kit" / "linked").symlink_to(kernels)
        (folder / "harness_paint_kit" / "again").symlink_to(folder / "harness_paint_kit")
    if form == "editable":
        write(folder, PROJECT_FILES)
        commit(folder)
        url = json.dumps({"url": folder.as_uri(), "dir_info": {"editable": True}})
        points = "[harness.plugins]\npaint = harness_paint\n"
        record = "_editable_impl_paint.pth,,\npaint_native.so,,\n"
        write(site, {"paint_native.so": "built", "_editable_impl_paint.pth": "a path"})
        metadata(site, "harness-paint", RECORD=record, entry_points__txt=points, direct_url__json=url)
    if form == "module":
        modules.append("harness_paint")
        write(folder, OTHER_FILES)
    else:
        write(tmp_path / "other", OTHER_FILES)
        monkeypatch.syspath_prepend(tmp_path / "other")
    write(tmp_path / "canvas", CANVAS_FILES)
    metadata(site, "needed", requires='Requires-Dist: faster; extra == "fast"\nRequires-Dist: slower\n')
    for name in ("faster", "slower", "measured", "unrelated"):
        metadata(site, name)
    for path in (site, folder, tmp_path / "canvas"):
        monkeypatch.syspath_prepend(path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    host = load_host(modules)
    assert not [record.cause for record in host.broken]
    yield Place(form=form, folder=folder, site=site, key=partial(read_key, host))
    for name in [name for name in sys.modules if name.startswith(("harness_paint", "harness_canvas", "harness_other"))]:
        del sys.modules[name]
    importlib.invalidate_caches()


@pytest.mark.thorough
def test_an_edit_of_any_file_that_a_plugin_brings_changes_the_key(place: Place) -> None:
    for name in PAINT_FILES:
        before, edited, after = place.edit(name)
        assert edited != before, name
        assert after == before, name
    if place.form == "editable":
        for name in ("build_kernel.py", "cmake/flags.cmake", "harness_paint_kit/new.bin", "new_module.py"):
            before, edited, after = place.edit(name)
            assert edited != before == after, name
        for name in ("newsgroups.npz", "changes.csv", "NOTICE.bin", "prompt.md", "ignored/table.bin"):
            before, edited, after = place.edit(f"harness_paint_kit/{name}")
            assert edited != before == after, name
        before, edited, after = place.edit("paint_native.so", folder=place.site)
        assert edited != before == after
        before, edited, after = place.edit("_editable_impl_paint.pth", folder=place.site)
        assert edited == before == after
    if place.form != "installed":
        before, edited, after = place.edit("linked.cu", folder=place.folder.parent / "shared")
        assert edited != before == after


def test_an_edit_of_what_does_not_compute_changes_no_key(place: Place) -> None:
    names = [
        "README.md", "tests/test_paint.py", "docs/page.md", "CHANGELOG.txt", "output.log",
        "harness_paint_kit/__pycache__/deep.cpython-311.pyc", ".harness/runs/a/run.json", "store/runs/a/run.json",
    ]  # fmt: skip
    before = place.key()
    for name in names:
        append(place.folder / name)
        assert place.key() == before, name
    elsewhere = place.folder if place.form == "module" else place.folder.parent / "other"
    for name in OTHER_FILES:
        folder = elsewhere if (elsewhere / name).exists() else place.site.parent.parent / "other"
        append(folder / name)
        assert place.key() == before, name


def test_an_edit_of_a_project_s_description_changes_no_key_and_one_of_its_build_does(place: Place) -> None:
    if place.form != "editable":
        return
    project = place.folder / "pyproject.toml"
    before = place.key()
    text = project.read_text()
    project.write_text(text.replace('"a"', '"b"') + "\n[tool.ruff]\nline-length = 80\n")
    assert place.key() == before
    project.write_text(text + '\n[tool.hatch.build]\nartifacts = ["x"]\n')
    assert place.key() != before


def test_an_edit_of_the_judge_changes_the_keys_of_all_and_one_of_a_suite_s_title_none(place: Place) -> None:
    folder = place.site.parent.parent / "canvas"
    bases = place.key(technique="canvas/base")
    for name in ("harness_canvas.py", "harness_canvas_judge.py"):
        before, edited, after = place.edit(name, folder=folder)
        assert edited != before == after
    before, edited, after = place.edit("canvas.toml", folder=folder)
    assert edited == before == after
    (place.folder / "harness_paint_late.py").write_text("edited = 1\n")
    assert place.key(technique="canvas/base") == bases
    assert place.key() != before


def test_a_library_that_is_required_counts_by_its_version_and_another_does_not(place: Place) -> None:
    before = place.key()
    for name in ("needed", "faster", "measured", "slower", "unrelated"):
        requires = 'Requires-Dist: faster; extra == "fast"\nRequires-Dist: slower\n' if name == "needed" else ""
        metadata(place.site, name, version="2.0", requires=requires)
        assert (place.key() != before) == (name in ("needed", "faster", "measured")), name
        metadata(place.site, name, requires=requires)
    assert place.key() == before


def test_a_technique_s_libraries_do_not_count_for_another(place: Place) -> None:
    before = place.key(technique="canvas/base")
    metadata(place.site, "needed", version="2.0")
    assert place.key(technique="canvas/base") == before
    metadata(place.site, "measured", version="2.0")
    assert place.key(technique="canvas/base") != before


def test_the_content_of_a_file_that_a_setting_names_counts_and_its_path_does_not(place: Place, tmp_path: Path) -> None:
    first, second = tmp_path / "first.pt", tmp_path / "second.pt"
    first.write_text("one")
    second.write_text("one")
    before = place.key(params={"model": str(first)})
    assert before != place.key()
    assert before == place.key(params={"model": str(second)})
    first.write_text("two")
    assert place.key(params={"model": str(first)}) != before
    with pytest.raises(UsageError, match=r"setting model = '/nowhere/x\.pt': there is no such file"):
        place.key(params={"model": "/nowhere/x.pt"})


# ------------------------------------------------------------------------------------------ path and place


def digest(*targets: str, module: str) -> str:
    return PluginCode(module, "", targets).sources.digest


@pytest.mark.parametrize("order", [("left", "right"), ("right", "left")])
def test_all_portions_of_a_namespace_count_in_any_order_of_the_path_and_in_any_place(
    order: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for number, sides in enumerate((("left", "right"), order)):
        place = tmp_path / f"place-{number}"
        write(place, {"left/house/lora_a.py": "a = 1\n", "right/house/lora_b.py": "class Toy: ...\n"})
        with monkeypatch.context() as patch:
            for side in sides:
                patch.syspath_prepend(place / side)
            found.append(digest("house.lora_b:Toy", module="house.lora_a"))
            write(place, {"right/house/lora_b.py": "class Toy: x = 1\n"})
            assert digest("house.lora_b:Toy", module="house.lora_a") != found[-1]
    assert found[0] == found[1]


def test_of_two_installations_the_imported_one_is_the_plugin_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "right", {"harness_glaze.py": "a = 1\n"})
    metadata(tmp_path / "left", "harness-glaze", version="0.0.9")
    metadata(tmp_path / "right", "harness-glaze", version="0.1.0", RECORD="harness_glaze.py,,\n")
    monkeypatch.syspath_prepend(tmp_path / "right")
    monkeypatch.syspath_prepend(tmp_path / "left")
    found = PluginCode("harness_glaze", "harness-glaze", []).distribution
    assert found is not None
    assert found.version == "0.1.0"


def test_a_distribution_without_a_version_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "bare-1.0.dist-info", {"METADATA": "Metadata-Version: 2.1\nName: bare\n"})
    monkeypatch.syspath_prepend(tmp_path)
    assert required_versions(["bare"]) == {"bare": ""}


# ------------------------------------------------------------------------------------------------ the host


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the host's package, which keys are made from."""
    folder = tmp_path / "harness"
    shutil.copytree(ROOT / "harness", folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(sources, "HOST", folder)
    monkeypatch.setattr(around, "HOST", folder)
    return folder


def test_of_the_host_only_what_computes_a_case_is_in_its_key(copied: Path) -> None:
    host = load_host()
    suites = [read_suite(full, host) for full in host.declared.suites]
    chosen = (("lora/lora", "finetune/digits-mlp"), ("nf4/kernel", "quantize/weights"))
    tried = [(next(suite for suite in suites if pair[1] in suite.workloads), *pair) for pair in chosen]

    def key(suite: Suite, technique: str, workload: str) -> str:
        identity = around.surroundings(host, host.techniques[technique].spec.contract).identity
        plan = Plan(suite, host, Selection(techniques=(technique,)), identity)
        found = next(each for each in plan.contestants if (each.technique, each.workload) == (technique, workload))
        return plan.case(found, found.trials[0], 0).key

    def keys() -> list[str]:
        return [key(*each) for each in tried]

    before = keys()
    both, first, second, none = (True, True), (True, False), (False, True), (False, False)
    edits = {
        "api/values.py": both,
        "judge/seeds.py": both,
        "judge/table.json": both,
        "measure/clock.py": both,
        "measure/new.py": both,
        "execution/isolation/worker.py": both,
        "execution/isolation/forkserver.py": both,
        "execution/case.py": both,
        "execution/block.py": both,
        "families/finetune/contract.py": first,
        "families/finetune/table.bin": first,
        "families/quantize/schemes.py": second,
        "families/softmax/checks.py": none,
        "report/charts.py": none,
        "analysis/intervals.py": none,
        "cli/run.py": none,
        "tracking/site.py": none,
        "results/store.py": none,
        "revisions/measure.py": none,
        "testing/conformance.py": none,
        "plan.py": none,
    }
    for name, expected in edits.items():
        path = copied / name
        text = path.read_text() if path.exists() else None
        path.write_text(f"{text or ''}\n# edited\n")
        found = keys()
        assert (found[0] != before[0], found[1] != before[1]) == expected, name
        path.unlink() if text is None else path.write_text(text)


def test_every_module_of_the_host_that_a_worker_imports_counts() -> None:
    code = "import sys, harness.execution.isolation.forkserver; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = [name for name in done.stdout.split() if name.startswith("harness.")]
    counted = {name.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for name, _ in
               sources.host_sources().files}  # fmt: skip
    empty = {"execution", "execution.isolation"}
    assert "harness.execution.isolation.worker" in loaded
    assert {name.removeprefix("harness.") for name in loaded} <= counted | empty
    for name in empty:
        assert len((ROOT / "harness" / name.replace(".", "/") / "__init__.py").read_text().splitlines()) <= 1


# ---------------------------------------------------------------------------------------------- whole runs


def test_an_edit_of_the_second_module_forbids_a_resume_and_changes_every_code(harness: Harness, tmp_path: Path) -> None:
    toys = tmp_path / "toys"
    shutil.copytree(TOYS, toys, ignore=shutil.ignore_patterns("__pycache__"))
    plugin = ("-p", "harness_toy", "--no-plugins")
    where = {"PYTHONPATH": str(toys)}
    chosen = ("--lane", "accuracy", "--param", "lr=0.2", "--seeds", "2")
    assert harness("run", *plugin, "--suite", "toys", *chosen, "--quiet", **where).returncode == 0
    rows = next((tmp_path / "cwd/.harness/runs").iterdir()) / "rows.jsonl"
    count = len(rows.read_text().splitlines())
    assert harness("run", *plugin, "--resume", "--quiet", **where).returncode == 0
    assert len(rows.read_text().splitlines()) == count
    targets = toys / "toy_targets.py"
    targets.write_text(targets.read_text().replace("return self.shift", "return self.shift + 5.0"))
    refused = harness("run", *plugin, "--resume", "--quiet", **where)
    assert refused.returncode == 2
    assert len(rows.read_text().splitlines()) == count
    assert harness("run", *plugin, "--suite", "toys", *chosen, "--quiet", **where).returncode == 0
    stores = sorted((tmp_path / "cwd/.harness/runs").glob("*/rows.jsonl"))
    codes = [{json.loads(line)["code"] for line in file.read_text().splitlines()} for file in stores]
    assert [len(each) for each in codes] == [1, 1]
    assert codes[0] != codes[1]


@pytest.mark.thorough
def test_installed_commits_have_the_same_code_only_if_what_was_installed_is_the_same(tmp_path: Path) -> None:
    """The gate times what is of two codes: a second module and a flag of the build are seen, a README is not."""
    repository = Folder(path=tmp_path / "bias")
    commits = {}
    for name, edit in {
        "first": {},
        "readme": {"README.md": "y"},
        "module": {"harness_bias_late.py": "class Late: x = 1\n"},
        "build": {
            "harness_bias_late.py": "class Late: ...\n",
            "build_kernel.py": BIAS["build_kernel.py"].replace("3", "0"),
        },
    }.items():
        write(repository.path, {**(BIAS if name == "first" else {}), **edit})
        commits[name] = repository.commit(name)
    codes = {}
    for name, commit_ in commits.items():
        revision = Repository(repository.path).find(commit_)
        assert revision is not None
        installed = install(Repository(repository.path), revision, tmp_path / "cache")
        command = [str(installed.python), "-P", "-c", CODE_OF_A_CASE]
        done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        codes[name] = done.stdout.strip()
    assert codes["first"] == codes["readme"]
    assert len({codes["first"], codes["module"], codes["build"]}) == 3
