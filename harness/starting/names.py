"""The names of a new package: what may be one, and what follows from it."""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final

from harness.api import UsageError

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST: Final = 40


@dataclass(frozen=True, kw_only=True)
class Named:
    """The name of a plugin, and the folder, the module, the title and the class names that follow from it."""

    name: str

    @property
    def folder(self) -> str:
        """The name of the package's folder, which is that of its distribution."""
        return f"harness-{self.name}"

    @property
    def package(self) -> str:
        """The name of the package's module."""
        return f"harness_{self.name.replace('-', '_')}"

    @property
    def title(self) -> str:
        """The name as the beginning of a sentence."""
        return self.name.replace("-", " ").capitalize()

    @property
    def camel(self) -> str:
        """The name as that of a class."""
        return "".join(word.capitalize() for word in self.name.split("-"))


def named(name: str) -> Named:
    """Return the names that follow from that of a plugin. Raises UsageError where it cannot be one."""
    plain = name.removeprefix("harness-").removeprefix("harness_")
    if plain != name:
        raise UsageError(f"name {name!r}: leave out what every plugin's package begins with: {plain!r}")
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise UsageError(
            f"name {name!r}: expected lower-case words of letters and digits joined by '-', like 'late-bias', "
            f"beginning with a letter, of at most {_LONGEST} characters"
        )
    if keyword.iskeyword(name):
        raise UsageError(f"name {name!r} is a keyword of Python; choose another one")
    return Named(name=name)


def require_free(new: Named, taken: Collection[str]) -> None:
    """Raise UsageError where a plugin of this name, or a module of the package's name, is there already."""
    if new.name in taken:
        raise UsageError(f"name {new.name!r} is that of a plugin that is installed; choose another one")
    if find_spec(new.package) is not None:
        raise UsageError(f"name {new.name!r}: a module {new.package} can be imported already; choose another name")
