"""Describes where results come from: the machine, the installed packages, the state of the code under test."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from harness.api import DISTRIBUTION, Json
from harness.measure import git
from harness.measure.cgroups import cpu_quota, memory_limit
from harness.measure.distributions import in_site, version_of
from harness.measure.sources import Sources, file_digest, is_dirty

PACKAGES: Final = (
    DISTRIBUTION,
    "torch",
    "numpy",
    "scipy",
    "scikit-learn",
    "transformers",
    "peft",
    "safetensors",
    "tokenizers",
)
"""Distributions whose version can change a result."""

FLAGS: Final = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "fma", "neon", "asimd", "sve")
"""Processor features that choose which kernels run."""

THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TORCH_NUM_THREADS")

KERNEL_VARIABLES: Final = (
    "ATEN_CPU_CAPABILITY", "CUBLAS_WORKSPACE_CONFIG", "CUDA_DEVICE_ORDER", "CUDA_LAUNCH_BLOCKING",
    "CUDA_VISIBLE_DEVICES", "DNNL_MAX_CPU_ISA", "KMP_AFFINITY", "LD_PRELOAD", "MKL_ENABLE_INSTRUCTIONS",
    "NVIDIA_TF32_OVERRIDE", "OMP_PROC_BIND", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF",
)  # fmt: skip
"""Variables that choose the kernels or their processors, which may change the last bits of a result."""

COMMIT_VARIABLE: Final = "HARNESS_COMMIT"
"""The variable that names the commit of packages installed from a folder, of which pip records no commit."""

_TIMEOUT_S: Final = 10.0
"""Seconds after which a command that has not finished is given up."""


def environment(distributions: Sequence[str] = ()) -> dict[str, Json]:
    """Return facts about the machine and the interpreter, as stored in ``run.json`` and in every row.

    ``distributions`` names those whose versions are recorded in addition to `PACKAGES`. Memory is in bytes.
    ``cpu_quota`` and ``memory_limit`` are those of the container, or None. The name of the host is left out. The call
    takes a few milliseconds, or more where ``nvidia-smi`` has to be started.
    """
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu_quota": cpu_quota(),
        "memory_limit": memory_limit(),
        "gpu": gpus(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "transparent_hugepages": _chosen(_read("/sys/kernel/mm/transparent_hugepage/enabled")),
        "threads": {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
        "variables": {name: os.environ[name] for name in KERNEL_VARIABLES if name in os.environ},
        "packages": versions((*PACKAGES, *distributions)),
    }


def processor() -> dict[str, Json]:
    """Return the model of the processor, and those of its features that are in `FLAGS`."""
    facts: Mapping[str, str] = {}
    if text := _read("/proc/cpuinfo"):
        lines = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
        facts = {key.strip(): value.strip() for key, _, value in lines}
    features = facts.get("flags", facts.get("Features", "")).split()
    model = facts.get("model name") or _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor()
    return {"model": model, "flags": [flag for flag in FLAGS if flag in features]}


def versions(distributions: Iterable[str]) -> dict[str, Json]:
    """Return the installed version by distribution, without distributions that are not installed."""
    found: dict[str, Json] = {}
    for name in distributions:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if version:
            found[name] = version
    return found


def code_state(
    sources: Sources,
    distribution: importlib.metadata.Distribution | None,
    checkout: git.Checkout | None,
    unknown: str = "",
) -> dict[str, Json]:
    """Return the state of the code under test: ``{commit, dirty, version, digest}`` of the files that compute.

    ``commit`` is that of the git checkout that holds the files, or the one that pip installed the distribution from, or
    for a distribution that was installed from a folder the one that `COMMIT_VARIABLE` names; ``dirty`` says whether a
    file differs from that commit. Both are None where no commit is known; the state then has ``unknown`` as
    ``commit_unknown``, if git gave a reason. ``digest`` is the SHA-256 over all files.
    """
    state: dict[str, Json] = {"commit": None, "dirty": None}
    if checkout is not None:
        state = {"commit": checkout.commit, "dirty": is_dirty(sources, checkout)}
    elif distribution is not None:
        state.update(_installed_from(distribution))
    if unknown and state["commit"] is None:
        state["commit_unknown"] = unknown
    version = version_of(distribution) if distribution is not None else ""
    return {**state, "version": version or None, "digest": sources.digest}


def suite_state(file: Path, code: Mapping[str, Json]) -> dict[str, Json]:
    """Return the state of a suite's file: ``{commit, dirty, digest}``.

    ``code`` has the states of the code under test. The file is dirty where it differs from its commit, and where its
    commit is none of the code's, as then no commit of the code leads to the file. A file that an installer copied
    belongs to its distribution: it is clean, and has no commit of its own.
    """
    real = file.resolve()
    state: dict[str, Json] = {"commit": None, "dirty": False, "digest": file_digest(real)}
    if in_site(real):
        return state
    commit = (git.ask(real.parent, "rev-parse", "--verify", "HEAD") or "").strip() or None
    commits = {facts.get("commit") for facts in code.values() if isinstance(facts, Mapping)}
    tracked = git.ask(real.parent, "ls-files", "--error-unmatch", "--", real.name) is not None
    listed = git.ask(real.parent, "status", "--porcelain", "--", real.name) != ""
    clean = not listed and real.name not in git.hidden(real.parent)
    return {**state, "commit": commit, "dirty": commit is None or commit not in commits or not tracked or not clean}


def _installed_from(distribution: importlib.metadata.Distribution) -> dict[str, Json]:
    """Return the commit that a distribution was installed from, by the direct_url.json of PEP 610.

    It is there for an installation from version control. Whoever installs a clean checkout from its folder, as asv does
    with every commit, says which one it was.
    """
    try:
        facts = json.loads(distribution.read_text("direct_url.json") or "{}")
    except ValueError:
        return {}
    commit = facts.get("vcs_info", {}).get("commit_id")
    if "dir_info" in facts and not facts["dir_info"].get("editable"):
        commit = os.environ.get(COMMIT_VARIABLE)
    return {"commit": commit, "dirty": False} if commit else {}


NVIDIA_DRIVERS: Final = ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/dxg")
"""What Linux has, the last one as a guest of Windows, where there is a driver for nvidia-smi to talk to."""


QUERIES: Final = (("name", "driver_version", "memory.total", "compute_cap"), ("name", "driver_version", "memory.total"))
"""What nvidia-smi is asked for. An old one does not know the capability, and then answers nothing at all."""


def gpus() -> list[Json]:
    """Return name, driver, memory (MiB) and compute capability of each NVIDIA GPU that nvidia-smi lists."""
    if sys.platform == "linux" and not any(Path(path).exists() for path in NVIDIA_DRIVERS):
        return []  # a tool without its driver may take long to say so
    for query in QUERIES:
        listing = _output("nvidia-smi", f"--query-gpu={','.join(query)}", "--format=csv,noheader,nounits")
        gpus: list[Json] = []
        for line in (listing or "").splitlines():
            parts = [part.strip() for part in line.rsplit(",", len(query) - 1)]  # as a name may contain a comma
            if len(parts) == len(query) and parts[1][:1].isdigit() and (len(parts) < 4 or "." in parts[3]):
                gpus.append(dict(zip(("name", "driver", "memory_mib", "capability"), parts, strict=False)))
        if gpus:
            return gpus
    return []


def _chosen(setting: str | None) -> str | None:
    """Return the word in brackets of a kernel setting like ``always [madvise] never``."""
    return setting.partition("[")[2].partition("]")[0] if setting else None


def _read(path: str) -> str | None:
    """Return the text of a file; None where the file cannot be read."""
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _output(*command: str) -> str | None:
    """Return what a command prints; None where the command is missing, fails or exceeds the timeout."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
