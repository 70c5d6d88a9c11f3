"""Asks techniques and workloads, before a run, whether the values that a user fixed make sense to them.

Their range is known to the code that takes them alone, which imports torch: so it is asked in a process of its own, run
as a module, that reads questions from its standard input and prints the answers.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final

from harness.api import Case, UsageError, resolve
from harness.execution.isolation.forkserver import command

LIMIT_S: Final = 120.0
"""Seconds that answering may take, imports included."""

Question = Mapping[str, Any]
"""Whom it is for (``who``), and either ``technique`` and ``params`` or ``workload`` and ``settings``."""


def check_values(cases: Iterable[Case]) -> None:
    """Raise UsageError with what each technique and workload of the cases refuses, a line for each text."""
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
            command(__name__), input=asked, capture_output=True, text=True, check=True, timeout=LIMIT_S
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return  # what dies or hangs when it is imported has a row that says so
    refused: dict[str, list[str]] = {}
    for line in done.stdout.splitlines()[-1:]:  # none where a technique ended the process
        for who, text in json.loads(line):
            refused.setdefault(text, []).append(who)
    if refused:
        raise UsageError(*(f"{text} ({', '.join(dict.fromkeys(whom))})" for text, whom in refused.items()))


def check_device(device: str, advice: str) -> None:
    """Raise UsageError with ``advice`` where torch does not see the device; a child process imports torch."""
    if device == "cpu":
        return
    probe = f"import torch; raise SystemExit(not torch.{'backends.mps' if device == 'mps' else device}.is_available())"
    if subprocess.run([sys.executable, "-c", probe], check=False, capture_output=True).returncode:
        raise UsageError(f"--device {device}: torch sees no such device here; {advice}")


def main() -> None:
    """Answer the questions on standard input: who refuses which value, and why."""
    answers = []
    for question in json.load(sys.stdin):
        try:
            _ask(question)
        except UsageError as error:
            answers += [(question["who"], problem) for problem in error.problems]
        except Exception:  # anything else is not about the values, and is told by the case's row
            continue
    sys.stdout.write(f"{json.dumps(answers)}\n")


def _ask(question: Question) -> None:
    if "technique" in question:
        resolve(question["technique"])(**question["params"])
        return
    check = getattr(resolve(question["workload"])(), "check_settings", None)
    if check is not None:
        check(question["settings"])
