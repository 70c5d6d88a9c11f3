"""A plugin of cheap techniques, some of which misbehave: what the tests of a whole run are made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.api import Contract, Metric, Technique, WorkloadSpec, hookimpl

HARNESS_API = 1

WELL_BEHAVED = ("base", "good", "twin")
MISBEHAVED = ("raises", "segfaults", "exits", "hangs", "eats-memory", "nan", "wrong", "not-applicable")


@hookimpl
def register_techniques() -> Sequence[Technique]:
    """One technique a behaviour; each adds its ``shift`` to the quality."""
    shifts = {"good": 3.0}
    return [
        *(
            Technique(
                id=name,
                contract="toy",
                target="toy_targets:Toy",
                summary=f"a toy that is {name}",
                params={"behaviour": name, "shift": shifts.get(name, 0.0)},
            )
            for name in (*WELL_BEHAVED, *MISBEHAVED)
        ),
        Technique(
            id="needs-more",
            contract="toy",
            target="toy_targets:Toy",
            summary="a toy whose requirement is not there",
            requires=["surely-not-installed>=2"],
        ),
        Technique(
            id="own-space",
            contract="toy",
            target="toy_targets:Toy",
            summary="a toy that is tuned over a space of its own",
            params={"behaviour": "own-space", "shift": 0.0},
            space={"lr": [1.0, 2.0, 3.0, 4.0, 5.0]},
        ),
        Technique(
            id="small-space",
            contract="toy",
            target="toy_targets:Toy",
            summary="a toy whose space is too small",
            params={"behaviour": "small-space", "shift": 0.0},
            space={"lr": [1.0]},
        ),
    ]


@hookimpl
def register_contracts() -> Sequence[Contract]:
    """What a toy is."""
    return [
        Contract(
            id="toy",
            protocol="toy_targets:ToyTechnique",
            summary="something that has a shift",
            phases={"train": "a toy's step", "infer": "a toy's batch"},
        )
    ]


@hookimpl
def register_workloads() -> Sequence[WorkloadSpec]:
    """A workload whose quality is a formula of the seed and the learning rate."""
    return [
        WorkloadSpec(
            id=name,
            contract="toy",
            target=f"toy_targets:{target}",
            summary="quality by formula",
            version=1,
            metrics=("toy_score", "toy_val_score"),
            phases=("train", "infer"),
            settings={"lr": 0.1, "sleep_s": 0.0},
        )
        for name, target in (("formula", "Formula"), ("unprepared", "Unprepared"))
    ]


@hookimpl
def register_metrics() -> Sequence[Metric]:
    """The score, on test and on validation."""
    return [
        Metric(
            id=name, unit="points", higher_is_better=True, summary="by formula", lane="accuracy", selects="val" in name
        )
        for name in ("toy_score", "toy_val_score")
    ]


@hookimpl
def register_suites() -> Sequence[Path]:
    """The suite of well-behaved toys."""
    return [Path(__file__).with_name("toys.toml")]
