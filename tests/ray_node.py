"""A node of a Ray cluster at 127.0.0.1, in the foreground: ``ray start`` gives a cluster there one node only.

``python ray_node.py PORT TEMP SECONDS [CPUS]`` starts another node where CPUS are given, else the head node. All
that it has started ends with this process, also where that is killed.
"""

from __future__ import annotations

import os
import sys
import time

os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_health_check_period_ms": "1000",  # the loss of a node is noticed after four seconds, not twenty
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}

from ray._private.node import Node
from ray._private.parameter import RayParams

STORE_BYTES = 80_000_000
"""The least memory for objects that Ray takes."""


def main(port: str, temp: str, seconds: str, cpus: str = "") -> None:
    place = {"gcs_address": f"127.0.0.1:{port}"} if cpus else {"gcs_server_port": int(port), "temp_dir": temp}
    parameters = RayParams(
        **place, node_ip_address="127.0.0.1", num_cpus=int(cpus or 0), num_gpus=0, object_store_memory=STORE_BYTES,
        min_worker_port=0, max_worker_port=0, include_dashboard=False, include_log_monitor=False, no_monitor=True,
        dashboard_agent_listen_port=None,
        raylet_socket_name=f"{temp}/raylet-{os.getpid()}",  # Ray's own names are the same for nodes that start at once
        plasma_store_socket_name=f"{temp}/store-{os.getpid()}",
    )  # fmt: skip
    Node(parameters, head=not cpus, shutdown_at_exit=True, spawn_reaper=True)
    time.sleep(float(seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
