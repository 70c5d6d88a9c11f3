"""The result of a comparison as JUnit XML, which CI systems show as tests."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree

from harness.analysis.changes import Listed
from harness.analysis.vacuous import Lost
from harness.api.text import printable
from harness.report.changes import told
from harness.report.naming import short

if TYPE_CHECKING:
    from harness.analysis.changes import Change, Place
    from harness.report.changes import ChangeReport

_NO_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""The characters that no XML may contain, not even as references."""


def junit(report: ChangeReport) -> str:
    """Return the document: a suite of tests for each suite, and a test for each comparison.

    What became worse is a failure, and what can not be compared an error. An undecided comparison, one that is shown
    and not judged, and a technique or a value that only one side has, is a test that was skipped.
    """
    root = ElementTree.Element("testsuites", name=_xml(f"harness compare {report.base} {report.head}"))
    suites: dict[str, ElementTree.Element] = {}
    entries: tuple[Change | Listed | Lost, ...] = (*report.changes.changes, *report.changes.listed, *report.lost)
    for entry in entries:
        name = entry.place.suite or "harness"
        if name not in suites:
            suites[name] = ElementTree.SubElement(root, "testsuite", name=_xml(name))
        if isinstance(entry, Listed):
            _only(suites[name], entry)
        elif isinstance(entry, Lost):
            test = _case(suites[name], entry.place, entry.metric)
            ElementTree.SubElement(test, "skipped", message="not compared, as head has no value of it")
        else:
            _test(suites[name], entry, report)
    if report.refused or report.untold:
        suite = ElementTree.SubElement(root, "testsuite", name="comparison")
        test = ElementTree.SubElement(suite, "testcase", classname="harness.compare", name="can be compared")
        kind = "refused" if report.refused else "untold"
        error = ElementTree.SubElement(test, "error", message=_xml(report.headline), type=kind)
        error.text = _xml("\n".join([*report.refused, *report.untold]))
    for suite in root:
        suite.attrib.update(_counts(suite))
    root.attrib.update(_counts(root))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=False) + "\n"


def _only(suite: ElementTree.Element, listed: Listed) -> None:
    """Add the test of a technique that only one side has."""
    test = _case(suite, listed.place, "runs")
    reason = f": {listed.reason}" if listed.reason else ""
    side = "base" if listed.presence == "removed" else "head"
    ElementTree.SubElement(test, "skipped", message=_xml(f"{listed.presence}, only {side} has it{reason}"))


def _case(suite: ElementTree.Element, place: Place, what: str) -> ElementTree.Element:
    """Add a test of a technique on a workload."""
    return ElementTree.SubElement(
        suite,
        "testcase",
        classname=_xml(".".join(filter(None, [place.suite, short(place.workload)])) or "harness"),
        name=_xml(f"{place.technique}: {what}"),
    )


def _test(suite: ElementTree.Element, change: Change, report: ChangeReport) -> None:
    """Add the test of a change to its suite."""
    text = told(change)
    since = f" since {report.release}" if change.since_release else ""
    test = _case(suite, change.place, f"{change.metric or 'runs'}{since}")
    if not change.gated:
        ElementTree.SubElement(test, "skipped", message=_xml(f"shown and not judged: {text}"))
    elif change.verdict == "worse":
        failure = ElementTree.SubElement(test, "failure", message=_xml(f"worse: {text}"), type="worse")
        failure.text = _xml(f"{report.base} to {report.head}: {change.reason or text}")
    elif change.verdict == "undecided":
        ElementTree.SubElement(test, "skipped", message=_xml(f"undecided: {change.reason or text}"))


def _counts(element: ElementTree.Element) -> dict[str, str]:
    """Return the numbers of tests of each kind within an element."""
    kinds = {"tests": "testcase", "failures": "failure", "errors": "error", "skipped": "skipped"}
    return {name: str(sum(1 for _ in element.iter(tag))) for name, tag in kinds.items()}


def _xml(text: str) -> str:
    return _NO_XML.sub("\ufffd", printable(text, keep="\n"))
