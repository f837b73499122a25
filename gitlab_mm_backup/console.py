"""The console: how every verb begins and ends; prints, asks and exits, as nothing else does."""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import interrupts, progress, run_id, terminal, text
from .errors import ExitCode, Failure, Interrupted
from .outcome import Outcome
from .secret import Secret
from .system_log import SystemLog
from .terminal import Lines, Screen

if TYPE_CHECKING:
    from .settings import Settings, Value

JOBS = ("backup", "restore", "rehearse", "prune", "sso repair")
HELP_OPTIONS: dict[str, Any] = {"help_option_names": ["-h", "--help"]}


@dataclass(frozen=True)
class Manner:
    """How a command was asked to speak, and the settings file."""

    command: str
    as_json: bool
    quiet: bool
    verbose: bool
    config: Path | None  # None: the usual one, which need not be there

    @property
    def job(self) -> bool:
        """Tell whether the command does what metrics and notices tell of."""
        return self.command in JOBS

    def begin(self, ours: Settings) -> None:
        """Tell those who want to know that the job itself begins now."""
        from . import aftermath

        aftermath.begin(self.command, ours)

    def settings(self) -> Settings:
        """Read the settings; a file that was named must be there."""
        from .settings import load

        return load(self.config, required=True) if self.config else load()

    def values(self) -> list[Value]:
        """Read the settings, each value with where it comes from; as ``settings`` does."""
        from .settings import look

        return look(self.config, required=True) if self.config else look()


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
        manner = Manner(_command_name(), as_json, quiet, verbose, config)
        sys.exit(_finish(manner, lambda: function(manner, **options)))

    return run


def _command_name() -> str:
    """Return the verb as it stands in the contract: backup, sso check."""
    names: list[str] = []
    context: click.Context | None = click.get_current_context()
    while context is not None and (context.parent is not None or not names):
        names.append(str(context.command.name))
        context = context.parent
    return " ".join(reversed(names))


def _finish(manner: Manner, work: Callable[[], Outcome]) -> int:
    """Run ``work``, print its outcome or failure, and return the exit code."""
    terminal.prepare(sys.stdout, sys.stderr)
    steps, lasting = _log_steps(manner)
    began = time.monotonic()
    outcome, error = Outcome({}, []), None
    try:
        _require_root()
        with progress.shown_by(steps.start) if isinstance(steps, Screen) else nullcontext():
            outcome = work()
        error = outcome.error
    except Failure as failure:
        error = failure
    except OSError as trouble:
        error = Failure("The system refused a step of the work", str(trouble))
    except Interrupted as interrupted:
        error = Failure(
            f"Interrupted by {interrupted.signal_name}",
            "everything begun was taken back",
            "Run the command again.",
        )
    steps.close()
    code = error.exit_code if error else outcome.exit_code
    seconds = time.monotonic() - began
    _keep(lasting, outcome, error, code, seconds)
    _follow(manner, outcome, error, seconds)
    if manner.as_json:
        _print_json(manner, outcome, error, code, seconds)
    else:
        _print_text(manner, outcome, error)
    return int(code)


def _follow(manner: Manner, outcome: Outcome, error: Failure | None, seconds: float) -> None:
    """Have metrics and notices tell how a job ended; whoever is not root has done none."""
    if manner.job and os.geteuid() == 0:
        from . import aftermath

        began = datetime.now().astimezone() - timedelta(seconds=seconds)
        ended = aftermath.Ended(manner.command, began, seconds, outcome, error)
        aftermath.follow(ended, manner.settings)


def _print_json(
    manner: Manner, outcome: Outcome, error: Failure | None, code: ExitCode, seconds: float
) -> None:
    told = error and {"message": error.message, "detail": error.detail, "hint": error.hint}
    document = {
        "command": manner.command,
        "run": run_id.current(),
        "ok": code in (ExitCode.DONE, ExitCode.WARNINGS),
        "exit_code": int(code),
        "seconds": round(seconds, 3),
        "warnings": outcome.warnings,
        "error": told,
        **outcome.fields,
    }
    _say(json.dumps(document, ensure_ascii=not terminal.in_unicode(sys.stdout)))


def _print_text(manner: Manner, outcome: Outcome, error: Failure | None) -> None:
    watched = sys.stdout.isatty() or manner.verbose or outcome.answer
    if watched and not manner.quiet:
        for line, (word, colour) in zip_longest(outcome.lines, outcome.tones, fillvalue=("", "")):
            _say(_toned(str(line), word, colour))
    for warning in outcome.warnings:
        _say(f"Warning: {warning}", err=True, fg="yellow")
    if error is not None:
        _say(f"Error: {error.message}", err=True, fg="red", bold=True)
        for line in (error.detail, error.hint):
            if line:
                _say(f"  {line}", err=True)


