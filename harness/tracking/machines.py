"""Names the machine of a run as asv names it, so that what asv measured and what was exported are lines of one machine.

The same machine has the same processor, architecture and number of processors, as in a history. A GPU is a machine of
its own, with the GPU's name.
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from harness.api import Json, RunInfo
from harness.measure.environment import environment

FILE: Final = "machine.json"
"""The name of the file in which a results directory describes a machine."""

Machine = dict[str, str]
"""A machine as asv describes it: ``machine`` is its name, ``gpu`` is a field of ours."""

_RECORDS: Final = "~/.asv-machine.json"
_FIELDS: Final = ("arch", "cpu", "machine", "num_cpu", "os", "ram")


def safe(*words: str) -> str:
    """Return the words as a name that asv can use in a file and in an address."""
    return re.sub(r"[^A-Za-z0-9]+", "_", "_".join(words)).strip("_")


def machine_of(info: RunInfo, results: Path) -> Machine:
    """Return the machine of a run as asv describes it on this machine, or else in a results directory.

    A machine that is described in neither is named by its processor, since runs do not store the host's name.
    """
    facts = info.environment
    device = str(info.selection.get("device") or "cpu")
    gpus: Any = facts.get("gpu") if device.startswith("cuda") else None
    if isinstance(gpus, Sequence) and gpus and isinstance(gpus[0], Mapping):
        gpu = str(gpus[0].get("name"))
        return {**_described(facts), "machine": safe(gpu) or "unknown", "gpu": gpu}
    own = _described(facts)
    if (here := recorded_here()) is not None and _is_same(here, own):
        return here
    return described_in(results, facts) or own


def recorded_here() -> Machine | None:
    """Return what asv recorded of this machine; None where it recorded nothing yet."""
    record = _known().get(platform.node())
    return _fields(record) if isinstance(record, Mapping) else None


def described_in(results: Path, facts: Mapping[str, Json]) -> Machine | None:
    """Return the machine with a processor of these facts in a results directory; None where there is none.

    Of several, the one that asv measured is preferred to one that an export named, and then one with as much memory;
    None where that leaves several.
    """
    own = _described(facts)
    same = [found for found in _all_in(results) if _is_same(found, own)]
    measured = [found for found in same if found["machine"] != own["machine"]] or same
    equal = [found for found in measured if found["ram"] == own["ram"]] or measured
    return equal[0] if len(equal) == 1 else None


def adopt(results: Path) -> bool:
    """Let asv know this machine by the name that a results directory has for it; return whether there is one.

    Nothing is done, and False returned, where asv has a record of this machine.
    """
    if recorded_here() is not None:
        return False
    found = described_in(results, environment())
    if found is None:
        return False
    from asv.machine import MachineCollection

    MachineCollection.save(platform.node(), found)
    return True


def record_here() -> None:
    """Let asv know this machine as asv describes it, but with the processors that this process may use, as runs do.

    ``asv machine --yes --num_cpu N`` fails where N is not the number of all processors.
    """
    from asv.machine import Machine, MachineCollection

    MachineCollection.save(platform.node(), {**Machine.get_defaults(), "num_cpu": str(environment()["cores"])})


def _known() -> dict[str, Any]:
    """Return asv's records of machines, by the name of the host."""
    file = Path(_RECORDS).expanduser()
    known: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return known


def _all_in(results: Path) -> Iterator[Machine]:
    """Yield the machines of a results directory that are no GPUs."""
    for file in sorted(results.glob(f"*/{FILE}")):
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            continue  # what asv cannot read either
        if not found.get("gpu") and not _is_of_gpu(file.parent):
            yield _fields(found)


def _is_of_gpu(folder: Path) -> bool:
    """Return whether a machine's results are of a GPU, which files of older exports say in a parameter."""
    file = next(folder.glob("*-*.json"), None)
    params = json.loads(file.read_text(encoding="utf-8")).get("params", {}) if file else {}
    return str(params.get("device") or "").startswith("cuda")


def _described(facts: Mapping[str, Json]) -> Machine:
    """Return the machine of a run's facts, named by its processor."""
    processor = facts.get("cpu")
    cpu = str(processor.get("model") or "") if isinstance(processor, Mapping) else ""
    arch = str(facts.get("machine") or "")
    return {
        "arch": arch,
        "cpu": cpu,
        "machine": safe(cpu) or "unknown",
        "num_cpu": str(facts.get("cores") or ""),
        "os": _system(str(facts.get("platform") or ""), arch),
        "ram": str(facts.get("memory") or ""),
    }


def _system(platform_: str, arch: str) -> str:
    """Return the system and its release as asv writes them: 'Linux 6.1.0' for 'Linux-6.1.0-x86_64-with-glibc2.36'."""
    known = platform_.partition(f"-{arch}")[0] if arch else platform_
    return known.replace("-", " ", 1)


def _fields(record: Mapping[str, Any]) -> Machine:
    return {name: str(record.get(name) or "") for name in _FIELDS}


def _is_same(found: Mapping[str, str], own: Mapping[str, str]) -> bool:
    """Return whether two descriptions are of the same processor, of which asv may not know the model."""
    return all(found[name] == own[name] for name in ("arch", "num_cpu")) and found["cpu"] in ("", own["cpu"])
