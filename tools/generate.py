"""Writes the parts of the documentation that are read off the code: the commands' help, the hooks, the catalogue.

Run ``python tools/generate.py`` after a change; a test fails while a page differs from what this writes.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from harness import hookspecs
from harness.api import PROJECT
from harness.cli import cli
from harness.host import load_host

FOLDER = Path(__file__).parents[1] / "docs"
NOTE = "<!-- Written by tools/generate.py; edit the code it is read from. -->\n"


def commands() -> str:
    """The help of every command."""
    parts = [f"# Commands\n\n{NOTE}"]
    for path, command in _walk((PROJECT,), cli):
        context = click.Context(command, info_name=" ".join(path), terminal_width=100)
        parts.append(f"## `{' '.join(path)}`\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def _walk(path: tuple[str, ...], command: click.Command) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from _walk((*path, name), child)


def hooks() -> str:
    """The signature and docstring of every hook, in the order of the module."""
    parts = [f"# Hooks\n\n{NOTE}", inspect.getdoc(hookspecs) or "", ""]
    found = [value for value in vars(hookspecs).values() if hasattr(value, f"{PROJECT}_spec")]
    for hook in sorted(found, key=lambda one: inspect.getsourcelines(one)[1]):
        first = " (the first answer counts)" if getattr(hook, f"{PROJECT}_spec")["firstresult"] else ""
        signature = str(inspect.signature(hook)).replace("'", "")
        parts.append(f"## `{hook.__name__}`{first}\n\n```python\ndef {hook.__name__}{signature}\n```\n")
        parts.append(f"{inspect.getdoc(hook)}\n")
    return "\n".join(parts)


def catalogue() -> str:
    """The techniques, workloads and metrics that ship."""
    host = load_host()
    parts = [f"# Techniques, workloads and metrics\n\n{NOTE}"]
    parts.append("## Techniques\n\n| technique | contract | what it does | reference |\n|---|---|---|---|")
    parts += [
        f"| `{full}` | {entry.spec.contract} | {entry.spec.summary} | {entry.spec.reference} |"
        for full, entry in sorted(host.techniques.items())
    ]
    parts.append("\n## Workloads\n\n| workload | contract | what it is | settings |\n|---|---|---|---|")
    for full, entry in sorted(host.workloads.items()):
        settings = ", ".join(f"`{key}` {value}" for key, value in entry.spec.settings.items())
        parts.append(f"| `{full}` | {entry.spec.contract} | {entry.spec.summary} | {settings} |")
    parts.append("\n## Metrics\n\n| metric | unit | better | lane | what it is |\n|---|---|---|---|---|")
    for name, metric in sorted(host.metrics.items()):
        better = "higher" if metric.higher_is_better else "lower"
        parts.append(f"| `{name}` | {metric.unit} | {better} | {metric.lane} | {metric.summary} |")
    return "\n".join(parts) + "\n"


PAGES = {"commands.md": commands, "hooks.md": hooks, "catalogue.md": catalogue}


if __name__ == "__main__":
    for name, write in PAGES.items():
        (FOLDER / name).write_text(write(), encoding="utf-8")