def _toned(line: str, word: str, colour: str) -> str:
    """Return a line with one word of it in colour; where that is not wanted it is taken out."""
    if not word:
        return line
    painted = click.style(word, fg=colour, bold=True)
    return re.sub(rf"(?<= ){re.escape(word)}(?= |$)", painted, line, count=1)


def _say(line: str, err: bool = False, **style: Any) -> None:
    """Print a line; a name may hold bytes that no encoding has."""
    told = line.encode(errors="backslashreplace").decode()
    # click would write UTF-8 to a terminal that says it takes ASCII, were it left to choose.
    stream = sys.stderr if err else sys.stdout
    click.secho(told, file=stream, color=None if terminal.colours() else False, **style)


def _log_steps(manner: Manner) -> tuple[logging.Handler, SystemLog]:
    """Send the steps that jobs log to the system's log, and on a terminal or with -v to stderr."""
    logger = logging.getLogger("gitlab_mm_backup")
    logger.handlers.clear()
    logger.setLevel(logging.INFO)
    logger.propagate = False
    handler: logging.Handler = logging.NullHandler()
    if manner.quiet:
        pass
    elif sys.stderr.isatty() and not manner.as_json and terminal.watched():
        handler = Screen(sys.stderr)
    elif manner.verbose or (sys.stderr.isatty() and not manner.as_json):
        handler = Lines(lambda line: _say(line, err=True))
    lasting = SystemLog(manner.command)
    logger.addHandler(handler)
    logger.addHandler(lasting)
    return handler, lasting


def _keep(
    log: SystemLog, outcome: Outcome, error: Failure | None, code: ExitCode, seconds: float
) -> None:
    """Have the end of a run in the system's log; the answer to a question is not worth it."""
    worth = outcome.lasting or not outcome.answer
    for line in outcome.lines if worth else []:
        log.write(line)
    for warning in outcome.warnings:
        log.write(warning, logging.WARNING)
    if error is not None:
        log.write(str(error), logging.ERROR)
    # cron asks every hour whether anything is due; that nothing was is no news.
    if (worth and outcome.lines) or error is not None or outcome.warnings:
        ended = f"Ended with exit code {int(code)}, {code.meaning}, after {text.duration(seconds)}"
        log.write(ended, fields={"exit_code": int(code), "seconds": round(seconds, 3)})


def _require_root() -> None:
    if os.geteuid() != 0:
        raise Failure(
            "This must be run by root",
            "only root may read GitLab's settings and Mattermost's data",
            f"sudo {Path(sys.argv[0]).name} ...",
            ExitCode.USAGE,
        )


def ask(told: str, loud: str, question: str, what: str = "what is live is replaced") -> None:
    """Have the operator confirm ``what``, or say how to go without asking."""
    if not sys.stdin.isatty():
        raise Failure(
            f"Nobody can be asked, and {what}",
            "there is no terminal",
            "Give --yes to go on without a question.",
            ExitCode.USAGE,
        )
    for screen in logging.getLogger("gitlab_mm_backup").handlers:
        if isinstance(screen, Screen):
            screen.pause()
    click.echo(told, err=True)
    if loud:
        click.secho(loud, err=True, fg="red", bold=True)
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        agreed = False
    if not agreed:
        raise Failure("Nothing was done", "the answer was not yes", exit_code=ExitCode.USAGE)


def ask_password(name: str) -> Secret:
    """Ask for a password without showing it; without a terminal it is the first line of stdin."""
    if not sys.stdin.isatty():
        return Secret(sys.stdin.readline().rstrip("\n"))
    try:
        return Secret(click.prompt(f"Password of {name}", hide_input=True, err=True))
    except click.Abort:
        raise Failure("Nothing was done", "no password came", exit_code=ExitCode.USAGE) from None


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
            manner = Manner(program, True, False, False, None)
            failure = Failure(error.format_message(), exit_code=ExitCode.USAGE)
            _print_json(manner, Outcome({}, []), failure, ExitCode.USAGE, 0)
        else:
            error.show()
        sys.exit(ExitCode.USAGE)
    except BrokenPipeError:
        with suppress(OSError):
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the interpreter flushes it at exit
        sys.exit(ExitCode.FAILED)
