"""Rules for the English of docstrings and the names of loop variables, checked on the syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import ROOT

CONVERTED: Final[tuple[str, ...]] = (
    "harness/__init__.py",
    "harness/__main__.py",
    "harness/analysis",
    "harness/api",
    "harness/builtin.py",
    "harness/cli",
    "harness/declared.py",
    "harness/discovery.py",
    "harness/entrants.py",
    "harness/execution/audit.py",
    "harness/execution/block.py",
    "harness/execution/case.py",
    "harness/execution/choices.py",
    "harness/execution/contestant_state.py",
    "harness/execution/estimate.py",
    "harness/execution/job.py",
    "harness/execution/preflight.py",
    "harness/execution/session.py",
    "harness/execution/surroundings.py",
    "harness/execution/units.py",
    "harness/families",
    "harness/hookspecs.py",
    "harness/host.py",
    "harness/judge",
    "harness/plan.py",
    "harness/report",
    "harness/results",
    "harness/revisions",
    "harness/suite.py",
    "harness/testing",
    "plugins/dropout/harness_dropout",
    "plugins/lora/harness_lora",
    "plugins/moe/harness_moe",
    "plugins/nf4/harness_nf4",
    "plugins/speculative/harness_speculative",
)
"""The folders and modules that are held to the rules."""

_EXCLUDED: Final = """
A About Above After All Along Also Among An And Another Any As At Before Below Beside Between Both But By Each
Either Else Enough Every Few For From Had Has Have He Her Here His How If In Inside Into Is It Its Less Like
Many More Most Much Nearly Never No None Not Nothing Of Off On Once One Only Or Other Our Out Outside Over Per
Same She So Some Such Than That The Their Them Then There These They This Those Through To Too Twice Two Under
Until Up We What Whatever When Where Wherever Whether Which While Who Whose Why With Within Without You Your
"""

NOT_VERBS: Final = frozenset(_EXCLUDED.split())
"""Articles, pronouns, prepositions, adverbs, conjunctions and auxiliaries: no imperative sentence begins with these."""

_ENDING_ALIKE: Final = """
Access Address Bias Bring Bypass Compress Cross Discuss Dismiss Embed Exceed Express Feed Focus Guess Miss Need Pass
Press Proceed Process Ring Seed Speed String Suppress Toss
"""

VERBS: Final = frozenset(_ENDING_ALIKE.split())
"""Imperatives that end like a participle, a plural or a verb in the third person."""


def is_imperative(word: str) -> bool:
    """Return whether a word may begin an imperative sentence: capitalised, and of no class that excludes it."""
    if not (word.isalpha() and word[0].isupper() and word[1:].islower()) or word in NOT_VERBS:
        return False
    return word in VERBS or not word.endswith(("ing", "ed", "s"))


def is_held(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether a function's docstring must be imperative; a property's names the value instead."""
    decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in function.decorator_list}
    dunder = function.name.startswith("__") and function.name.endswith("__")
    return not (dunder or function.name.startswith("test_") or decorators & {"property", "cached_property"})


def bad_docstrings(tree: ast.Module) -> Iterator[str]:
    """Yield the line, the name and the docstring's first word of each function that does not begin with a verb."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and is_held(node):
            words = (ast.get_docstring(node) or "").split()
            if words and not is_imperative(words[0].rstrip(".,:;")):
                yield f"{node.lineno}: {node.name} begins with {words[0]!r}; expected a verb, like 'Return'"


def bad_loop_variables(tree: ast.Module) -> Iterator[str]:
    """Yield the line of each loop or comprehension with a variable named ``one``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
            names = [child for child in ast.walk(node.target) if isinstance(child, ast.Name)]
            yield from (f"{name.lineno}: name the variable 'one' for its value" for name in names if name.id == "one")


def modules_under(place: str) -> list[Path]:
    """Return the modules of a folder, or the module of a file, relative to the repository."""
    path = ROOT / place
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


def faults_in(source: str) -> list[str]:
    """Return the faults of a module's source, in the order of lines."""
    tree = ast.parse(source)
    faults = [*bad_docstrings(tree), *bad_loop_variables(tree)]
    return sorted(faults, key=lambda fault: int(fault.partition(":")[0]))


@pytest.mark.parametrize("place", CONVERTED)
def test_docstrings_are_imperative_and_loop_variables_have_names(place: str) -> None:
    modules = modules_under(place)
    assert modules
    faults = [
        f"{module.relative_to(ROOT)}:{fault}"
        for module in modules
        for fault in faults_in(module.read_text(encoding="utf-8"))
    ]
    assert not faults, "\n".join(faults)


def test_converted_places_are_sorted_and_within_the_packages() -> None:
    assert list(CONVERTED) == sorted(set(CONVERTED))
    packages = [ROOT / "harness", *ROOT.glob("plugins/*/harness_*")]
    assert all(any((ROOT / place).is_relative_to(package) for package in packages) for place in CONVERTED)


@pytest.mark.parametrize(
    "docstring",
    [
        "The sum.",
        "A pair of values.",
        "What a technique is handed.",
        "Whether a name is known.",
        "How many rows there are.",
        "Those that fit.",
        "Of two commits the later.",
        "As in the worker.",
        "Averaging over seeds.",
        "Named values.",
        "Returns the sum.",
        "Logits of a batch.",
        "return the sum.",
        "``x`` of y.",
        "'90.1': a mean.",
        "It is left out.",
        "Nothing is made.",
        "All of them.",
        "Same as above.",
    ],
)
@pytest.mark.parametrize("head", ["def work():", "async def work():", "def _work(self):"])
def test_a_docstring_without_a_verb_is_found(docstring: str, head: str) -> None:
    (fault,) = faults_in(f'{head}\n    """{docstring}"""\n')
    assert fault.startswith("1: ")
    assert "expected a verb" in fault


@pytest.mark.parametrize(
    "source",
    [
        'def work():\n    """Return the sum."""\n',
        'def work():\n    """Seed the generator."""\n',
        'def work():\n    """Pass the batch on."""\n',
        'def work():\n    """Check, then return, the sum."""\n',
        "def work():\n    pass\n",
        'class Work:\n    """What is done."""\n    @property\n    def size(self):\n        """The size."""\n',
        'class Work:\n    @functools.cached_property\n    def size(self):\n        """The size."""\n',
        'class Work:\n    def __len__(self):\n        """The size."""\n',
        'def test_work():\n    """The size."""\n',
        "one = 1\nprint([name for name in 'ab'], one)\n",
        "for item in range(one):\n    print(item)\n",
    ],
)
def test_what_keeps_the_rules_passes(source: str) -> None:
    assert faults_in(source) == []


@pytest.mark.parametrize(
    "source",
    [
        "for one in (1, 2):\n    pass\n",
        "print([one for one in (1, 2)])\n",
        "print({one: 1 for one in (1, 2)})\n",
        "print(sum(one for one in (1, 2)))\n",
        "for number, one in enumerate('ab'):\n    pass\n",
        "for number, (name, *one) in pairs:\n    pass\n",
        "async def run():\n    async for one in rows:\n        pass\n",
        "print([name for row in rows for one in row])\n",
    ],
)
def test_a_loop_variable_without_a_name_is_found(source: str) -> None:
    (fault,) = faults_in(source)
    assert "name the variable 'one'" in fault
