"""Lets techniques and workloads validate the values that a user fixed, before a run.

Only the code of a technique or workload knows the range of its values, and that code imports torch. So this module runs
as a separate process, which reads questions from its standard input and prints the answers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final

from harness.api import DEVICES, Case, UsageError, resolve
from harness.execution.isolation.forkserver import command
from harness.execution.isolation.supervisors import OFFLINE
from harness.streams import answering

LIMIT_S: Final = 120.0
"""Seconds that the process may take to answer, imports included."""

Question = Mapping[str, Any]
"""The name of the respondent (``who``), and either ``technique`` and ``params`` or ``workload`` and ``settings``."""


def check_values(cases: Iterable[Case]) -> None:
    """Raise UsageError with a line for each message of a technique or workload that refuses its values."""
    questions: dict[str, Question] = {}
    for case in cases:
        for question in (
            {"who": case.technique, "technique": case.technique_target, "params": case.params},
            {"who": case.workload, "workload": case.workload_target, "settings": case.settings},
        ):
            questions[json.dumps(question, sort_keys=True, default=dict)] = question
    asked = json.dumps(list(questions.values()), default=dict)
    try:
        done = subprocess.run(
            command(__name__),
            input=asked,
            capture_output=True,
            text=True,
            check=True,
            timeout=LIMIT_S,
            env={**OFFLINE, **os.environ},
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return  # a module that crashes or hangs on import is reported by the row of its case
    refused: dict[str, list[str]] = {}
    for who, text in json.loads(done.stdout or "[]"):  # there is no answer where a technique ended the process
        refused.setdefault(text, []).append(who)
    if refused:
        raise UsageError(*(f"{text} ({', '.join(dict.fromkeys(whom))})" for text, whom in refused.items()))


def check_device(device: str, advice: str) -> None:
    """Raise UsageError with ``advice`` where torch does not see the device; a child process imports torch."""
    if device == "cpu":
        return
    if device not in DEVICES:  # which becomes code below
        raise UsageError(f"--device {device!r}: expected one of {', '.join(DEVICES)}")
    probe = f"import torch; raise SystemExit(not torch.{'backends.mps' if device == 'mps' else device}.is_available())"
    if subprocess.run([sys.executable, "-c", probe], check=False, capture_output=True).returncode:
        raise UsageError(f"--device {device}: torch sees no such device here; {advice}")


def main() -> None:
    """Print, for the questions on standard input, who refuses its values and with which message."""
    answers = []
    with answering() as out:
        for question in json.load(sys.stdin):
            try:
                _ask(question)
            except UsageError as error:
                answers += [(question["who"], problem) for problem in error.problems]
            except Exception:  # other errors do not concern the values; the row of the case reports them
                continue
        out.write(json.dumps(answers))


def _ask(question: Question) -> None:
    if "technique" in question:
        resolve(question["technique"])(**question["params"])
        return
    check = getattr(resolve(question["workload"])(), "check_settings", None)
    if check is not None:
        check(question["settings"])
