"""Inputs that somebody may have damaged, mistyped or forged: values, structures, texts and bytes."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any, Final

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

TOTAL: Final = int(os.environ.get("HARNESS_FUZZ") or 300)
"""How many inputs all tests of this folder try together: a few in every run of the tests, many in ``make fuzz``."""

NASTY: Final = (
    "", " ", "\n", "\0", "\x1b[2J", "\ud800", "../../owned", "/owned", "a" * 3000, "--output=out/owned", "{0}",
    "%s %(x)s", "a|b", "<script>alert(1)</script>", "javascript:alert(1)", "=1+1", "@someone", "nan", "1e400", "last",
    ".", "..", "toy/good:shift=1", "toy/*", "[", "*", "!", "\u202eevil", "1" * 5000, "\\", "'", '"', "a/b/c",
    "True", "null", "~nobody-of-this-name", "a" * 250 + ".toml", "b/" * 2500 + "c.toml",
)  # fmt: skip
"""Texts that mean something to a terminal, a shell, a file system, a page, a spreadsheet or a parser."""

NUMBERS: Final = (0, 1, -1, 2, 2**31, 2**63 - 1, 2**63, -(2**63), 10**20, 10**400, 0.0, -0.0, 0.5, 1e308, 1e-308)
ODD_FLOATS: Final = (math.nan, math.inf, -math.inf)

texts = st.sampled_from(NASTY) | st.text(max_size=20)
scalars = st.none() | st.booleans() | st.sampled_from(NUMBERS + ODD_FLOATS) | st.integers() | st.floats() | texts
_CONFUSED: Final = (None, "x", -1, 0, 1.5, [], {}, [[]], ["x"], {"x": 1}, True, *NUMBERS, *ODD_FLOATS)
confused = st.sampled_from(_CONFUSED).map(copy.deepcopy)
"""Values of another type or range than what was expected, which find more than any text.

Each is a copy: `damaged` may add to a list, and what is drawn next must not have it.
"""

values = confused | st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)


def fuzzed(share: int) -> Callable[[Any], Any]:
    """Return the settings of a test that tries this share, in per cent, of all inputs.

    Every run of the tests tries the same inputs, so that nobody's change fails by chance.
    """
    few = TOTAL <= 300
    return settings(
        max_examples=max(1, TOTAL * share // 100),
        derandomize=few,
        database=None,
        deadline=None,
        print_blob=not few,
        suppress_health_check=[*HealthCheck],
    )


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in a structure, that of the structure itself left out."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    """Return the value at a path."""
    for key in path:
        value = value[key]
    return value


@st.composite
def chosen_path(draw: st.DrawFn, value: Any) -> tuple[Any, ...]:
    """Draw the path of a value in a structure; half of those chosen stand at the top, a quarter one level below."""
    path: tuple[Any, ...] = ()
    while isinstance(value, dict | list) and value:
        keys = [*value] if isinstance(value, dict) else range(len(value))
        path = (*path, draw(st.sampled_from(keys)))
        value = at(value, path[-1:])
        if draw(st.booleans()):
            break
    return path


@st.composite
def damaged(draw: st.DrawFn, whole: Any, put: st.SearchStrategy[Any] = values) -> Any:
    """Draw a copy of a structure with one to three values replaced, removed, doubled, moved or added."""
    whole = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        paths = list(places(whole))
        if not paths:
            break
        path = draw(chosen_path(whole))
        parent, key = at(whole, path[:-1]), path[-1]
        action = draw(st.sampled_from(("replace", "replace", "nasty", "remove", "double", "move", "add")))
        if action == "remove":
            del parent[key]
        elif action == "move":
            parent[key] = copy.deepcopy(at(whole, draw(st.sampled_from(paths))))
        elif action == "double" and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[key]))
        elif action == "add":
            new = draw(put)
            parent.append(new) if isinstance(parent, list) else parent.update({draw(texts): new})
        else:
            parent[key] = draw(st.sampled_from(NASTY) if action == "nasty" else put)
    return whole


@st.composite
def torn(draw: st.DrawFn, data: bytes) -> bytes:
    """Draw bytes with one to three pieces cut out, overwritten, inserted or repeated."""
    for _ in range(draw(st.integers(1, 3))):
        begin = draw(st.integers(0, len(data)))
        end = min(len(data), begin + draw(st.integers(0, 40)))
        new = draw(st.sampled_from((b"", b"\0", b"\xff\xfe", b"[" * 5000, b"\n", b'"', b"=", data[begin:end] * 2)))
        new = new or draw(st.binary(max_size=8))
        data = data[:begin] + new + data[end:]
    return data


def toml(value: Any) -> str:
    """Return a value in TOML, inline; what TOML cannot hold becomes a text."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{toml(str(key))} = {toml(inner)}' for key, inner in value.items())}}}"
    shown = "".join(f"\\u{ord(mark):04x}" if ord(mark) < 0x20 or ord(mark) == 0x7F else mark for mark in str(value))
    return '"' + shown.replace('"', '\\"') + '"'
