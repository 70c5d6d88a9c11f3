"""All claims by paper: as text for a terminal, as JSON, as a page, and as a list for the documentation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, get_args

from harness.analysis.found import ClaimVerdict
from harness.api import Json
from harness.api.text import as_typed
from harness.report.findings import claimed, finding_text
from harness.report.forms import of_form
from harness.report.frame import Head, rendered
from harness.report.layout import wrapped
from harness.report.naming import address_of, short
from harness.results.schema import encode

if TYPE_CHECKING:
    from harness.analysis.claim_runs import ClaimEntry
    from harness.analysis.claims import ClaimResult

VERDICTS: Final[tuple[ClaimVerdict, ...]] = get_args(ClaimVerdict)


def by_paper(entries: Iterable[ClaimEntry]) -> dict[str, list[ClaimEntry]]:
    """Return the entries by their source, sources in order of the alphabet."""
    papers: dict[str, list[ClaimEntry]] = {}
    for entry in entries:
        papers.setdefault(entry.claim.source, []).append(entry)
    return {source: papers[source] for source in sorted(papers, key=str.lower)}


def show_claims(entries: Sequence[ClaimEntry], width: int) -> str:
    """Return all claims by paper, wrapped to a width, and how many have which verdict."""
    lines: list[str] = []
    for source, own in by_paper(entries).items():
        lines += wrapped([source], width)
        for entry in own:
            lines += _indented([f"{entry.claim.id} ({short(entry.suite)}): {entry.claim.says}"], width, 2)
            lines += _indented(_found(entry), width, 4)
        lines.append("")
    return "\n".join([*lines, *wrapped([counts(entries)], width)])


def _found(entry: ClaimEntry) -> list[str]:
    """Return a line for each workload that a claim was tested on, the scales, and the run; or why it was not tested."""
    if entry.run is None:
        return [f"not tested{f': {entry.reason}' if entry.reason else ''}"]
    lines = []
    for result in entry.results:
        more = f"; {more_text(result)}" if more_text(result) else ""
        lines.append(f"{short(result.workload)}: {result.verdict}: {finding_text(result, entry.metric)}{more}")
        lines.append(f"  at: {scale_text(entry.scales[result.workload])}")
    return [*lines, f"run {entry.run.id}{of_form(entry.run.suite.form)}"]


def _indented(lines: Iterable[str], width: int, by: int) -> list[str]:
    pad = " " * by
    return [f"{pad}{line}" for line in wrapped(lines, width - by)]


def more_text(result: ClaimResult) -> str:
    """Return how many more seeds, rounds or contestants would decide; empty where that is not known."""
    more = further(result)
    return (
        f"{more} more {result.paired_by if more > 1 else result.paired_by.removesuffix('s')} would decide"
        if more
        else ""
    )


def further(result: ClaimResult) -> int | None:
    """Return about how many more seeds, rounds or contestants would decide an undecided claim; None if unknown."""
    return max(1, result.needed - result.n) if result.verdict == "undecided" and result.needed else None


def scale_text(scale: Mapping[str, Json]) -> str:
    """Return a scale as text: ``adapter parameters 3328, steps 100, device cpu``."""
    return ", ".join(f"{name} {as_typed(value)}" for name, value in scale.items())


def counts(entries: Sequence[ClaimEntry]) -> str:
    """Return how many claims there are, and how many tests of them have which verdict."""
    found = Counter(result.verdict for entry in entries for result in entry.results)
    papers = len({entry.claim.source for entry in entries})
    idle = sum(not entry.results for entry in entries)
    text = f"{len(entries)} claim{'s' * (len(entries) != 1)} of {papers} source{'s' * (papers != 1)}"
    verdicts = ", ".join(f"{found[verdict]} {verdict}" for verdict in VERDICTS)
    return f"{text}: by workload {verdicts}; {idle} not tested"


def claims_json(entries: Sequence[ClaimEntry]) -> list[dict[str, Any]]:
    """Return all claims with their results as JSON."""
    return [
        {
            "suite": entry.suite,
            **{name: encode(value) for name, value in vars(entry.claim).items()},
            "test": claimed(entry.claim),
            "verdict": entry.verdict,
            "reason": entry.reason,
            "run": entry.run.id if entry.run else None,
            "form": entry.run.suite.form if entry.run else None,
            "results": [_result(entry, result) for result in entry.results],
        }
        for entry in entries
    ]


def _result(entry: ClaimEntry, result: ClaimResult) -> dict[str, Any]:
    estimate = result.estimate or (result.comparison.difference if result.comparison else None)
    return {
        "workload": result.workload,
        "verdict": result.verdict,
        "reason": result.reason,
        "found": finding_text(result, entry.metric),
        "value": encode(estimate.value) if estimate else None,
        "low": encode(estimate.low) if estimate else None,
        "high": encode(estimate.high) if estimate else None,
        "n": result.n,
        "counted": result.paired_by,
        "more": further(result),
        "scale": encode(entry.scales[result.workload]),
    }


def claims_page(entries: Sequence[ClaimEntry]) -> str:
    """Return all claims by paper as an HTML page, which loads nothing."""
    papers = [
        {"source": source, "address": address_of(source), "claims": [_row(entry) for entry in own]}
        for source, own in by_paper(entries).items()
    ]
    told = counts(entries)
    head = Head(title="Claims of papers", description=told, charts=False)
    return rendered("claims.html", head, papers=papers, counts=told)


def _row(entry: ClaimEntry) -> dict[str, Any]:
    return {
        "id": entry.claim.id,
        "suite": entry.suite,
        "says": entry.claim.says,
        "test": claimed(entry.claim),
        "reason": entry.reason,
        "run": f"{entry.run.id}{of_form(entry.run.suite.form)}" if entry.run else "",
        "results": [
            {
                "where": short(result.workload),
                "verdict": result.verdict,
                "text": finding_text(result, entry.metric),
                "more": more_text(result),
                "scale": scale_text(entry.scales[result.workload]),
            }
            for result in entry.results
        ],
    }
