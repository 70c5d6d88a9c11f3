"""Claims as text: what one states, and what a run found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.report import units
from harness.report.columns import ratio_text, with_interval
from harness.report.naming import short

if TYPE_CHECKING:
    from harness.analysis.claims import ClaimResult
    from harness.analysis.intervals import Estimate
    from harness.api import Claim, Metric

_WAY: Final = {"more": "rises", "less": "falls"}


def claimed(claim: Claim) -> str:
    """Return what a claim tests, as a page of its suite or a list of claims tells it."""
    pair = f"{claim.better} over {claim.than}" if claim.than else claim.better
    where = f" on {claim.workload}" if claim.workload else ""
    bound = f"{claim.bound:g}" if claim.bound is not None else ""
    match claim.kind:
        case "better":
            text = f"{claim.better} better than {claim.than}{where}"
        case "same":
            text = f"{claim.better} the same as {claim.than}{where}"
        case "gain":
            text = f"{claim.better} gains more over {claim.than}{where} than on {claim.less_on}"
        case "interaction":
            text = f"{claim.better} gains more over {claim.than} than {' over '.join(claim.others)}{where}"
        case "ratio":
            least = "at least" if claim.direction == "more" else "at most"
            text = f"{claim.better} {least} {bound} times {claim.than}{where}"
        case "steps":
            less = f"less time ({claim.phase})" if claim.phase else "fewer steps"
            text = f"{claim.better} reaches {bound} in {less} than {claim.than}{where}"
        case "trend":
            gain = "the gain of " if claim.than else ""
            text = f"{gain}{pair} {_WAY[claim.direction]} with {claim.parameter}{where}"
        case "best":
            size = "larger" if claim.direction == "more" else "smaller"
            text = f"the best {claim.parameter} is {size} for {claim.better} than for {claim.than}{where}"
        case "correlation":
            among = f" among {', '.join(claim.others)}" if claim.others else ""
            least = f" by at least {bound}" if claim.bound else ""
            way = "rises" if claim.direction == "more" else "falls"
            text = f"{way} with {claim.other_metric}{least} over contestants{among}{where}"
    return f"{claim.metric}: {text}"


def finding_text(result: ClaimResult, metric: Metric) -> str:
    """Return what a tested claim compared and what came out, with the number of seeds, rounds or contestants."""
    only = f"one {result.paired_by.removesuffix('s')}"
    number = only if result.n == 1 else f"{result.n} {result.paired_by}"
    details = "; ".join(dict.fromkeys(part for part in (number, result.reason) if part))
    return f"{_quantity(result, metric)} ({details})"


def _quantity(result: ClaimResult, metric: Metric) -> str:
    """Return the quantity that a claim is about, with its interval."""
    claim, estimate = result.claim, result.estimate
    name = metric.id.replace("_", " ")
    if claim.kind == "best":
        return f"{name}: {result.words}"
    if claim.kind == "correlation":
        assert estimate is not None
        return f"correlation of {name} and {claim.other_metric.replace('_', ' ')} {with_interval(estimate, 2)}"
    if claim.kind in ("ratio", "steps"):
        what = f"{result.words} until {name} {claim.bound:g}" if claim.kind == "steps" else name
        size = f" {_times(estimate)}" if estimate is not None else ""
        return f"{what} of {claim.better} / {claim.than}{size}"
    return f"{_sides(result, name)}{_size(result, metric)}"


def _sides(result: ClaimResult, name: str) -> str:
    """Return what is compared with what: a technique, its gain, or its values at both ends of a parameter."""
    claim, ratio = result.claim, result.paired_by == "rounds"
    sign, minus = ("/", "relative to") if ratio else ("-", "minus")
    pair = f"{name} of {claim.better} {sign} {claim.than}"
    if claim.kind == "gain":
        return f"on {short(claim.workload)} {minus} on {short(claim.less_on)}, {pair}"
    if claim.kind == "interaction":
        return f"{pair} {minus} {f' {sign} '.join(claim.others)}"
    if claim.kind == "trend":
        return f"{pair if claim.than else f'{name} of {claim.better}'} {result.words}"
    return pair


def _size(result: ClaimResult, metric: Metric) -> str:
    """Return the difference of the comparison; an empty text where no seed is shared."""
    size = result.comparison.difference if result.comparison else None
    if size is None:
        return ""
    return f" {ratio_text(size)}" if result.paired_by == "rounds" else f" {difference_text(size, metric)}"


def _times(estimate: Estimate) -> str:
    """Return a ratio with its interval."""
    return f"x{with_interval(estimate, units.ratio_places(estimate.value))}"


def difference_text(estimate: Estimate, metric: Metric) -> str:
    """Return a difference of a metric with its interval, with decimals that fit the interval."""
    bounds = [bound - estimate.value for bound in (estimate.low, estimate.high) if bound is not None]
    places = 1 if metric.unit == "%" else units.decimals(bounds, [estimate.value])
    return with_interval(estimate, places, signed=True)
