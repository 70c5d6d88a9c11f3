"""Makes the executor of a Ray cluster from an address: one on this machine, or one that TLS protects."""

from __future__ import annotations

import os
from importlib.util import find_spec

from harness.api import ExecutorOptions, UsageError
from harness.execution.executors.cluster import ClusterExecutor
from harness_ray.addresses import require_protected
from harness_ray.cluster import RayCluster


def ray_executor(options: ExecutorOptions) -> ClusterExecutor:
    """Return an executor on the cluster of ``options.address``, or of RAY_ADDRESS.

    Raises UsageError where Ray is missing, where the address is none or is not protected, and where nobody answers.
    """
    if find_spec("ray") is None:
        raise UsageError('--executor ray needs ray: pip install "technique-harness[ray]"')
    address = options.address or os.environ.get("RAY_ADDRESS", "")
    require_protected(address)
    return ClusterExecutor(options, RayCluster(address))
