"""Makes the executor of a Dask cluster from an address: one on this machine, or one that TLS protects."""

from __future__ import annotations

from harness.api import ExecutorOptions, UsageError
from harness.execution.executors.cluster import ClusterExecutor
from harness_dask.addresses import require_protected


def dask_executor(options: ExecutorOptions) -> ClusterExecutor:
    """Return an executor on the cluster of ``options.address``.

    Raises UsageError where Dask is missing, where the address is none or is not protected, and where nobody answers.
    """
    try:
        from harness_dask.cluster import DaskCluster, configured_address
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("dask", "distributed"):
            raise
        raise UsageError(f'--executor dask needs {error.name}: pip install "technique-harness[dask]"') from error
    address = options.address or configured_address()
    require_protected(address)
    return ClusterExecutor(options, DaskCluster(address))
