"""Says where numbers come from: the machine, the installed packages, the state of the code under test."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from harness.api import DISTRIBUTION, Json

PACKAGES: Final = (DISTRIBUTION, "torch", "numpy", "scipy", "scikit-learn", "transformers", "peft", "safetensors")
"""Distributions whose version can change a number."""

FLAGS: Final = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "fma", "neon", "asimd", "sve")
"""Processor features that choose which kernels run."""

THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TORCH_NUM_THREADS")

SOURCES: Final = frozenset({".py", ".pyx", ".c", ".cpp", ".cu", ".cuh", ".h", ".hpp"})
"""Suffixes of the files that make up the code's digest."""

_PATIENCE_S: Final = 10.0


def environment(distributions: Sequence[str] = ()) -> dict[str, Json]:
    """Facts about the machine and the interpreter, for ``run.json`` and every row. Collected once a run.

    ``distributions`` are those whose versions are wanted besides `PACKAGES`. Memory is in bytes. The name of the
    host is left out. Imports nothing heavy; takes a few milliseconds, more where ``nvidia-smi`` has to be asked.
    """
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpu": _gpus(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "transparent_hugepages": _chosen(_read("/sys/kernel/mm/transparent_hugepage/enabled")),
        "threads": {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
        "packages": versions((*PACKAGES, *distributions)),
    }


def versions(distributions: Iterable[str]) -> dict[str, Json]:
    """The installed version of each distribution; those not installed are left out."""
    found: dict[str, Json] = {}
    for name in distributions:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def code_state(package: str | Path, distribution: str | None = None) -> dict[str, Json]:
    """Which code is under test: ``{commit, dirty, version, digest}`` of an importable package, a folder or a file.

    ``commit`` and ``dirty`` are those of the git checkout the code lies in (dirty: the package's own files differ
    from it), or of the commit pip installed it from; None where neither is known. ``digest`` is the sha256 of all
    its sources. ``distribution`` names the one that installed it. Raises ModuleNotFoundError for an unknown name.
    """
    path = package if isinstance(package, Path) else _locate(package)
    state: dict[str, Json] = {"commit": None, "dirty": None}
    state.update(_installed_from(distribution) if _in_site_packages(path) else _checkout(path))
    state["version"] = versions([distribution]).get(distribution) if distribution else None
    state["digest"] = digest(path)
    return state


def digest(path: Path) -> str:
    """The sha256 over the sources below a folder, or of one file: names relative to it and contents, sorted."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.suffix in SOURCES)
    total = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        name = file.relative_to(path).as_posix() if file != path else file.name
        total.update(f"{name}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()


def _locate(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    if spec.origin is None:
        raise ModuleNotFoundError(f"module {package!r} has no file", name=package)
    return Path(spec.origin)


def _in_site_packages(path: Path) -> bool:
    """Whether the code was copied there by an installer; a virtual environment may lie inside a checkout."""
    return not {"site-packages", "dist-packages"}.isdisjoint(path.resolve().parts)


def _checkout(path: Path) -> dict[str, Json]:
    folder = path if path.is_dir() else path.parent
    commit = _output("git", "-C", str(folder), "rev-parse", "HEAD")
    if commit is None:
        return {}
    changes = _output("git", "-C", str(folder), "status", "--porcelain", "--", str(path.resolve()))
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _installed_from(distribution: str | None) -> dict[str, Json]:
    """The commit in the direct_url.json that pip leaves for an installation from version control (PEP 610)."""
    if distribution is None:
        return {}
    try:
        text = importlib.metadata.distribution(distribution).read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return {}
    commit = json.loads(text or "{}").get("vcs_info", {}).get("commit_id")
    return {"commit": commit, "dirty": False} if commit else {}


def _cpu() -> dict[str, Json]:
    facts: Mapping[str, str] = {}
    if text := _read("/proc/cpuinfo"):
        lines = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
        facts = {key.strip(): value.strip() for key, _, value in lines}
    features = facts.get("flags", facts.get("Features", "")).split()
    model = facts.get("model name") or _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor()
    return {"model": model, "flags": [flag for flag in FLAGS if flag in features]}


def _gpus() -> list[Json]:
    """Name, driver and memory (MiB) of each NVIDIA GPU, as nvidia-smi lists them."""
    listing = _output("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader,nounits")
    gpus: list[Json] = []
    for line in (listing or "").splitlines():
        name, driver, memory = (part.strip() for part in line.split(",", 2))
        gpus.append({"name": name, "driver": driver, "memory_mib": memory})
    return gpus


def _chosen(setting: str | None) -> str | None:
    """The word in brackets of ``always [madvise] never``."""
    return setting.partition("[")[2].partition("]")[0] if setting else None


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _output(*command: str) -> str | None:
    """What a command prints; None where it is missing, fails or does not answer."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
