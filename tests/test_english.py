"""The English of the code: functions say what to do, and loop variables say what they hold."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

CONVERTED = ("harness/builtin.py", "harness/discovery.py", "harness/families/__init__.py")
"""Modules and folders that keep the rules, relative to the root; add a folder once all of it does."""

NOT_IMPERATIVE = """
a all an and another any are as at balanced beside both but by dequantised each either every everything few
first for from frozen half hidden how if in inference input is it its itself last log logit loss many matrix
maximum mean minimum model more most neither never next no none normal not nothing of on one only onto other
our own parameter probability second shape some something such than that the their then there these they this
those three through time to token top total two under uniform until up variance version what whatever when
where whether which while who whole whom whose why width with without yes your
"""
"""First words that are no verbs, lower case: articles, pronouns, prepositions, and nouns that came up."""

VERBS = """
access address bias bless bring bypass compress cross discuss dismiss embed exceed express feed focus guess
miss need pass ping press proceed process ring seed shed string suppress swing toss
"""
"""Imperatives that end like another form of a verb or like a plural."""

ENDINGS = ("s", "ed", "ing")
PROPERTIES = frozenset({"property", "cached_property"})


def modules() -> Iterator[Path]:
    """Yield the modules of the harness and of its plugins, without tests."""
    yield from sorted((ROOT / "harness").rglob("*.py"))
    for package in sorted((ROOT / "plugins").glob("*/harness_*")):
        yield from sorted(package.rglob("*.py"))


def is_imperative(docstring: str) -> bool:
    """Return whether a docstring's first word can be a verb in the imperative."""
    words = docstring.split()
    word = words[0].rstrip(",;:.") if words else ""
    if not word.isalpha() or not word[0].isupper() or word[1:] != word[1:].lower():
        return False
    word = word.lower()
    return word in VERBS.split() or not (word in NOT_IMPERATIVE.split() or word.endswith(ENDINGS))


def is_property(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether a function is a property, whose docstring may be a noun phrase."""
    return any(
        (node.attr if isinstance(node, ast.Attribute) else node.id) in PROPERTIES
        for node in function.decorator_list
        if isinstance(node, ast.Attribute | ast.Name)
    )


def faults(source: str) -> list[str]:
    """Return a line for each docstring that begins with no imperative and each loop variable named ``one``."""
    lines: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring is not None and not is_property(node) and not is_imperative(docstring):
                start = docstring.partition("\n")[0][:60]
                lines.append(f"{node.lineno}: {node.name}: {start!r} does not begin with an imperative verb")
        elif isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
            lines += [
                f"{name.lineno}: a loop variable is named 'one'"
                for name in ast.walk(node.target)
                if isinstance(name, ast.Name) and name.id == "one"
            ]
    return lines


def is_converted(module: Path) -> bool:
    """Return whether a module, or a folder that it lies in, is in `CONVERTED`."""
    return any(module == ROOT / name or ROOT / name in module.parents for name in CONVERTED)


def test_converted_code_keeps_the_rules() -> None:
    assert [
        f"{module.relative_to(ROOT)}:{fault}"
        for module in modules()
        if is_converted(module)
        for fault in faults(module.read_text(encoding="utf-8"))
    ] == []


def test_every_entry_names_code() -> None:
    found = list(modules())
    assert [name for name in CONVERTED if not any(ROOT / name in (path, *path.parents) for path in found)] == []


@pytest.mark.parametrize(
    "docstring",
    [
        "The losses of a batch.",
        "A table, drawn at random.",
        "What the library packs.",
        "Whether a unit was ever clipped.",
        "Logits ``(batch, classes)``.",
        "``x`` rounded.",
        "Cross-entropy.",
        "Returns the losses.",
        "Returned losses.",
        "Reading the losses.",
        "return the losses.",
        "By name the series.",
        "As it came.",
        "Top-1.",
        "scikit-learn's digits.",
        "NF4 of torchao.",
        "0 before ``part``, then 1.",
        "None to speak of.",
        "",
    ],
)
def test_a_docstring_without_an_imperative_is_caught(docstring: str) -> None:
    assert faults(f'def read() -> None:\n    """{docstring}"""\n') != []


@pytest.mark.parametrize(
    "docstring", ["Return the losses.", "Train, predict and test.", "Seed the generators.", "Pass"]
)
def test_an_imperative_is_taken(docstring: str) -> None:
    assert faults(f'async def read() -> None:\n    """{docstring}\n\n    The rest.\n    """\n') == []


def test_methods_and_nested_functions_are_looked_at() -> None:
    method = 'class Reader:\n    def read(self) -> None:\n        """The losses."""\n'
    nested = 'def read() -> None:\n    def inner() -> None:\n        """The losses."""\n'
    assert [len(faults(source)) for source in (method, nested)] == [1, 1]


@pytest.mark.parametrize("decorator", ["property", "cached_property", "functools.cached_property"])
def test_a_property_may_be_a_noun_phrase(decorator: str) -> None:
    assert faults(f'class Reader:\n    @{decorator}\n    def loss(self) -> float:\n        """The loss."""\n') == []


@pytest.mark.parametrize(
    "source",
    [
        "for one in rows:\n    pass\n",
        "for name, (_, one) in rows:\n    pass\n",
        "values = [one.value for one in rows]\n",
        "values = {name: one for name, one in rows}\n",
        "total = sum(one for row in rows for one in row)\n",
    ],
)
def test_a_loop_variable_named_one_is_caught(source: str) -> None:
    assert faults(source) == [f"{faults(source)[0].partition(':')[0]}: a loop variable is named 'one'"]


def test_other_uses_of_the_word_are_not() -> None:
    assert faults("one = 1\nfor value in rows:\n    one += value\n") == []
