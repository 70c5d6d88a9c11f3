"""``harness check``: the conformance tests of a plugin without pytest, each technique in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import click

from harness.cli.app import current, json_option, plugin_options, print_json
from harness.cli.kinds import Bytes, Seconds
from harness.cli.output import say

if TYPE_CHECKING:
    from harness.discovery import PluginRecord
    from harness.host import Host
    from harness.testing.checks import Checked, Order


@click.command()
@click.argument("plugin")
@click.option(
    "--technique", "techniques", multiple=True, metavar="PATTERN", help="Check these techniques only.  [default: all]"
)
@click.option("--limit", type=Seconds(), default=300.0, show_default="300", help="Seconds that a case may take.")
@click.option(
    "--memory-limit", type=Bytes(), default="4GiB", show_default=True, help="Memory that a case may take (Linux)."
)
@plugin_options
@json_option
def check(plugin: str, techniques: tuple[str, ...], limit: float, memory_limit: int, as_json: bool) -> None:
    """Check the installed plugin PLUGIN, or the module PLUGIN of this folder, as its conformance tests would.

    Tried are the declaration and each technique on the first workload of its contract that accepts it, in that
    workload's small form. A line for each check that fails says what is wrong and what to do. The exit code is 1 where
    one fails. It needs no pytest.
    """
    from harness.host import enabled_and_disabled
    from harness.results.places import default_cache_path
    from harness.testing.checks import Order

    record = _record(plugin)
    host = current().host
    names = _selected(host, record, techniques)
    order = Order(
        technique="",
        modules=enabled_and_disabled(current().plugins)[0],
        cache=str(default_cache_path()),
        limit_s=limit,
        memory_bytes=memory_limit,
    )
    done = []
    for checked in _checked(host, record, names, order):
        done.append(checked)
        if not as_json:
            _tell(checked)
    failed = sum(entry.result == "failed" for entry in done)
    if as_json:
        checks = [asdict(entry) for entry in done]
        print_json({"plugin": record.name, "techniques": names, "failed": failed, "checks": checks})
    else:
        untried = sum(entry.result == "untried" for entry in done)
        say(
            f"{record.name}: {len(done)} checks of the declaration and {len(names)} techniques: "
            f"{sum(entry.result == 'passed' for entry in done)} passed, {failed} failed, {untried} not tried"
        )
    if failed:
        click.get_current_context().exit(1)


def _record(plugin: str) -> PluginRecord:
    """Return the record of an installed plugin, or of a module in this folder. Raises UsageError for any other name."""
    import importlib.util

    from harness.api import UsageError, nearest
    from harness.discovery import entry_point_candidates, family_candidates, see_current_folder
    from harness.foreign import contained

    app = current()
    found = [*family_candidates(), *(() if app.no_plugins else entry_point_candidates())]
    installed = {candidate.name for candidate in found}
    if plugin not in installed and plugin not in app.plugins:
        see_current_folder()
        try:
            with contained():
                exists = importlib.util.find_spec(plugin) is not None
        except Exception:  # no name of a module, or a package that raises
            exists = False
        if not exists:
            raise UsageError(
                f"no plugin {plugin!r} is installed, and this folder has no such module"
                f"{nearest(plugin, installed) or '; harness plugins lists the installed ones'}"
            )
        app.plugins.append(plugin)
    return next(record for record in app.host.plugins if plugin in (record.name, record.module))


def _selected(host: Host, record: PluginRecord, patterns: tuple[str, ...]) -> list[str]:
    """Return the plugin's techniques that the patterns name, in full or without the plugin."""
    from harness.api import UsageError, nearest

    mine = [full for full, entry in host.techniques.items() if entry.plugin == record.name]
    chosen = []
    for pattern in patterns:
        matching = [full for full in mine if any(fnmatchcase(name, pattern) for name in (full, full.partition("/")[2]))]
        if not matching:
            known = nearest(pattern, mine) or f"; it has {', '.join(mine) or 'none'}"
            raise UsageError(f"no technique of plugin {record.name!r} matches {pattern!r}{known}")
        chosen += matching
    return list(dict.fromkeys(chosen)) if patterns else mine


def _checked(host: Host, record: PluginRecord, names: list[str], order: Order) -> Iterator[Checked]:
    """Yield what becomes of the checks of the declaration, then of those of each technique."""
    from dataclasses import replace

    from harness.measure.processors import allowed_cores
    from harness.testing.checks import declaration_checked, techniques_checked

    yield from declaration_checked(record)
    orders = [(replace(order, technique=name), host.techniques[name].spec.contract) for name in names]
    yield from techniques_checked(orders, allowed_cores())


def _tell(checked: Checked) -> None:
    """Print one line for a check that was not passed; all that it said, with -v."""
    if checked.result == "passed":
        return
    label = "failed" if checked.result == "failed" else "not tried"
    first, _, rest = checked.said.partition("\n")
    mend = f"; {checked.mend}" if checked.mend and checked.mend not in first else ""
    say(f"{label}: {checked.whose}: {checked.check}: {first}{mend}")
    if rest and current().verbose:
        say("\n".join(f"    {line}" for line in rest.splitlines()))
