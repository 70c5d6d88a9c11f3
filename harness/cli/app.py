"""The shared parts of commands: the options for plugins, the loaded host, the store."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from harness.collecting import end_with_collection
from harness.discovery import named_in_environment

if TYPE_CHECKING:
    from harness.api import Metric
    from harness.host import Host

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(kw_only=True)
class App:
    """The plugin options of the command line, and the host loaded with these options.

    ``plugins`` begin with those that the environment names.
    ``refuses_named`` says that the command cannot go on where a module that ``-p`` names is broken: a UsageError.
    """

    plugins: list[str] = field(default_factory=named_in_environment)
    no_plugins: bool = False
    strict: bool = False
    refuses_named: bool = False
    verbose: int = 0
    _host: Host | None = None

    @property
    def host(self) -> Host:
        """The loaded host. Each broken plugin is reported in one line; under --strict-plugins as UsageError."""
        if self._host is None:
            self._host = self._load()
        return self._host

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The metrics that plugins declare, for a command that shows what is stored.

        Runs keep the declarations of their metrics, so that most such commands need none: plugins are loaded when one
        is asked for. Where an option or the environment says something of plugins, they are loaded at once.
        """
        if self.plugins or self.strict or self.verbose:
            return self.host.metrics
        return _Declared(self)

    def _load(self) -> Host:
        from harness.api import UsageError
        from harness.host import enabled_and_disabled, load_host, warn, where_named

        end_with_collection()
        enable, disable = enabled_and_disabled(self.plugins)
        host = load_host(enable, disable, entry_points=not self.no_plugins)
        if self.verbose:
            for record in host.broken:
                click.echo(record.detail, err=True)
        if self.refuses_named:
            host.require_loaded(enable)
        problems = [f"plugin {record.name!r}{where_named(record)} is broken: {record.cause}" for record in host.broken]
        if self.strict and problems:
            raise UsageError(*problems)
        for problem in problems:
            warn(problem)
        return host


class _Declared(Mapping[str, "Metric"]):
    """The metrics that plugins declare, which are loaded when one is asked for."""

    def __init__(self, app: App) -> None:
        self._app = app

    @cached_property
    def _metrics(self) -> Mapping[str, Metric]:
        return self._app.host.metrics

    def __getitem__(self, name: str) -> Metric:
        return self._metrics[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._metrics)

    def __len__(self) -> int:
        return len(self._metrics)


def current() -> App:
    """Return the App of the running command line."""
    return click.get_current_context().ensure_object(App)


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    app = context.ensure_object(App)
    if parameter.name == "plugins":
        app.plugins.extend(value)
    elif parameter.name == "verbose":
        app.verbose = max(app.verbose, value)
    elif value:
        setattr(app, str(parameter.name), True)


_PLUGIN_OPTIONS = (
    click.option(
        "-p",
        "plugins",
        multiple=True,
        metavar="[no:]NAME",
        expose_value=False,
        is_eager=True,
        callback=_remember,
        help="Load the module NAME as a plugin without installation, or disable a plugin with no:NAME. "
        "HARNESS_PLUGINS=NAME,NAME does so for every command.",
    ),
    click.option(
        "--no-plugins",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_remember,
        help="Do not load installed plugins.",
    ),
    click.option(
        "--strict-plugins",
        "strict",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_remember,
        help="Stop with an error if a plugin is broken.",
    ),
    click.option(
        "-v",
        "--verbose",
        count=True,
        expose_value=False,
        is_eager=True,
        callback=_remember,
        help="Print each case as it ends, the output of failed cases, and tracebacks of broken plugins.",
    ),
)


def plugin_options(command: F) -> F:
    """Add -p, --no-plugins, --strict-plugins and -v, valid before and after a command's name."""
    return functools.reduce(lambda inner, option: option(inner), reversed(_PLUGIN_OPTIONS), command)


def store_option(command: F) -> F:
    """Add --store."""
    return click.option(
        "--store",
        type=click.Path(file_okay=False, path_type=Path),
        envvar="HARNESS_STORE",
        show_envvar=True,
        help="The folder of stored runs.  [default: .harness in this folder]",
    )(command)


class FolderOfPages(click.Path):
    """The type of a folder that pages are written into: a page's name is refused, as no folder is meant by it."""

    def __init__(self, advice: str = "") -> None:
        super().__init__(file_okay=False, path_type=Path)
        self._advice = advice

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the folder's path; fail for the name of a page."""
        path: Path = cast(Path, super().convert(value, param, ctx))
        if path.suffix == ".html" and not path.is_dir():
            self.fail(f"'{path}' is the name of a page; expected a folder{self._advice}", param, ctx)
        return path


def json_option(command: F) -> F:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def print_json(value: object) -> None:
    """Print ``value`` as indented JSON."""
    click.echo(json.dumps(value, indent=2, default=list))


def complete_from(kind: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Return a shell completion of the names of ``kind``: 'suites', 'techniques' or 'workloads'."""

    def complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
        names = getattr(context.ensure_object(App).host.declared, kind)
        both = [*(full.rpartition("/")[2] for full in names), *names]
        return sorted({name for name in both if name.startswith(incomplete)})

    return complete
