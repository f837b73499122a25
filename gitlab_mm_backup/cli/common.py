"""Common to all verbs: their options, and how a program starts and exits.

output.py is imported late, so that --help is fast.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import sys
import syslog
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from .. import streams, version
from ..errors import ExitCode, Failure, Interrupted
from ..result import CommandResult
from ..system import environment, humanize, log, signals
from .output import SCHEMA, Context

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..checks import Check
    from ..config.settings import Settings
    from ..store.inventory import Store

# New objects before garbage is looked for: lists of thousands of sets are built, and none is any.
_OBJECTS = 100_000
HELP_OPTIONS = ["-h", "--help"]
T = TypeVar("T")


def verb(function: Callable[..., CommandResult]) -> Callable[..., None]:
    """Add the common options to a verb; print its result as text or JSON, and exit with its code."""

    @common_options
    @functools.wraps(function)
    def run(
        as_json: bool,
        config: Path | None,
        verbose: bool,
        quiet: bool,
        container: str | None,
        **options: object,
    ) -> None:
        from . import output

        first = click.get_current_context().find_object(Typed) or Typed()
        context = Context(
            _command_name(),
            as_json or first.as_json,
            quiet or first.quiet,
            verbose or first.verbose,
            config or first.config,
            bool(options.pop("wait", False)),
            container or first.container,
        )

        def work() -> CommandResult:
            context.reach()
            return function(context, **options)

        sys.exit(output.finish(context, work))

    return run


@dataclass(frozen=True)
class Typed:
    """The common options that were typed before the verb."""

    as_json: bool = False
    config: Path | None = None
    verbose: bool = False
    quiet: bool = False
    container: str | None = None


def common_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that all verbs have."""
    for option in (
        click.option("-q", "--quiet", is_flag=True, help="Print only warnings and errors."),
        click.option(
            "-v", "--verbose", is_flag=True, help="Print every step, without a terminal too."
        ),
        click.option(
            "-c",
            "--config",
            type=click.Path(path_type=Path, readable=False),
            help="Settings file, instead of /etc/gitlab-mm-backup/config.yml.",
        ),
        click.option(
            "--container",
            metavar="NAME",
            help="The container that GitLab or Mattermost runs in, if there are several on this host.",
        ),
        click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout."),
    ):
        function = option(function)
    return function


def yes_option(function: Callable[..., None]) -> Callable[..., None]:
    """Add the option that answers a verb's question."""
    return click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")(function)


def wait_option(function: Callable[..., None]) -> Callable[..., None]:
    """Add the option --wait to a verb that runs alone; ``verb`` puts it into the context."""
    return click.option(
        "--wait", is_flag=True, help="Wait until another run has ended, instead of exit code 3."
    )(function)


class Group(click.Group):
    """Commands that say what may have been meant where a name is misspelt."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            import difflib

            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=3)
            if not near:
                raise
            text = f"There is no command {args[0]!r}. Did you mean {' or '.join(near)}?"
            raise click.UsageError(text, ctx) from None


def filled(
    kind: Callable[..., T],
) -> Callable[[Callable[[Context, T], CommandResult]], Callable[..., CommandResult]]:
    """Give a verb with many options one object of them: a ``kind``, whose fields are their names."""

    def decorate(function: Callable[[Context, T], CommandResult]) -> Callable[..., CommandResult]:
        @functools.wraps(function)
        def call(context: Context, **options: object) -> CommandResult:
            return function(context, kind(**options))

        return call

    return decorate


def print_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    """Print the version, as --version asks for, and end."""
    if wanted and not context.resilient_parsing:
        click.echo(f"gitlab-mm, version {version.tool()}")
        context.exit()


def _command_name() -> str:
    """Return the verb for the JSON field "command": backup, sso check."""
    names: list[str] = []
    context: click.Context | None = click.get_current_context()
    while context is not None and (context.parent is not None or not names):
        names.append(str(context.command.name))
        context = context.parent
    return " ".join(reversed(names))


def enter(command: click.Command, program: str) -> None:
    """Run ``command`` and exit with its code; with --json, print one JSON object in every case."""
    streams.settle()
    environment.cleanse()
    os.umask(0o077)
    gc.set_threshold(_OBJECTS)
    signals.heed()
    sys.exit(_run(command, program))


def _run(command: click.Command, program: str) -> int:
    try:
        command.main(prog_name=program, standalone_mode=False, help_option_names=HELP_OPTIONS)
    except click.exceptions.Exit as leaving:
        return _printed(leaving.exit_code)
    except click.ClickException as error:
        usage = Failure(error.format_message(), exit_code=ExitCode.USAGE)
        if "--json" in sys.argv:
            _tell(program, usage)
        else:
            error.show()
        return ExitCode.USAGE
    except (click.Abort, Interrupted):
        return _tell(program, Failure("Interrupted", "nothing was started", "Run it again."))
    except Exception as error:  # before a verb has started, or after it has ended
        from ..system import log

        for line in log.bug_trace(error):
            syslog.syslog(syslog.LOG_ERR, line)
        return _tell(program, log.bug_failure(error))
    return _printed(ExitCode.DONE)


def _printed(code: int) -> int:
    """Return ``code``, or FAILED if the output, such as the help, could not be written."""
    return ExitCode.FAILED if streams.trouble() is not None else code


def _tell(program: str, failure: Failure) -> int:
    """Print a failure outside of any verb; uses as few modules as possible."""
    code = failure.exit_code
    if "--json" in sys.argv:
        fields = {"message": failure.message, "detail": failure.detail, "hint": failure.hint}
        document = {
            "schema": SCHEMA,
            "command": program,
            "run": log.run_id(),
            "ok": False,
            "exit_code": int(code),
            "seconds": 0,
            "warnings": [],
            "error": fields,
        }
        click.echo(json.dumps(document))
    else:
        click.echo(humanize.shown(f"Error: {failure.message}"), err=True)
        for line in filter(None, (failure.detail, failure.hint)):
            click.echo(humanize.shown(f"  {line}"), err=True)
    return code


SET_HELP = "SET is a set's name, latest, or a path to a set."


def check_fields(checks: Sequence[Check]) -> list[dict[str, str]]:
    return [
        {"name": check.name, "result": check.result.value, "detail": check.detail}
        for check in checks
    ]


def check_line(check: Check) -> str:
    return f"{check.name:16} {check.result.value:8} {check.detail}".rstrip()


def settings_and_store(context: Context) -> tuple[Settings, Store]:
    return context.settings(), context.store()
