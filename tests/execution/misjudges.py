"""Workloads whose methods answer what they must not: one for each mistake of a family's author."""

from __future__ import annotations

from toys import Toy

from harness.api import OpenCase, Outcome, Phase


class Answers(Toy):
    """Answers what the parameter ``what`` of the technique names, from the method that is meant."""

    def evaluate(self, technique, context):
        return {
            "a mapping": {"score": 1.0},
            "nothing": None,
            "a list as metrics": Outcome(metrics=["score"]),
        }.get(technique.what, Outcome(metrics={"score": 1.0}))

    def evaluate_stacked(self, techniques, contexts):
        return {"nothing": None, "too few": [], "others": [{"score": 1.0}] * len(techniques)}[techniques[0].what]

    def open(self, technique, context):
        right = super().open(technique, context)
        run = technique.train
        return {
            "a mapping": {"phases": right.phases},
            "nothing": None,
            "no phase": OpenCase(phases={}),
            "a list of phases": [Phase(run=run, samples=1)],
            "functions as phases": OpenCase(phases={"train": run}),
            "a phase of a number": OpenCase(phases={"train": Phase(run=3, samples=1)}),
            "no samples": OpenCase(phases={"train": Phase(run=run, samples=0)}),
            "a number as figures": OpenCase(phases=right.phases, figures=3),
            "figures of nothing": OpenCase(phases=right.phases, figures=lambda _: None),
            "a verdict": OpenCase(phases={"train": Phase(run=run, samples=1, verify=lambda _: False)}),
        }[technique.what]

    def check(self, technique, context):
        return {"false": False, "true": True, "text": "it is wrong"}[technique.what]
