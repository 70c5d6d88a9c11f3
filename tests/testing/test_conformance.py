"""The kit for authors: a sound plugin passes, and each fault fails the test that is about it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from harness.testing import cache_folder
from tests.conftest import ROOT, Site

FAULTY = """
    from harness.api import Technique, hookimpl

    HARNESS_API = 1

    def technique(name, target="Honest", contract="finetune", **facts):
        return Technique(
            id=name, contract=contract, target=f"tests.testing.faulty_targets:{target}", summary="of a test", **facts
        )

    @hookimpl
    def register_techniques():
        return [
            technique("sound", space={"lr": [0.1, 0.2]}),
            technique("keeps-one", "KeepsOne"),
            technique("only-norms", "OnlyNorms"),
            technique("exits", "Exits"),
            technique("widens", "Widens"),
            technique("poisons", "Poisons"),
            technique("moody", "Moody"),
            technique("hoards", "Hoards"),
            technique("vandal", "ChangesFrozen"),
            technique("liar", "NotExact"),
            technique("refuses", "Refuses"),
            technique("misspelled", "Honets"),
            technique("small", "Takes", params={"size": 1}, space={"size": [1, 2, 4]}),
            technique("no-device", "Elsewhere"),
            technique("elsewhere", requires=["surely-not-installed>=2"]),
        ]
"""

ENDLESS = """
    from harness.api import Technique, hookimpl

    HARNESS_API = 1

    @hookimpl
    def register_techniques():
        target = "tests.testing.faulty_targets:Endless"
        return [Technique(id="endless", contract="finetune", target=target, summary="of a test")]
"""

LIMITED = """
class Test_limited(PluginConformance):
    plugin = "limited"
    limit_s = 3.0
