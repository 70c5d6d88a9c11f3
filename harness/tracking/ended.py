"""Takes the series that ended out of a published site's regressions: nobody can mend what no longer exists."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

from harness.history.latest import UNMEASURED

RESULTS: Final = ".asv/results"
"""The folder of asv's results in a project."""

_ATOM: Final = "{http://www.w3.org/2005/Atom}"
_UNSAFE: Final = re.compile(r'[<>:"/\\^|?*\x00-\x1f]')
"""Characters that asv replaces in the names of files."""

Line = tuple[str, str, str]
"""A machine, a class of series (a technique in a suite), and the value of the series' parameter."""


def drop_ended(project: Path, site: Path) -> list[str]:
    """Remove the series that ended from a site's list and feed of regressions; return their names.

    A series ended where its technique is absent from the newest commit that was measured, or was not measured at the
    newest `UNMEASURED` commits at which others of the suite were. A technique that fails did not end.
    """
    file = site / "regressions.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    ended = _ended(project, json.loads((site / "index.json").read_text(encoding="utf-8")))
    kept = [entry for entry in content["regressions"] if _line(entry) not in ended]
    dropped = {str(entry[0]) for entry in content["regressions"]} - {str(entry[0]) for entry in kept}
    if len(kept) < len(content["regressions"]):
        file.write_text(json.dumps({**content, "regressions": kept}), encoding="utf-8")
        drop_from_feed(site / "regressions.xml", dropped)
    return sorted(dropped)


def _line(entry: Sequence[Any]) -> Line:
    """Return the line of an entry of regressions.json, which names the machine in the path of the graph."""
    name, _, key = str(entry[0]).partition("(")
    machines = [part for part in Path(str(entry[1])).parts if part.startswith("machine-")]
    return ("".join(machines).removeprefix("machine-"), name.rpartition(".")[0], key.removesuffix(")"))


def _ended(project: Path, index: Mapping[str, Any]) -> set[Line]:
    """Return the lines that ended, from asv's results and the index of a site."""
    revisions = {commit: int(revision) for revision, commit in index["revision_to_hash"].items()}
    groups = {name.rpartition(".")[0]: _suite(name, benchmark) for name, benchmark in index["benchmarks"].items()}
    measured: dict[tuple[str, str], set[int]] = {}
    present: dict[Line, dict[int, bool]] = {}
    for file in sorted((project / RESULTS).glob("*/*-*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        revision = revisions.get(content.get("commit_hash"))
        if revision is None:
            continue
        machine = _UNSAFE.sub("_", str(content.get("params", {}).get("machine")))
        for name, row in content["results"].items():
            owner = name.rpartition(".")[0]
            measured.setdefault((machine, groups.get(owner, owner)), set()).add(revision)
            for key, is_present in _presence(row):
                states = present.setdefault((machine, owner, key), {})
                states[revision] = states.get(revision, False) or is_present
    return {
        line for line, states in present.items() if _is_over(states, measured[line[0], groups.get(line[1], line[1])])
    }


def _suite(name: str, benchmark: Mapping[str, Any]) -> str:
    """Return the suite in the title of a benchmark, or the class of a benchmark that is of no suite."""
    suite, separator, _ = str(benchmark.get("pretty_name") or "").partition(" · ")
    return suite if separator else name.rpartition(".")[0]


def _presence(row: Sequence[Any]) -> Iterator[tuple[str, bool]]:
    """Yield the values of the parameter in a row of asv's results, each with whether there is a value or a failure.

    asv keeps not-a-number where a technique is absent, and null where it failed.
    """
    values, params = row[0], row[1] if len(row) > 1 else []
    keys = [str(key) for key in params[0]] if params else [""]
    for key, value in zip(keys, values if isinstance(values, list) else [values] * len(keys), strict=False):
        yield key, not (isinstance(value, float) and math.isnan(value))


def _is_over(states: Mapping[int, bool], measured: set[int]) -> bool:
    """Return whether a line ended; ``measured`` are the revisions with results of its suite."""
    newest = sorted(measured)[-UNMEASURED:]
    if newest[-1] in states:
        return not states[newest[-1]]
    return len(newest) == UNMEASURED and not any(states.get(revision) for revision in newest)


def drop_from_feed(file: Path, names: set[str]) -> None:
    """Remove the entries of series from a feed, whose titles end with the names of the series."""
    if not file.is_file():
        return
    ElementTree.register_namespace("", _ATOM.strip("{}"))
    tree = ElementTree.parse(file)
    for entry in tree.getroot().findall(f"{_ATOM}entry"):
        if (entry.findtext(f"{_ATOM}title") or "").partition(" ")[2] in names:
            tree.getroot().remove(entry)
    tree.write(file, encoding="utf-8", xml_declaration=True)
