"""What the plugin says of itself, before Ray is anywhere near, and which addresses it refuses."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from harness_ray import cluster
from harness_ray.addresses import CERTIFICATE, require_protected
from harness_ray.executor import ray_executor

from harness.api import ExecutorOptions, Limits, UsageError


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_USE_TLS", *CERTIFICATE):
        monkeypatch.delenv(name, raising=False)


def test_declaring_imports_neither_ray_nor_torch() -> None:
    code = (
        "import sys, harness_ray; harness_ray.register_executors(); import harness_ray.executor; "
        "print({'ray', 'torch'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("address", ["127.0.0.1:6379", "[::1]:6379", "localhost:1"])
def test_addresses_of_this_machine_are_taken(address: str) -> None:
    require_protected(address)


@pytest.mark.parametrize("address", ["10.0.0.7:6379", "node-7.lab:6379", "0.0.0.0:6379"])
def test_an_address_beyond_this_machine_is_taken_with_a_certificate_only(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=f"^--address '{address}': beyond this machine expected RAY_USE_TLS=1 and"):
        require_protected(address)
    monkeypatch.setenv("RAY_USE_TLS", "1")
    for name in CERTIFICATE:
        with pytest.raises(UsageError, match=rf"no certificate of the driver \({name}: it is not set\)"):
            require_protected(address)
        monkeypatch.setenv(name, str(tmp_path / "file.pem"))
        with pytest.raises(UsageError, match=rf"no certificate of the driver \({name}: .*No such file") as caught:
            require_protected(address)
        assert len(caught.value.problems) == 1
        monkeypatch.setenv(name, __file__)
    require_protected(address)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "ray://127.0.0.1:10001", "tcp://127.0.0.1:1", "127.0.0.1:x", "auto", "local", ":6379", "[::1:6379"],
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="expected the host and the port of a head node, like --address 127"):
        require_protected(address)


def options_at(address: str) -> ExecutorOptions:
    return ExecutorOptions(
        jobs=1, limits=Limits(time_s=1), cache=Path("/nowhere"), preload=(), rounds=1, device="cpu", address=address
    )


def test_a_missing_address_is_told_with_the_command_that_starts_a_cluster() -> None:
    with pytest.raises(UsageError, match=r"--address is missing: .* start one: ray start --head --node-ip-address 127"):
        ray_executor(options_at(""))


def test_missing_ray_is_told_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r'^--executor ray needs ray: pip install "technique-harness\[ray\]"'):
        ray_executor(options_at("127.0.0.1:9"))


@pytest.mark.parametrize("given", [lambda _: options_at("127.0.0.1:9"), lambda set_: set_() or options_at("")])
def test_a_head_node_that_does_not_listen_is_told_in_one_line(
    given: Callable[[Callable[[], None]], ExecutorOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = given(lambda: monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9"))
    with pytest.raises(UsageError, match=r"'127\.0\.0\.1:9': no Ray cluster answers there within 10 s:") as caught:
        ray_executor(options)
    assert len(caught.value.problems) == 1


def test_who_listens_and_does_not_answer_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(
            UsageError, match=rf"^--address '{address}': Ray has not connected .* 0\.2 s: expected"
        ) as caught:
            ray_executor(options_at(address))
    assert len(caught.value.problems) == 1