"""

PLUGINS = {
    "faulty": FAULTY,
    "sound": "HARNESS_API = 1\n",
    "eager": "import atexit, torch\natexit.register(print, 'the end')\nHARNESS_API = 1\n",
    "unmarked": "HARNESS_API = 1\ndef register_techniques():\n    return []\n",
    "outdated": "HARNESS_API = 0\n",
    "ill-formed": (
        "from harness.api import hookimpl\nHARNESS_API = 1\n@hookimpl\ndef case_started(casse):\n    pass\n"
    ),
    "raising": "raise SystemExit('no')\n",
    "stranger": (
        "from harness.api import Technique, hookimpl\nHARNESS_API = 1\n@hookimpl\ndef register_techniques():\n"
        "    return [Technique(id='new', contract='finetun', target='made:New', summary='of no family')]\n"
    ),
    "varies-once": (
        "from harness.api import Technique, hookimpl\nHARNESS_API = 1\n@hookimpl\ndef register_techniques():\n"
        "    space = {'lr': [0.1, 0.1]}\n"
        "    return [Technique(id='new', contract='finetune', target='made:New', summary='twice', space=space)]\n"
    ),
}
NAMES = [*PLUGINS, "absent"]

CASES = {
    "test_keeps_the_invariants_of_its_contract",
    "test_emits_the_declared_metrics",
    "test_repeats_itself",
    "test_frees_its_memory",
    "test_leaves_the_process_as_it_is",
}
ON_A_WORKLOAD = {"test_can_be_built", *CASES}
OF_THE_PLUGIN = {
    "test_loads",
    "test_states_the_interface_it_speaks",
    "test_marks_its_hooks",
    "test_declares_without_torch",
}

TECHNIQUES = {
    "sound": set(),
    "keeps-one": set(),
    "only-norms": set(),
    "exits": ON_A_WORKLOAD,
    "endless": ON_A_WORKLOAD,
    "widens": {"test_leaves_the_process_as_it_is"},
    "poisons": {"test_emits_the_declared_metrics"},
    "moody": {"test_repeats_itself"},
    "hoards": {"test_frees_its_memory"},
    "vandal": {"test_keeps_the_invariants_of_its_contract"},
    "liar": {"test_keeps_the_invariants_of_its_contract"},
    "refuses": ON_A_WORKLOAD,
    "misspelled": {"test_can_be_built", "test_keeps_the_invariants_of_its_contract", "test_emits_the_declared_metrics"},
    "small": {"test_can_be_built"},
    "no-device": set(),
    "elsewhere": set(),
}

FAILING = {
    "faulty": set(),
    "sound": set(),
    "eager": {"test_declares_without_torch"},
    "unmarked": {"test_loads", "test_marks_its_hooks"},
    "outdated": {"test_loads", "test_states_the_interface_it_speaks"},
    "ill-formed": {"test_loads"},
    "raising": OF_THE_PLUGIN,
    "stranger": {"test_loads"},
    "varies-once": {"test_loads"},
    "absent": OF_THE_PLUGIN,
}

MESSAGES = {
    "test_declares_without_torch of eager": "harness_eager imports torch when it is imported or declares",
    "test_marks_its_hooks of unmarked": "harness_unmarked does not mark register_techniques",
    "test_loads of outdated": "is written for plugin interface 0; this host speaks 1",
    "test_loads of ill-formed": "casse",
    "test_loads of raising": "SystemExit: no",
    "test_loads of absent": "no plugin 'absent' is installed",
    "test_emits_the_declared_metrics[poisons]": "ended as error: val_loss is nan, loss is nan",
    "test_can_be_built[exits]": "ended as crash: exited with status 0 without a result",
    "test_keeps_the_invariants_of_its_contract[endless]": "ended as timeout: timeout after 3 s in ",
    "test_leaves_the_process_as_it_is[widens]": "the default dtype is torch.float64, was torch.float32",
    "test_repeats_itself[moody]": "gives other numbers for the same seed",
    "test_frees_its_memory[hoards]": "Parameter (128, 64) torch.float32",
    "test_keeps_the_invariants_of_its_contract[vandal]": "frozen parameters changed in 3 steps",
    "test_keeps_the_invariants_of_its_contract[liar]": "differs from the base model before the first step",
    "test_can_be_built[refuses]": "finetune/digits-mlp: nothing here is as it should be",
    "test_can_be_built[small]": "does not take {'size': 4}: size 4 is too large",
    "test_loads of stranger": "contract 'finetun', which no plugin declares; did you mean 'finetune'?",
    "test_loads of varies-once": "space lists 0.1 of 'lr' twice: expected each value once",
    "test_can_be_built[misspelled]": "faulty_targets has no 'Honets'; did you mean 'Honest'?",
    "test_describes_itself[elsewhere]": 'needs surely-not-installed>=2: pip install "surely-not-installed>=2"',
}

Outcomes = dict[str, tuple[str, str]]
"""By test: what became of it, and what it said."""


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """One run of the kit over all plugins, in a process of its own; base models may be there already."""
    folder = tmp_path_factory.mktemp("author")
    site = Site(folder=folder)
    for name, text in PLUGINS.items():
        site.plugin(name, text)
    site.plugin("limited", ENDLESS)
    classes = "".join(
        f"class Test_{name.replace('-', '_')}(PluginConformance):\n    plugin = {name!r}\n" for name in NAMES
    )
    (folder / "test_kit.py").write_text(f"from harness.testing import PluginConformance\n{classes}{LIMITED}")
    kept = cache_folder(request.config, tmp_path_factory).parents[1]
    (folder / "pytest.ini").write_text(f"[pytest]\ncache_dir = {kept}\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "--junitxml=report.xml", "test_kit.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return read(folder / "report.xml")


def read(report: Path) -> Outcomes:
    found: Outcomes = {}
    for case in ElementTree.parse(report).iter("testcase"):
        plugin = case.attrib["classname"].rpartition(".Test_")[2].replace("_", "-")
        name = case.attrib["name"]
        result = next((child for child in case if child.tag in {"failure", "error", "skipped"}), None)
        said = "" if result is None else f"{result.attrib.get('message', '')}\n{result.text}"
        key = name if "[" in name and "NOTSET" not in name else f"{name} of {plugin}"
        found[key] = ("passed" if result is None else result.tag), said
    return found


def unsuccessful(outcomes: Outcomes) -> set[str]:
    return {name for name, (result, _) in outcomes.items() if result in {"failure", "error"}}


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_a_technique_fails_what_it_breaks_and_nothing_else(outcomes: Outcomes, technique: str) -> None:
    mine = {name for name in unsuccessful(outcomes) if name.endswith(f"[{technique}]")}
    assert mine == {f"{test}[{technique}]" for test in TECHNIQUES[technique]}


@pytest.mark.parametrize("plugin", NAMES)
def test_a_plugin_fails_what_it_breaks_and_nothing_else(outcomes: Outcomes, plugin: str) -> None:
    mine = {name for name in unsuccessful(outcomes) if name.endswith(f" of {plugin}")}
    assert mine == {f"{test} of {plugin}" for test in FAILING[plugin]}


@pytest.mark.parametrize("test", MESSAGES)
def test_the_message_says_what_is_wrong(outcomes: Outcomes, test: str) -> None:
    assert MESSAGES[test] in outcomes[test][1]


def test_every_technique_has_a_test_of_each_property(outcomes: Outcomes) -> None:
    properties = {"test_describes_itself", *ON_A_WORKLOAD}
    expected = {f"{test}[{technique}]" for test in properties for technique in TECHNIQUES}
    assert {name for name in outcomes if name.endswith("]") and " of " not in name} == expected


def test_a_technique_that_cannot_run_here_is_skipped(outcomes: Outcomes) -> None:
    assert {result for name, (result, _) in outcomes.items() if name.endswith("[elsewhere]")} == {"skipped"}
    assert {outcomes[f"{test}[no-device]"][0] for test in ON_A_WORKLOAD} == {"skipped"}
