"""Tells which addresses of a head node are safe: those of this machine, and those that TLS protects."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from harness.api import UsageError
from harness.execution.executors.addresses import is_loopback

EXAMPLE: Final = "like --address 127.0.0.1:6379"

START: Final = "ray start --head --node-ip-address 127.0.0.1"
"""The command that starts a cluster of this machine."""

STAY: Final = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""The variable that keeps Ray at 127.0.0.1 where it is 0, on any system.

Otherwise Ray replaces that address by one that other machines reach, and listens at all interfaces.
"""

CERTIFICATE: Final = ("RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_CA_CERT")
"""The variables that name the files of a certificate."""


def require_protected(address: str) -> None:
    """Raise UsageError for an address that is neither of this machine nor protected by TLS."""
    if not address:
        raise UsageError(
            f"--executor ray: --address is missing: expected that of a head node, {EXAMPLE}; start one: {START}"
        )
    host = host_of(address)
    if not host:
        raise UsageError(f"--address {address!r}: expected the host and the port of a head node, {EXAMPLE}")
    if has_tls():
        _require_certificate(address)
    elif not is_loopback(host):
        raise UsageError(
            f"--address {address!r}: beyond this machine expected RAY_USE_TLS=1 and a certificate, as whoever reaches "
            "a plain cluster runs code on all its machines; see docs/clusters.md, or use 127.0.0.1"
        )


def host_of(address: str) -> str:
    """Return the host of an address; empty where it is none of a host and a port."""
    try:
        parts = urlsplit(f"//{address}")
        return str(parts.hostname) if parts.hostname and parts.port and parts.netloc == address else ""
    except ValueError:
        return ""


def has_tls(variables: Mapping[str, str] = os.environ) -> bool:
    """Return whether Ray is told to protect all connections by TLS."""
    return variables.get("RAY_USE_TLS", "0").lower() in ("1", "true")  # as Ray reads it


def _require_certificate(address: str) -> None:
    """Raise UsageError where a file of the driver's certificate is not named, or cannot be read."""
    for name in CERTIFICATE:
        try:
            Path(os.environ[name]).read_bytes()
        except (KeyError, OSError) as error:
            why = "it is not set" if isinstance(error, KeyError) else str(error)
            raise UsageError(
                f"--address {address!r}: no certificate of the driver ({name}: {why}): expected the files of "
                f"{', '.join(CERTIFICATE)}; see docs/clusters.md"
            ) from error
