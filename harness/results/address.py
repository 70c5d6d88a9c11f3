"""Reads from the environment which database has the index of a team: a PostgreSQL server, reached by SQLAlchemy."""

from __future__ import annotations

import importlib.util
import os
import reprlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from harness.api import UsageError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

VARIABLE: Final = "HARNESS_INDEX"
"""The variable of the environment that names the database."""

PATIENCE_S: Final = 10
"""Seconds after which a server that does not answer is taken for lost."""

_FORM: Final = "postgresql://USER@HOST/DATABASE"
_EXTRA: Final = 'pip install "technique-harness[postgres]"'

_DRIVERS: Final = {"pg8000": _EXTRA, "psycopg": 'pip install "psycopg[binary]"'}
"""The drivers that are known, and how each is installed; the first is that of an address which names none."""

_TLS: Final = ("disable", "prefer", "require", "verify-ca", "verify-full")
"""The values of sslmode, of which ``prefer`` is what both drivers do by themselves."""

_OF_PG8000: Final = ("application_name", "password", "sslmode", "sslrootcert", "unix_sock")
"""The options that an address may have for the driver pg8000, which fails at any other."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """A database as SQLAlchemy is told of it; ``shown`` is what messages call it, without user, password and options.

    ``secrets`` are the texts that no message may have.
    """

    url: URL = field(repr=False)
    arguments: Mapping[str, Any] = field(repr=False)
    shown: str
    secrets: tuple[str, ...] = field(repr=False)

    def hidden(self, text: str) -> str:
        """Return a text with stars in place of what nobody may read."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


def is_named() -> bool:
    """Return whether the environment names an index of a team."""
    return bool(os.environ.get(VARIABLE))


def address() -> Address | None:
    """Return the database of the team's index; None where the environment names none.

    Raises UsageError for what is no address of a PostgreSQL database, and where a package for it is missing.
    """
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    if importlib.util.find_spec("sqlalchemy") is None:
        raise UsageError(f"{VARIABLE} needs packages that are not installed: {_EXTRA}")
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # whose texts may have the password
        raise UsageError(f"{VARIABLE} is no address of a database; expected {_FORM}") from None
    kind, _, driver = url.drivername.partition("+")
    driver = driver or next(iter(_DRIVERS))
    if kind not in ("postgresql", "postgres") or driver not in _DRIVERS:
        known = ", ".join(f"postgresql+{name}" for name in _DRIVERS)
        raise UsageError(f"{VARIABLE} begins with {reprlib.repr(url.drivername)}; expected postgresql, or {known}")
    if not url.database or not url.username:
        raise UsageError(f"{VARIABLE} names no {'user' if url.database else 'database'}; expected {_FORM}")
    if importlib.util.find_spec(driver) is None:
        raise UsageError(f"{VARIABLE} needs the package {driver}, which is not installed: {_DRIVERS[driver]}")
    url = url.set(drivername=f"postgresql+{driver}")
    secrets = {str(url.password or ""), os.environ.get("PGPASSWORD", ""), text, *_query(url, "password")} - {""}
    shown = f"postgresql://{url.host or 'localhost'}{f':{url.port}' if url.port else ''}/{url.database}"
    if driver == "psycopg":
        arguments: dict[str, Any] = {"connect_timeout": PATIENCE_S}
    else:
        url, arguments = _for_pg8000(url)
    # the longest first, as one may be a part of another
    return Address(url=url, arguments=arguments, shown=shown, secrets=tuple(sorted(secrets, key=len, reverse=True)))


def _for_pg8000(url: URL) -> tuple[URL, dict[str, Any]]:
    """Return an address without what this driver does not know by itself, and the arguments that say the same to it."""
    arguments: dict[str, Any] = {"timeout": PATIENCE_S}
    _require_usable(url)
    if url.password is None and "password" not in url.query:  # an empty one is refused by the server, none by a crash
        arguments["password"] = os.environ.get("PGPASSWORD", "")
    mode = next(iter(_query(url, "sslmode")), os.environ.get("PGSSLMODE") or "prefer")
    root = next(iter(_query(url, "sslrootcert")), os.environ.get("PGSSLROOTCERT"))
    if mode not in _TLS:
        raise UsageError(f"{VARIABLE} has sslmode={reprlib.repr(mode)}; expected one of {', '.join(_TLS)}")
    if mode == "disable":
        arguments["ssl_context"] = False
    elif mode != "prefer":
        arguments["ssl_context"] = _context(mode, root)
    return url.difference_update_query(["sslmode", "sslrootcert"]), arguments


def _require_usable(url: URL) -> None:
    """Raise UsageError where the driver pg8000 would fail at a host or an option of an address."""
    for name, value in url.query.items():
        if name not in _OF_PG8000 or not isinstance(value, str):
            what = "the option" if name not in _OF_PG8000 else "more than once the option"
            known = f"{', '.join(_OF_PG8000)} once each, or the driver postgresql+psycopg"
            raise UsageError(f"{VARIABLE} has {what} {reprlib.repr(name)}; expected {known}")
    try:
        (url.host or "").encode("idna")
    except UnicodeError:
        raise UsageError(f"{VARIABLE} names the host {reprlib.repr(url.host)}, which none can have") from None


def _context(mode: str, root: str | None) -> ssl.SSLContext:
    """Return how a connection is encrypted, and the server's certificate looked at, as libpq does for a mode."""
    try:
        context = ssl.create_default_context(cafile=root)
    except (OSError, ValueError) as error:
        raise UsageError(f"{VARIABLE}: the certificates of sslrootcert cannot be read: {error}") from error
    context.check_hostname = mode == "verify-full"
    if mode == "require":
        context.verify_mode = ssl.CERT_NONE
    return context


def _query(url: URL, name: str) -> tuple[str, ...]:
    """Return the values of an option of an address."""
    value = url.query.get(name, ())
    return (value,) if isinstance(value, str) else tuple(value)
