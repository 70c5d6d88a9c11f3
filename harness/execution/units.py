"""Translates a unit into the jobs of its lane, and their answers into its replies, for every executor.

The script of a unit is a generator. It yields the next job or the next turn of a contestant, is sent the answer, and
returns a reply for each of the unit's cases. The executor decides where and how a job is carried out.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

from harness.api import Case, ExecutorOptions, Limits, Reply, Unit
from harness.execution import block
from harness.execution.job import PEAK_TASKS, Act, Job, Message, Task
from harness.measure.memory import available_bytes


@dataclass(frozen=True, kw_only=True)
class Turn:
    """The next act of a contestant of a timed block, whose job begins with the act ``open``.

    Answered by a message, or by the reply that ends the contestant.
    """

    contestant: int
    job: Job
    act: Act


@dataclass(frozen=True, kw_only=True)
class Done:
    """The end of a whole job: its reply, and where it evaluated several cases ``together``, a reply for each."""

    reply: Reply
    together: Sequence[Reply] = ()


Answer = Done | Message | Reply
Script = Generator[Job | Turn, Answer, list[Reply]]


def script_of(unit: Unit, options: ExecutorOptions) -> Script:
    """Return the script of a unit; a ``Job`` that it yields is answered by `Done`, a `Turn` by a message or reply."""
    case = unit.cases[0]
    if unit.prepare:
        return _passes(case, ("prepare",), options)
    if unit.check:
        return _passes(case, ("check",), options)
    if unit.trial:
        return _trial(unit.cases, options)
    if case.lane == "time":
        return _turns(unit.cases, options)
    if len(unit.cases) > 1:
        return _together(unit.cases, options)
    if case.lane == "accuracy":
        return _passes(case, ("evaluate",), options)
    return _passes(case, ("tensor_peak",), options) if case.device.startswith("cuda") else _peaks(case, options)


def _passes(case: Case, tasks: Sequence[Task], options: ExecutorOptions) -> Script:
    """Carry out the tasks in order until one fails, and merge their replies into one."""
    replies: list[Reply] = []
    for task in tasks:
        replies.append((yield from _done(_job(case, task, options))).reply)
        if replies[-1].status != "ok":
            break
    return [merged(replies)]


def _trial(cases: Sequence[Case], options: ExecutorOptions) -> Script:
    """Try a case, within the memory that there is: where that is not enough, the process fails, and not the machine."""
    job = _job(cases[0], "trial", options)
    if job.limits.memory_bytes is None and job.case.device == "cpu":
        job = replace(job, limits=replace(job.limits, memory_bytes=available_bytes()))
    done = yield from _done(replace(job, others=tuple(cases[1:])))
    return [done.reply] * len(cases)


def _peaks(case: Case, options: ExecutorOptions) -> Script:
    """Measure all peaks in one process, and those of tensors in a second one where the first could not tell them."""
    replies: list[Reply] = []
    for task in PEAK_TASKS:
        replies.append((yield from _done(_job(case, task, options))).reply)
        told = any(name.endswith("_tensor_peak") for name in replies[-1].metrics)
        if told or replies[-1].status != "ok":
            break
    return [merged(replies)]


def _together(cases: Sequence[Case], options: ExecutorOptions) -> Script:
    """Evaluate all cases in one job; where the job fails, evaluate each in its own, so that a failure is confined."""
    done = yield from _done(_job(cases[0], "stack", options, cases[1:]))
    if done.reply.status == "ok":
        return share_out(done.together, done.reply)
    replies: list[Reply] = []
    for case in cases:
        alone = yield from _done(_job(case, "evaluate", options))
        replies.append(evaluated_alone(alone.reply, done.reply))
    return replies


def _turns(cases: Sequence[Case], options: ExecutorOptions) -> Script:
    """Let the contestants of a timed block take turns, all alive until the block ends."""
    jobs = [_job(case, "contest", options) for case in cases]
    turns = block.run(cases, options.rounds)
    turn = next(turns)
    while True:
        answer = yield Turn(contestant=turn.contestant, job=jobs[turn.contestant], act=turn.act)
        assert not isinstance(answer, Done)
        try:
            turn = turns.send(answer)
        except StopIteration as end:
            return list(end.value)


def _done(job: Job) -> Generator[Job, Answer, Done]:
    answer = yield job
    assert isinstance(answer, Done)
    return answer


def _job(case: Case, task: Task, options: ExecutorOptions, others: Sequence[Case] = ()) -> Job:
    return Job(
        case=case,
        task=task,
        cache=options.cache,
        limits=multiplied(options.limits, 1 + len(others)),
        others=tuple(others),
        keep=options.keep,
        protocol=options.protocol,
    )


def multiplied(limits: Limits, cases: int) -> Limits:
    """Return the limits of a job that runs ``cases`` cases at once, from the limits of one case."""
    memory = None if limits.memory_bytes is None else limits.memory_bytes * cases
    return Limits(time_s=limits.time_s * cases, memory_bytes=memory)


def merged(passes: Sequence[Reply]) -> Reply:
    """Return one reply of several passes, or the failed one; seconds by phase are those of the first pass."""
    if len(passes) == 1:
        return passes[0]
    failed = next((reply for reply in passes if reply.status != "ok"), None)
    return replace(
        failed or passes[0],
        metrics={} if failed else {name: value for reply in passes for name, value in reply.metrics.items()},
        notes=[note for reply in passes for note in reply.notes],
        wall_s=sum(reply.wall_s for reply in passes),
        cpu_s=sum(reply.cpu_s for reply in passes),
    )


def share_out(replies: Sequence[Reply], together: Reply) -> list[Reply]:
    """Return each reply with its share of the seconds that all took ``together``."""
    wall, cpu = together.wall_s / len(replies), together.cpu_s / len(replies)
    return [replace(reply, wall_s=wall, cpu_s=cpu, load=together.load) for reply in replies]


def evaluated_alone(reply: Reply, together: Reply) -> Reply:
    """Return the reply of a case on its own, with the reason why it was not evaluated with the others."""
    return replace(reply, notes=(*reply.notes, f"evaluated alone: {together.reason or together.status}"))
