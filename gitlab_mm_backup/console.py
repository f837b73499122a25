"""The console: how every verb begins, with the options that all have.

What its end takes is imported when it comes to that: a --help need not wait for it.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import interrupts
from .errors import ExitCode, Failure, Interrupted
from .manner import Manner

if TYPE_CHECKING:
    from .outcome import Outcome

HELP_OPTIONS: dict[str, Any] = {"help_option_names": ["-h", "--help"]}


def verb(function: Callable[..., Outcome]) -> Callable[..., None]:
    """Give a verb the options that all have, and its end: printing, JSON, the exit code."""

    @click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
    @click.option(
        "--config",
        type=click.Path(path_type=Path, readable=False),
        help="Settings file, instead of /etc/gitlab-mm-backup/config.yml.",
    )
    @click.option("-v", "--verbose", is_flag=True, help="Tell every step, also without a terminal.")
    @click.option("-q", "--quiet", is_flag=True, help="Say nothing but warnings and errors.")
    @functools.wraps(function)
    def run(as_json: bool, config: Path | None, verbose: bool, quiet: bool, **options: Any) -> None:
        from . import ending

        manner = Manner(_command_name(), as_json, quiet, verbose, config)
        sys.exit(ending.finish(manner, lambda: function(manner, **options)))

    return run


def _command_name() -> str:
    """Return the verb as it stands in the contract: backup, sso check."""
    names: list[str] = []
    context: click.Context | None = click.get_current_context()
    while context is not None and (context.parent is not None or not names):
        names.append(str(context.command.name))
        context = context.parent
    return " ".join(reversed(names))


def enter(command: click.Command, program: str) -> None:
    """Run ``command``; usage errors keep the promise of one JSON object too."""
    os.umask(0o077)
    interrupts.heed()
    try:
        command.main(prog_name=program, standalone_mode=False, **HELP_OPTIONS)
    except click.exceptions.Exit as leaving:
        sys.exit(leaving.exit_code)
    except (click.Abort, Interrupted):
        sys.exit(ExitCode.FAILED)
    except click.ClickException as error:
        if "--json" in sys.argv:
            from . import ending
            from .outcome import Outcome

            manner = Manner(program, True, False, False, None)
            failure = Failure(error.format_message(), exit_code=ExitCode.USAGE)
            ending.print_json(manner, Outcome({}, []), failure, ExitCode.USAGE, 0)
        else:
            error.show()
        sys.exit(ExitCode.USAGE)
    except BrokenPipeError:
        with suppress(OSError):
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the interpreter flushes it at exit
        sys.exit(ExitCode.FAILED)
