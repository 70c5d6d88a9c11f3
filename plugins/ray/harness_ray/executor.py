"""Makes the executor of a Ray cluster from an address: one on this machine, or one that TLS protects."""

from __future__ import annotations

import os

from harness.api import ExecutorOptions, UsageError
from harness.execution.executors.addresses import is_loopback
from harness.execution.executors.cluster import ClusterExecutor
from harness_ray.addresses import STAY, host_of, require_protected


def ray_executor(options: ExecutorOptions) -> ClusterExecutor:
    """Return an executor on the cluster of ``options.address``, or of RAY_ADDRESS.

    Raises UsageError where Ray is missing, where the address is none or is not protected, and where nobody answers.
    """
    address = options.address or os.environ.get("RAY_ADDRESS", "")
    require_protected(address)
    if is_loopback(host_of(address)):
        os.environ[STAY] = "0"  # read when Ray is imported
    try:
        from harness_ray.cluster import RayCluster
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "ray":
            raise
        raise UsageError(f'--executor ray needs {error.name}: pip install "technique-harness[ray]"') from error
    return ClusterExecutor(options, RayCluster(address))
