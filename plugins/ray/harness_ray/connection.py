"""The process that is connected with a Ray cluster, and does there what the driver of a run asks for."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection
from typing import Any, Final

from harness.api import UsageError
from harness.execution.executors.cluster import ClusterLost

PASSED_ON: Final[dict[str, type[Exception]]] = {kind.__name__: kind for kind in (UsageError, ClusterLost, OSError)}
"""The exceptions by which a cluster answers."""


def main(pipe: int) -> None:
    """Answer the requests that come through a pipe, the address of the cluster first, until the driver closes it."""
    with Connection(pipe) as requests:
        nodes: Any = None
        while True:
            try:
                number, name, arguments = requests.recv()
            except EOFError:
                break
            try:
                if nodes is None:
                    from harness_ray.nodes import Nodes  # an error of the import is told as any other

                    nodes, answer = Nodes(*arguments), None
                else:
                    answer = getattr(nodes, name)(*arguments)
            except Exception as error:
                requests.send((number, *_told(error)))
            else:
                requests.send((number, "", answer))
    os._exit(0)  # Ray ends a job by that as well, and may wait for a minute where the head node is gone


def _told(error: Exception) -> tuple[str, str]:
    """Return the kind of an exception that the driver knows, and its text."""
    for name, kind in PASSED_ON.items():
        if isinstance(error, kind):
            return name, str(error)
    return ClusterLost.__name__, f"{type(error).__name__}: {error}"
