"""``harness doctor``: what makes the times of this machine unreliable, and how a suite judges what does not differ."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from harness.cli.app import complete_from, current, json_option, plugin_options, print_json
from harness.cli.output import say, width_of_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.analysis.itself import AgainstItself
    from harness.api import Suite
    from harness.host import Host

TIME_LIMIT_S = 300.0


@click.command()
@click.option(
    "--suite", metavar="NAME|FILE", shell_complete=complete_from("suites"),
    help="Also time the baseline of this suite against itself.",
)  # fmt: skip
@click.option("--rounds", type=click.IntRange(min=2), metavar="N", help="Rounds of that.  [default: as the suite says]")
@json_option
@plugin_options
def doctor(suite: str | None, rounds: int | None, as_json: bool) -> None:
    """Tell what makes the times of this machine unreliable, and what to do about it.

    With --suite, four copies of the suite's baseline take turns with it in the time lane, at default values. As nothing
    differs, each verdict is a false one; the spread of the ratios tells how many rounds an effect of 5 % needs here.
    """
    from harness.measure.health import Machine, examine
    from harness.suite import read_suite

    if rounds is not None and suite is None:
        raise click.UsageError("--rounds is for timing a suite's baseline: add --suite NAME")
    host = current().host if suite else None
    # a wrong name is told before the machine is examined
    judged_by = read_suite(suite, host) if suite and host else None
    findings = examine(Machine())
    if not as_json:
        from harness.report.health import show_findings

        say(show_findings(findings, min(80, width_of_terminal())))
    told: list[dict[str, Any]] = [asdict(finding) for finding in findings]
    if judged_by is None or host is None:
        if as_json:
            print_json({"machine": told})
        return
    results: list[dict[str, Any]] = []
    for workload, reason, judged in _against_itself(host, judged_by, rounds):
        results += [asdict(phase) for phase in judged] or [{"workload": workload, "reason": reason}]
        if not as_json:
            from harness.report.health import show_itself

            say(show_itself(workload, reason, judged, min(80, width_of_terminal())))
    if as_json:
        print_json({"machine": told, "itself": results})


def _against_itself(host: Host, suite: Suite, rounds: int | None) -> Iterator[tuple[str, str, list[AgainstItself]]]:
    """Yield each workload with what its baseline showed against itself, or the reason why nothing was timed."""
    from dataclasses import replace

    from harness.analysis.claims import rule_of
    from harness.analysis.itself import judge_itself
    from harness.api import Limits
    from harness.execution.itself import time_itself
    from harness.execution.session import Resources, cores
    from harness.results.places import default_cache_path
    from harness.streams import aside

    suite = replace(suite, rounds=rounds or suite.rounds)
    limits = Limits(time_s=TIME_LIMIT_S, memory_bytes=None)
    resources = Resources(executor="local", jobs=cores(), limits=limits, cache=default_cache_path())
    timed = time_itself(host, suite, resources)
    while True:
        with aside():
            timing = next(timed, None)
        if timing is None:
            return
        judged = [
            judge_itself(timing.workload, phase, copies, rule_of(host.metrics[f"{phase}_throughput"], suite))
            for phase, copies in timing.ratios.items()
            if f"{phase}_throughput" in host.metrics
        ]
        yield timing.workload, timing.reason, [found for found in judged if found is not None]
