"""``harness plugins``: the installed plugins, and the cause where a plugin is broken."""

from __future__ import annotations

import click

from harness.cli.app import current, json_option, plugin_options, print_json
from harness.cli.output import say


@click.command()
@plugin_options
@json_option
def plugins(as_json: bool) -> None:
    """Show the plugins, the status of each, and the first cause where a plugin is broken."""
    host = current().host
    offered = {
        record.name: [full for full, entry in host.techniques.items() if entry.plugin == record.name]
        for record in host.plugins
    }
    if as_json:
        print_json(
            [
                {
                    "name": record.name,
                    "distribution": record.distribution,
                    "version": record.version,
                    "module": record.module,
                    "status": record.status,
                    "techniques": offered[record.name],
                    "cause": record.cause,
                    "detail": record.detail,
                }
                for record in host.plugins
            ]
        )
        return
    from tabulate import tabulate

    rows = [
        [
            record.name,
            " ".join(filter(None, [record.distribution or record.module, record.version])),
            record.status,
            len(offered[record.name]) or "",
        ]
        for record in host.plugins
    ]
    from harness.report.listing import below

    say(tabulate(rows, headers=["plugin", "distribution", "status", "techniques"], tablefmt="simple"))
    if causes := {record.name: record.cause for record in host.plugins if record.cause}:
        say(below(causes))
