"""What makes times unreliable, and a baseline against itself, as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from harness.analysis.itself import EFFECT
from harness.report.columns import with_interval
from harness.report.layout import wrapped
from harness.report.naming import short

if TYPE_CHECKING:
    from harness.analysis.itself import AgainstItself


class Found(Protocol):
    """A finding of `harness.measure.health`, which reports do not import."""

    @property
    def name(self) -> str:
        """What was looked at."""

    @property
    def state(self) -> str:
        """``fine``, ``warning`` or ``unknown``."""

    @property
    def what(self) -> str:
        """What is the case."""

    @property
    def advice(self) -> str:
        """What to do about it."""


def show_findings(findings: Sequence[Found], width: int) -> str:
    """Return a line for each finding, with the advice of a warning below it, and how many warnings there are."""
    column = max(len(finding.name) for finding in findings)
    lines: list[str] = []
    for finding in findings:
        head = f"{finding.name:<{column}}  {finding.state:<7}  "
        lines += wrapped([head + finding.what], width, indent=" " * len(head))
        if finding.advice:
            pad = " " * len(head)
            lines += [pad + line for line in wrapped([f"-> {finding.advice}"], width - len(pad), indent="   ")]
    warnings = sum(finding.state == "warning" for finding in findings)
    return "\n".join([*lines, "", f"{warnings} warning{'s' * (warnings != 1)}" if warnings else "nothing to warn of"])


def show_itself(workload: str, reason: str, judged: Sequence[AgainstItself], width: int) -> str:
    """Return a block of lines on a workload: for each phase the ratio, its spread, false verdicts and rounds needed."""
    if not judged:
        return "\n".join(wrapped([f"{short(workload)}: not timed: {reason}"], width))
    lines = []
    for phase in judged:
        needed = f"needs {phase.needed} rounds" if phase.needed else "needs more rounds than are realistic"
        ratio = f"x{with_interval(phase.ratio, 3)}, a round off by {100 * phase.spread:.1f} %"
        false = f"{phase.false} false verdicts of {phase.copies} ({phase.rounds} rounds)"
        effect = f"an effect of {100 * EFFECT:g} % {needed} here"
        lines.append(f"{short(workload)}, {phase.phase}: the baseline over itself {ratio}; {false}; {effect}")
    return "\n".join(wrapped(lines, width))
