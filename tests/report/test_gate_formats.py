"""The gate in the forms of CI systems: JUnit XML and a badge."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from harness.analysis.changes import Listed
from harness.analysis.vacuous import Lost
from harness.report.gate import render_gate
from tests.report.test_changes import APART, CRASH, DROP, MEMORY, PLACE, SAME, SLOW, report_of


def test_each_comparison_is_a_test_and_what_is_worse_a_failure_with_its_figures() -> None:
    undecided = replace(SLOW, verdict="undecided", reason="too few rounds", metric="infer_time")
    root = ElementTree.fromstring(render_gate(report_of(SLOW, DROP, MEMORY, SAME, CRASH, APART, undecided), "junit"))
    assert root.attrib | {"name": ""} == {"name": "", "tests": "7", "failures": "3", "errors": "0", "skipped": "2"}
    (suite,) = root
    assert suite.attrib["name"] == "toy"
    assert {case.attrib["classname"] for case in suite} == {"toy.alpha"}
    failures = {
        case.attrib["name"]: case.find("failure").attrib["message"]
        for case in suite.iter("testcase")
        if case.find("failure") is not None
    }
    assert failures == {
        "toys/a: train_time": "worse: +10.2 % [+8.1, +12.3]",
        "toys/a: accuracy since v1": "worse: 90.00 to 84.90, -5.1 points [-6.0, -4.2]",
        "toys/a: runs": "worse: crash: a|b",
    }
    skipped = [case.find("skipped").attrib["message"] for case in suite if case.find("skipped") is not None]
    assert skipped == ["shown and not judged: +10.2 % [+8.1, +12.3]", "undecided: too few rounds"]


def test_a_technique_that_only_one_side_has_is_a_skipped_test() -> None:
    gone = Listed(place=replace(PLACE, technique="toys/gone"), presence="removed", reason="its needs are not there")
    root = ElementTree.fromstring(render_gate(report_of(SAME, listed=(gone,)), "junit"))
    assert (root.attrib["tests"], root.attrib["skipped"]) == ("2", "1")
    (case,) = [case for case in root.iter("testcase") if case.find("skipped") is not None]
    assert case.attrib == {"classname": "toy.alpha", "name": "toys/gone: runs"}
    assert case.find("skipped").attrib["message"] == "removed, only base has it: its needs are not there"


def test_what_cannot_be_compared_is_an_error_and_not_a_pass() -> None:
    root = ElementTree.fromstring(render_gate(report_of(refused=("cpu: A and B",)), "junit"))
    assert (root.attrib["errors"], root.attrib["tests"]) == ("1", "1")
    error = next(root.iter("error"))
    assert error.text == "cpu: A and B"
    assert error.attrib["message"].startswith("Not comparable")


def test_names_are_text_and_no_character_breaks_the_document() -> None:
    evil = replace(CRASH, place=replace(PLACE, technique='toys/<a b="c">\x00\uffff'), reason="]]><x/>\x1b")
    (case,) = ElementTree.fromstring(render_gate(report_of(evil), "junit")).iter("testcase")
    assert case.attrib["name"] == 'toys/<a b="c">\\x00\ufffd: runs'
    assert case.find("failure").attrib["message"] == "worse: ]]><x/>\\x1b"


@pytest.mark.parametrize(
    ("changes", "refused", "message", "colour"),
    [
        ((SLOW, DROP, MEMORY), (), "2 worse", "critical"),
        ((MEMORY,), ("cpu: A and B",), "not comparable", "inactive"),
        ((MEMORY, SAME), (), "1 better", "brightgreen"),
        ((replace(SLOW, verdict="undecided"),), (), "nothing worse, 1 undecided", "yellow"),
        ((SAME, APART), (), "no change", "success"),
    ],
)
def test_a_badge_has_the_outcome_and_what_its_endpoint_asks_for(changes, refused, message: str, colour: str) -> None:
    badge = json.loads(render_gate(report_of(*changes, refused=refused), "badge"))
    assert badge == {
        "schemaVersion": 1,
        "label": "since main (1234567)",
        "message": message,
        "color": colour,
        "isError": colour == "critical",
    }


def test_a_badge_says_that_something_was_not_compared() -> None:
    gone = Listed(place=PLACE, presence="removed")
    new = Listed(place=PLACE, presence="new")
    messages = [
        json.loads(render_gate(report_of(*changes, listed=listed), "badge"))["message"]
        for changes, listed in [((SAME,), (gone, gone)), ((SAME,), (new,)), ((MEMORY,), (gone,)), ((SLOW,), (gone,))]
    ]
    assert messages == ["no change, 2 removed", "no change", "1 better, 1 removed", "1 worse"]


LOST = Lost(place=PLACE, metric="accuracy")


def test_a_value_that_only_base_has_is_a_skipped_test() -> None:
    root = ElementTree.fromstring(render_gate(report_of(SAME, lost=(LOST,)), "junit"))
    assert (root.attrib["tests"], root.attrib["skipped"]) == ("2", "1")
    (case,) = [case for case in root.iter("testcase") if case.find("skipped") is not None]
    assert case.attrib == {"classname": "toy.alpha", "name": "toys/a: accuracy"}
    assert case.find("skipped").attrib["message"] == "not compared, as head has no value of it"


def test_a_badge_says_that_values_were_not_compared() -> None:
    gone = Listed(place=PLACE, presence="removed")
    messages = [
        json.loads(render_gate(report_of(*changes, listed=listed, lost=(LOST,)), "badge"))["message"]
        for changes, listed in [((SAME,), ()), ((MEMORY,), (gone,)), ((SLOW,), ())]
    ]
    assert messages == ["no change, 1 without a value", "1 better, 1 removed, 1 without a value", "1 worse"]


@pytest.mark.parametrize("format_", ["table", "markdown", "json"])
def test_a_value_that_only_base_has_is_told_to_people_and_programs(format_: str) -> None:
    text = render_gate(report_of(SAME, lost=(LOST,)), format_)
    assert "not compared, as head has no value of it: accuracy of toys/a on core/alpha" in " ".join(text.split())
    if format_ == "json":
        assert json.loads(text)["lost"] == [
            {"place": {"suite": "toy", "workload": "core/alpha", "technique": "toys/a"}, "metric": "accuracy"}
        ]
