"""Tells which addresses of a scheduler are safe: those of this machine, and those that TLS protects."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from harness.api import UsageError
from harness.execution.executors.addresses import is_loopback

EXAMPLE: Final = "like --address tcp://127.0.0.1:8786"


def require_protected(address: str) -> None:
    """Raise UsageError for an address that is neither of this machine nor protected by TLS."""
    if not address:
        raise UsageError(
            f"--executor dask: --address is missing: expected that of a scheduler, {EXAMPLE}; "
            "start one: dask scheduler --host 127.0.0.1"
        )
    try:
        parts = urlsplit(address)
        named = parts.scheme in ("tcp", "tls") and parts.hostname and parts.port
    except ValueError:
        named = False
    if not named:
        raise UsageError(f"--address {address!r}: expected tcp:// or tls://, a host and a port, {EXAMPLE}")
    if parts.scheme == "tcp" and not is_loopback(str(parts.hostname)):
        raise UsageError(
            f"--address {address!r}: beyond this machine expected tls://, as whoever reaches a plain scheduler runs "
            "code on all its machines; see docs/clusters.md, or use 127.0.0.1"
        )
