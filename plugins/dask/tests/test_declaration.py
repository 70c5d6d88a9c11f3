"""What the plugin says of itself, before Dask is anywhere near, and which addresses it refuses."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from harness_dask.addresses import require_protected
from harness_dask.executor import dask_executor

from harness.api import ExecutorOptions, Limits, UsageError


def test_declaring_imports_neither_dask_nor_torch() -> None:
    code = (
        "import sys, harness_dask; harness_dask.register_executors(); "
        "print({'dask', 'distributed', 'torch'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:8786", "tcp://[::1]:8786", "tcp://localhost:1", "tls://node-7.lab:8786"]
)
def test_addresses_of_this_machine_and_of_tls_are_taken(address: str) -> None:
    require_protected(address)


@pytest.mark.parametrize("address", ["tcp://10.0.0.7:8786", "tcp://node-7.lab:8786", "tcp://0.0.0.0:8786"])
def test_a_plain_address_beyond_this_machine_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match=f"^--address '{address}': beyond this machine expected tls://") as caught:
        require_protected(address)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:8786", "tcp://127.0.0.1", "ucx://127.0.0.1:1", "inproc://a/1/2", "tcp://127.0.0.1:x", "tls://"],
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="expected tcp:// or tls://, a host and a port, like --address tcp://127"):
        require_protected(address)


def options_at(address: str) -> ExecutorOptions:
    return ExecutorOptions(
        jobs=1, limits=Limits(time_s=1), cache=Path("/nowhere"), preload=(), rounds=1, device="cpu", address=address
    )


def test_a_missing_address_is_told_with_the_command_that_starts_a_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    with pytest.raises(UsageError, match=r"--address is missing: .* start one: dask scheduler --host 127\.0\.0\.1"):
        dask_executor(options_at(""))


@pytest.mark.parametrize("missing", ["dask", "distributed"])
def test_missing_dask_is_told_with_the_command_that_installs_it(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "harness_dask.cluster", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UsageError, match=f'^--executor dask needs {missing}: pip install "technique-harness.dask."'):
        dask_executor(options_at("tcp://127.0.0.1:9"))


def test_a_scheduler_that_does_not_answer_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness_dask import cluster

    monkeypatch.setattr(cluster, "CONNECT_S", 0.3)
    with pytest.raises(
        UsageError, match=r"'tcp://127\.0\.0\.1:9': no Dask scheduler answers there within 0\.3 s"
    ) as caught:
        dask_executor(options_at("tcp://127.0.0.1:9"))
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(("file", "why"), [(None, "none is configured"), ("/nowhere.pem", "No such file")])
def test_a_driver_without_a_certificate_is_told_so_before_it_connects(file: str | None, why: str) -> None:
    import dask

    settings = {f"distributed.comm.tls.{name}": file for name in ("ca-file", "client.cert", "client.key")}
    with dask.config.set(settings), pytest.raises(UsageError, match=rf"no certificate of the driver \(.*{why}.*\)"):
        dask_executor(options_at("tls://127.0.0.1:9"))


@pytest.mark.parametrize("scheme", ["tcp", "tls"])
def test_what_takes_connections_and_says_nothing_is_told_in_one_line(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness_dask import cluster

    monkeypatch.setattr(cluster, "CONNECT_S", 0.3)
    monkeypatch.setattr(cluster, "_require_certificate", str)  # which refuses nothing
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(UsageError, match=r"says nothing for 0\.3 s, so it is no Dask scheduler"):
            dask_executor(options_at(address))


def test_a_wait_that_the_client_gave_up_leaves_no_trace_in_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    from distributed.client import AllExit
    from harness_dask.cluster import is_news

    logger, shown = logging.getLogger("asyncio"), logging.StreamHandler()
    logger.addHandler(shown)
    logger.addFilter(is_news)
    try:
        for error in (AllExit(), ValueError("a fault of another kind")):
            logger.error("Task exception was never retrieved", exc_info=error)
    finally:
        logger.removeFilter(is_news)
        logger.removeHandler(shown)
    told = capfd.readouterr().err
    assert "AllExit" not in told
    assert "a fault of another kind" in told
