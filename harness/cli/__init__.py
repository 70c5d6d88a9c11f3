"""The command line: one module for each command, imported when the command is used."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from harness import __version__
from harness.api import HarnessError, UsageError, nearest, resolve
from harness.api.text import printable
from harness.cli.app import plugin_options
from harness.collecting import end_without_collection
from harness.streams import OutputLost, guarded, is_coloured

BUG = 70
"""The exit code of an error of the harness itself: EX_SOFTWARE of sysexits.h, which no gate takes for ``worse``."""

READER_LEFT = 141
"""The exit code where the reader of standard output left: what a shell gives a program that SIGPIPE ended."""

_COMMANDS = {
    "run": "harness.cli.run:run",
    "list": "harness.cli.list:list_",
    "plugins": "harness.cli.plugins:plugins",
    "show": "harness.cli.show:show",
    "new": "harness.cli.new:new",
    "check": "harness.cli.check:check",
    "runs": "harness.cli.runs:runs",
    "store": "harness.cli.store:store",
    "report": "harness.cli.report:report",
    "site": "harness.cli.site:site",
    "claims": "harness.cli.claims:claims",
    "history": "harness.cli.history:history",
    "compare": "harness.cli.compare:compare",
    "accept": "harness.cli.accept:accept",
    "track": "harness.cli.track:track",
    "export": "harness.cli.export:export",
    "doctor": "harness.cli.doctor:doctor",
    "cache": "harness.cli.cache:cache",
    "completion": "harness.cli.completion:completion",
}

_MEANT = {
    "baseline": "runs name RUN NAME",
    "bench": "run --suite NAME",
    "benchmark": "run --suite NAME",
    "bisect": "compare BASE HEAD --bisect METRIC",
    "diff": "compare BASE HEAD",
    "gate": "compare BASE HEAD --gate",
    "help": "--help",
    "resume": "run --resume RUN",
    "results": "runs",
    "version": "--version",
}
"""What does the job of words that other programs have as commands; none is near enough to the name of a command."""


class _Commands(click.Group):
    """The built-in commands by name, followed by the commands of plugins."""

    _plugins_asked = False

    def _ask_plugins(self, context: click.Context) -> None:
        if not self._plugins_asked:
            from harness.cli.app import App

            self._plugins_asked = True
            context.ensure_object(App).host.notify("register_commands", cli=self)

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the built-in commands in the order of first use, then the plugins' commands."""
        self._ask_plugins(context)
        return [*_COMMANDS, *sorted(set(self.commands) - set(_COMMANDS))]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Return a built-in command, or a plugin's command of this name; None where there is none."""
        if name in _COMMANDS:
            command: click.Command = resolve(_COMMANDS[name])
            return command
        self._ask_plugins(context)
        return self.commands.get(name)

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command; raise a usage error with the nearest name for an unknown command."""
        name = args[0]
        if not name.startswith("-") and self.get_command(context, name) is None:
            hint = nearest(name, self.list_commands(context)) or "; harness --help lists them"
            if name in _MEANT:
                hint = f"; what does that: harness {_MEANT[name]}"
            raise click.UsageError(f"no command {name!r}{hint}")
        return super().resolve_command(context, args)


@click.group(
    name="harness",
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with: harness run --suite peft --quick",
)
@plugin_options
@click.version_option(__version__, prog_name="harness")
def cli() -> None:
    """Benchmark deep-learning techniques: accuracy, memory and throughput, with an interval on every number."""
    try:
        Path.cwd()
    except (
        OSError
    ) as error:  # it was removed meanwhile, or its drive: stores, plugins and projects are looked for in it
        raise UsageError(f"this folder is no longer there: {error.strerror}", "go to one that is: cd") from error


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code.

    The code is 0 where all is fine, 1 where a case failed or the gate found something worse, 2 for wrong usage, 70 for
    an error of the harness itself, 130 after an interruption, and 141 where the reader of standard output left.
    """
    if arguments is None:  # else a Python program called, which goes on and has objects of its own
        end_without_collection()
    with guarded():
        code = _run(arguments)
    sys.exit(code)


def _run(arguments: Sequence[str] | None) -> int:
    """Run the command line and return its exit code; print what a person must know of an error."""
    code: int | None
    try:
        code = cli.main(
            args=[*arguments] if arguments is not None else None,
            prog_name="harness",
            standalone_mode=False,
            color=is_coloured(sys.stdout),
        )
        sys.stdout.flush()
    except click.exceptions.Abort:
        code = 130
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = error.exit_code
    except click.ClickException as error:
        _print([_usage_line(error)])
        code = HarnessError.exit_code
    except KeyboardInterrupt:
        code = 130
    except OutputLost as lost:
        code = _lost(lost)
    except Exception as error:
        code = _explain(error)
    return code or 0


def _lost(lost: OutputLost) -> int:
    """Say that standard output takes no more, unless its reader left, which is no fault; return the exit code."""
    if lost.left:
        return READER_LEFT
    _print([str(lost)])
    return HarnessError.exit_code


def _explain(error: Exception) -> int:
    """Print a `HarnessError`, one line for each problem, or the traceback of a bug; return the exit code."""
    if not isinstance(error, HarnessError):
        _print(["this is a fault of the harness, not of the command; please report it with the lines below"])
        click.echo(printable(traceback.format_exc(), keep="\n").rstrip(), err=True)
        return BUG
    _print(str(error).splitlines())
    return error.exit_code


def _usage_line(error: click.ClickException) -> str:
    """Return what click found wrong, in our words: what was wrong, the nearest right name, and where to read on."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if isinstance(error, click.NoSuchOption) and context is not None:
        options = [name for option in context.command.get_params(context) for name in option.opts if name[:1] == "-"]
        close = nearest(error.option_name, options) if error.option_name.startswith("--") else ""
        line = f"no option {error.option_name!r}{close}"
    else:
        # an argument is named by its choices, which the message lists
        named = type(error) is not click.BadParameter or not isinstance(error.param, click.Argument)
        text = " ".join((error.format_message() if named else error.message).split())
        close = "did you mean" if "Did you mean" in text else ""
        line = text[:1].lower() + text[1:].replace(". Did you mean", "; did you mean").rstrip(".")
    return line if close or context is None else f"{line}; see: {context.command_path} --help"


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(f"harness: error: {printable(line)}", err=True)
