"""The trackers that can be named, and what makes the observer of each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from harness.api import DISTRIBUTION, Row, RunInfo, UsageError, nearest, resolve
from harness.discovery import Candidate
from harness.foreign import contained, one_line

if TYPE_CHECKING:
    from harness.host import Host


class Observer(Protocol):
    """Three of the observing hooks, as `harness.hookspecs` describes them; what raises loses no row."""

    def run_started(self, run: RunInfo) -> None:
        """Note the run, its suite and its environment; where the tracker has the run already, go on with it."""

    def case_finished(self, row: Row) -> None:
        """Note a row, in place of what the tracker has of the same case in the same run."""

    def run_finished(self, run: RunInfo) -> None:
        """Note how the run ended, and write what is not written yet."""


@dataclass(frozen=True, kw_only=True)
class Offered:
    """A tracker: the class of its observer, and the module without which that does not work."""

    target: str
    module: str


OBSERVERS: Final = {
    "mlflow": Offered(target="harness.observers.mlflow_runs:MLflow", module="mlflow"),
    "tensorboard": Offered(target="harness.observers.tensorboard_events:TensorBoard", module="tensorboard"),
    "wandb": Offered(target="harness.observers.wandb_runs:WandB", module="wandb"),
}
"""The trackers by the name of their extra."""


def observer_of(name: str, folder: Path | None = None) -> Observer:
    """Return the observer of a tracker, which writes to ``folder``, or beside the runs where that is None.

    Raises `harness.api.UsageError` for an unknown name, and where the tracker is not installed.
    """
    if name not in OBSERVERS:
        hint = nearest(name, OBSERVERS)
        raise UsageError(f"observer {name!r}: expected one of {', '.join(OBSERVERS)}{hint}")
    offered = OBSERVERS[name]
    if find_spec(offered.module) is None:
        raise UsageError(
            f"{name} is not installed, so that nothing can be written for it",
            f"install it: pip install '{DISTRIBUTION}[{name}]'",
        )
    observer: Observer = resolve(offered.target)(folder)
    return observer


def load(host: Host, names: Iterable[str]) -> None:
    """Load an observer of each tracker as a plugin, whose hooks the host calls: one that raises is left out, told once.

    Raises `harness.api.UsageError` for an unknown name, and where a tracker is not installed.
    """
    observers = {name: observer_of(name) for name in names}
    for name, observer in observers.items():
        module = OBSERVERS[name].target.partition(":")[0]
        given = partial(_given, observer)
        host.load(Candidate(name=f"observer {name}", module=module, distribution="", version="", load=given))


def _given(observer: Observer) -> Observer:
    return observer


def replay(name: str, run: RunInfo, rows: Iterable[Row], folder: Path | None = None) -> None:
    """Tell a tracker of a stored run what its observer is told while a run goes on.

    Raises `harness.api.UsageError` as `observer_of` does, and where the tracker fails.
    """
    observer = observer_of(name, folder)
    try:
        with contained():
            observer.run_started(run)
            for row in rows:
                observer.case_finished(row)
            observer.run_finished(run)
    except Exception as error:  # a tracker may raise anything
        raise UsageError(f"{name} failed: {one_line(error)}") from error
