"""The family ``kept-family``: the nearest neighbours of queries among embeddings, by recall, bytes and time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from harness.api import Contract, Metric, Technique, WorkloadSpec, hookimpl
from harness.judge.metrics import higher, lower
from harness.judge.settings import defaults_of
from harness_kept_family.settings import ClusterSettings, PassageSettings

HARNESS_API = 1

_PHASES: Final = {"search": "a batch of queries", "index": "building an index of all vectors"}
_EMITTED: Final = ("recall_at_10", "val_recall_at_10", "distance_excess", "index_bytes")
_SMALL: Final = {"vectors": 200, "queries": 10, "validation_queries": 5}


@hookimpl
def register_contracts() -> Sequence[Contract]:
    """Declare what a technique of this family must be."""
    return [
        Contract(
            id="kept-family",
            protocol="harness_kept_family.contract:KeptFamilyTechnique",
            summary="an index of vectors that gives the nearest neighbours of queries",
            phases=_PHASES,
        )
    ]


@hookimpl
def register_workloads() -> Sequence[WorkloadSpec]:
    """Declare the problems of this family."""
    return [
        WorkloadSpec(
            id="passages",
            contract="kept-family",
            target="harness_kept_family.workloads:Passages",
            summary="paragraphs of Python's documentation as hashed bags of words, of length 1",
            version=1,
            metrics=_EMITTED,
            phases=tuple(_PHASES),
            settings=defaults_of(PassageSettings),
            small=_SMALL,
        ),
        WorkloadSpec(
            id="clusters",
            contract="kept-family",
            target="harness_kept_family.workloads:Clusters",
            summary="normal vectors around normal centres",
            version=1,
            metrics=_EMITTED,
            phases=tuple(_PHASES),
            settings=defaults_of(ClusterSettings),
            small=_SMALL,
        ),
    ]


@hookimpl
def register_metrics() -> Sequence[Metric]:
    """Declare what this family measures beyond the metrics that follow from its phases."""
    return [
        higher("recall_at_10", "%", "share of 10 answers that are as near as the true 10 nearest"),
        higher("val_recall_at_10", "%", "share of the 10 nearest that validation queries find", selects=True),
        lower("distance_excess", "%", "mean distance of the 10 answers, beyond that of the true ones"),
        lower("index_bytes", "B", "bytes of all that an index keeps"),
    ]


@hookimpl
def register_techniques() -> Sequence[Technique]:
    """Declare four techniques; a package of its own could declare others of the same contract."""
    return [
        Technique(
            id="exact",
            contract="kept-family",
            target="harness_kept_family.techniques:Exact",
            summary="compares a query with every vector",
        ),
        Technique(
            id="random-projections",
            contract="kept-family",
            target="harness_kept_family.techniques:RandomProjections",
            summary="compares sparse random projections to fewer dimensions",
            reference="doi:10.1016/S0022-0000(03)00025-4",
            params={"dimensions": 64, "density": 1.0},
            space={"density": [1.0, 0.3333333333333333, 0.1]},
        ),
        Technique(
            id="inverted-lists",
            contract="kept-family",
            target="harness_kept_family.techniques:InvertedLists",
            summary="compares a query with the vectors of the nearest clusters of k-means",
            reference="doi:10.1109/TPAMI.2010.57",
            params={"lists": 32, "probes": 4, "iterations": 10},
            space={"iterations": [1, 5, 20]},
        ),
        Technique(
            id="8-bit",
            contract="kept-family",
            target="harness_kept_family.techniques:EightBit",
            summary="compares a query with vectors rounded to 256 levels a dimension",
            reference="arXiv:2401.08281",
            params={"trim": 0.0},
            space={"trim": [0.0, 0.01, 0.05]},
        ),
    ]


@hookimpl
def register_suites() -> Sequence[Path]:
    """Declare the suites of this family."""
    return sorted((Path(__file__).parent / "suites").glob("*.toml"))
