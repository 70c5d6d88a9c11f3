"""Workloads of ``regularize`` on the texts of Python's standard library: its documentation and its docstrings."""

from __future__ import annotations

import ast
import math
import re
import sysconfig
import zlib
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from harness.api import UsageError
from harness.families.regularize.data import Examples, Parts
from harness.families.regularize.models import CharacterMlp, Mlp, Slotted
from harness.families.regularize.protocol import RegularizeWorkload
from harness.families.regularize.settings import Settings
from harness.judge.datasets import Dataset, releases
from harness.judge.texts import ALPHABET, read_topics, topics

CONTEXT: Final = 10
"""Characters that the next one is predicted from."""

PREDICTED: Final = 500
"""Characters to predict in a block of text."""

PACKAGES: Final = ("asyncio", "email", "http", "importlib", "logging", "multiprocessing", "unittest", "xml")
"""The classes of ``docstrings``: packages that every installation has, with the most docstrings."""

BUCKETS: Final = 1024
"""Features that words and pairs of words are hashed to."""


class PydocTopics(RegularizeWorkload):
    """Predict the next character of a short text of Python's documentation; how often it is read is a setting.

    A seed draws a passage of the topics of ``pydoc_data`` and deals its blocks out to training, validation and test,
    as what is far apart in that text differs in subject. The model is an MLP on ten embedded characters.
    """

    classes = len(ALPHABET)

    name = "pydoc-topics"

    def read(self) -> Dataset:
        """Return the topics character by character."""
        return read_topics()

    def libraries(self) -> Mapping[str, str]:
        """Return the release of Python, as the texts change with it."""
        return releases("python")

    def dataset(self, cache: Path) -> Dataset:
        """Return the topics character by character, from the cache where they lie there."""
        return topics(cache)

    def examples(self, dataset: Dataset) -> Examples:
        """Return windows of characters ``(n, 10)``, and the character after each."""
        windows = dataset.inputs.unfold(0, CONTEXT, 1)
        return Examples(inputs=windows.long(), targets=dataset.targets[CONTEXT - 1 :].long())

    def parts(self, dataset: Dataset, settings: Settings, draw: torch.Generator) -> Parts:
        """Return parts of whole blocks without windows across them, as many for the test as for validation."""
        train, held_out = (
            math.ceil(count / PREDICTED) for count in (settings.train_examples, settings.validation_examples)
        )
        blocks, length = train + 2 * held_out, PREDICTED + CONTEXT - 1
        room = len(dataset.targets) - blocks * length
        if room < 0:
            raise UsageError(
                f"train_examples {settings.train_examples} and twice validation_examples "
                f"{settings.validation_examples}: the text has only {len(dataset.targets)} characters; ask for less"
            )
        begin = int(torch.randint(0, room + 1, (), generator=draw))
        order = torch.randperm(blocks, generator=draw)
        inputs, targets = (
            tensor[begin : begin + blocks * length].view(blocks, length)[order]
            for tensor in (dataset.inputs, dataset.targets)
        )
        found = Examples(inputs=inputs.unfold(1, CONTEXT, 1).long(), targets=targets[:, CONTEXT - 1 :].long())
        dealt = (slice(train), slice(train, train + held_out), slice(train + held_out, None))
        return Parts(
            **{
                name: Examples(inputs=found.inputs[some].flatten(0, 1), targets=found.targets[some].flatten())
                for name, some in zip(("train", "validation", "test"), dealt, strict=True)
            }
        )

    def build(self) -> Slotted:
        """Return a model with embeddings of width 16 and one hidden layer of 128."""
        return CharacterMlp(self.classes, CONTEXT, embedding=16, widths=[128])


class Docstrings(RegularizeWorkload):
    """Tell from a docstring which package of the standard library it stands in: hashed words, an MLP 1024-64-64-8."""

    name = "docstrings"
    classes = len(PACKAGES)

    def read(self) -> Dataset:
        """Return the docstrings of modules, classes and functions, without the packages' names."""
        rows: list[Tensor] = []
        labels: list[int] = []
        for label, package in enumerate(PACKAGES):
            for text in sorted({*docstrings(Path(sysconfig.get_path("stdlib")) / package)}):
                rows.append(bag(text))
                labels.append(label)
        return Dataset(inputs=torch.stack(rows), targets=torch.tensor(labels, dtype=torch.uint8))

    def libraries(self) -> Mapping[str, str]:
        """Return the release of Python, as the texts change with it."""
        return releases("python")

    def examples(self, dataset: Dataset) -> Examples:
        """Return logarithms of counts, scaled to Euclidean length 8, about the size of pixels."""
        logs = dataset.inputs.float().log1p()
        return Examples(inputs=8 * torch.nn.functional.normalize(logs, dim=1), targets=dataset.targets.long())

    def build(self) -> Slotted:
        """Return a perceptron with two hidden layers."""
        return Mlp([BUCKETS, 64, 64], self.classes)


def docstrings(package: Path) -> Iterator[str]:
    """Yield the docstrings of at least 20 characters in all modules of a package, without its tests."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for path in sorted(package.rglob("*.py")):
        if {"test", "tests"} & set(path.relative_to(package).parts):
            continue
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, documented) and (text := ast.get_docstring(node)) and len(text) >= 20:
                yield text


def bag(text: str) -> Tensor:
    """Return the counts of words and adjacent pairs in each bucket, uint8 ``(BUCKETS,)``, at most 255."""
    words = [word for word in re.findall(r"[a-z]+", text.lower()) if word not in PACKAGES]
    terms = [*words, *(" ".join(pair) for pair in pairwise(words))]
    buckets = torch.tensor([zlib.crc32(term.encode()) % BUCKETS for term in terms], dtype=torch.long)
    return torch.bincount(buckets, minlength=BUCKETS).clamp(max=255).to(torch.uint8)


if TYPE_CHECKING:  # mypy compares every method with the protocol's
    from harness.api import CheckingWorkload, StackingWorkload

    _FULFILS: tuple[type[CheckingWorkload], ...] = (Docstrings, PydocTopics)
    _STACKS: tuple[type[StackingWorkload], ...] = (Docstrings, PydocTopics)
