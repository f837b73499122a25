"""Run a verb, print its result and return its exit code."""

from __future__ import annotations

import functools
import json
import logging
import os
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import streams, translation
from ..errors import ExitCode, Failure, Interrupted
from ..result import CommandResult
from ..system import humanize, progress, sandbox, signals
from ..system import log as system_log
from ..system.log import SystemLog
from ..translation import _
from . import terminal
from .terminal import Lines, Screen

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from ..config.settings import Settings, Value
    from ..store.inventory import Store

# The version of the JSON objects: it rises when a field is removed or changes its meaning.
SCHEMA = 1
PUBLIC = ("status",)  # commands that other accounts than root may run
NO_SITE = ("notify", "place", "names")  # commands that look at no Mattermost
JOBS = ("backup", "restore", "rehearse", "prune", "sso repair")


@dataclass(frozen=True)
class Context:
    """The common options of a command; gives access to settings and store."""

    command: str
    as_json: bool
    quiet: bool
    verbose: bool
    config: Path | None  # None: the default file, which may be absent
    wait: bool = False  # for another run to end
    container: str | None = None  # that GitLab or Mattermost runs in, as --container names it

    def __post_init__(self) -> None:
        """Make this file the one that settings.load() reads in this process."""
        if self.config:
            from ..config import settings

            settings.use(self.config)

    @property
    def job(self) -> bool:
        """Whether metrics and notifications report the command."""
        return self.command in JOBS

    def reach(self) -> None:
        """See the files of the container that GitLab or Mattermost runs in, where one does, for the whole run."""
        from ..config import settings
        from ..mattermost import omnibus_files

        if self.command.split()[0] in NO_SITE or os.geteuid() != 0:
            return
        wanted = self.container or settings.container()
        # Nearly all hosts have GitLab itself, and to look for a container takes a while to import.
        if wanted or not omnibus_files.gitlab_version(Path("/")):
            from ..mattermost import detect

            detect.reach(wanted)

    def only_run(self) -> AbstractContextManager[None]:
        """Hold the lock of runs for a block, after waiting for it where --wait was given."""
        from ..system import lock

        return lock.only_run(wait=self.wait)

    def load_everything(self) -> None:
        """Import everything a job may need, so that upgrading the package cannot break it."""
        from . import preload

        preload.everything()

    def begin(self, ours: Settings) -> None:
        """Log old names of options in config.yml, and send the notification of a start."""
        from ..health import notify

        for old in ours.old_names:
            logging.getLogger(__name__).warning("config.yml, %s", old)
        notify.begin(self.command, ours)

    def settings(self) -> Settings:
        """Return the settings, read once; a file given with --config must exist."""
        return self._settings

    def store(self) -> Store:
        """Return the configured store; created once per run."""
        return self._store

    @functools.cached_property
    def _settings(self) -> Settings:
        from ..config.settings import load
        from ..system import disk_space

        ours = load(required=self.config is not None)
        disk_space.leave(ours.min_free)
        return ours

    @functools.cached_property
    def _store(self) -> Store:
        from ..config import identity
        from ..store import inventory

        if self.job:
            identity.own()  # a host that makes, restores or removes sets needs an id
        return inventory.open_store(self.settings())

    def values(self) -> list[Value]:
        """Read the settings, and return each value with its source."""
        from ..config.settings import look

        return look(required=self.config is not None)


def finish(context: Context, work: Callable[[], CommandResult]) -> int:
    """Run ``work``, print its result or failure, and return the exit code."""
    terminal.prepare(sys.stdout, sys.stderr)
    if terminal.in_unicode(sys.stderr):
        translation.choose(os.environ)
    sandbox.leave_no_core()
    steps, lasting = _log_steps(context)
    began = time.monotonic()
    outcome, error = CommandResult({}, []), None
    try:
        if context.command not in PUBLIC:
            _require_root()
        with _shown_by(steps):
            outcome = work()
        error = outcome.error
    except click.UsageError:
        steps.close()
        raise
    except (Exception, Interrupted) as trouble:
        error = _failure(context, trouble, lasting)
    signals.ignore()  # the rest is short and must not be interrupted
    seconds = time.monotonic() - began
    code = error.exit_code if error else outcome.exit_code
    tail: list[Callable[[], object]] = [
        lambda: _keep(lasting, outcome, error, code, seconds),
        lambda: _follow(context, outcome, error, seconds, steps),
        steps.close,
    ]
    for act in tail:
        _guard(act, lasting)
    _print(context, outcome, error, code, seconds, lasting)
    delivered = _delivered(context, code, lasting)
    if outcome.status is not None and delivered is code and error is None:
        return outcome.status
    return int(delivered)


def _shown_by(steps: logging.Handler) -> AbstractContextManager[None]:
    """Show the progress of the block below the steps, on a terminal."""
    return progress.shown_by(steps.start) if isinstance(steps, Screen) else nullcontext()


def _failure(context: Context, trouble: BaseException, log: SystemLog) -> Failure:
    """Convert an exception to the Failure that is shown; the traceback of a bug goes to the log."""
    if isinstance(trouble, Failure):
        return trouble
    if isinstance(trouble, Interrupted):
        return Failure(
            f"Interrupted by {trouble.signal_name}",
            "the changes so far are rolled back",
            "Run the command again.",
        )
    code = _standing(context)
    if isinstance(trouble, OSError):
        return system_log.failure_of_system(trouble, code)
    for line in system_log.bug_trace(trouble):
        log.write(line, logging.ERROR)
    return system_log.bug_failure(trouble, code)


def _standing(context: Context) -> ExitCode:
    """Return ATTENTION if an interrupted restore has left its journal, else FAILED."""
    from ..config import hooks
    from ..mattermost.journal import Journal

    if not context.job or os.geteuid() != 0 or hooks.PHASE_VARIABLE in os.environ:
        return ExitCode.FAILED
    try:
        return ExitCode.FAILED if Journal().read() is None else ExitCode.ATTENTION
    except Failure as failure:
        return failure.exit_code


def _guard(act: Callable[[], object], log: SystemLog) -> None:
    """Run a step after the work; a bug in it is logged, and does not change the result."""
    try:
        act()
    except (Exception, Interrupted) as trouble:
        for line in system_log.bug_trace(trouble):
            log.write(line, logging.ERROR)


def _print(
    context: Context,
    outcome: CommandResult,
    error: Failure | None,
    code: ExitCode,
    seconds: float,
    log: SystemLog,
) -> None:
    if not context.as_json:
        _guard(lambda: _print_text(context, outcome, error), log)
        return
    try:
        print_json(context, outcome, error, code, seconds)
    except Exception as trouble:  # a field that JSON cannot represent
        bare = CommandResult({}, outcome.warnings)
        print_json(context, bare, error or _failure(context, trouble, log), code, seconds)


def _delivered(context: Context, code: ExitCode, log: SystemLog) -> ExitCode:
    """Return the exit code, after checking that the output could be written.

    If not, a job ends with a warning, and a command that answers a question fails.  A job whose
    reader closed the pipe (such as head) ends as usual.
    """
    trouble = streams.trouble()
    if trouble is None:
        return code
    closed = isinstance(trouble, BrokenPipeError)
    if not closed:
        text = f"The output could not be written: {trouble.strerror}"
        log.write(text, logging.WARNING)
        terminal.say(f"Warning: {text}", err=True, colour="yellow")
    if code is not ExitCode.DONE or (closed and context.job):
        return code
    return ExitCode.WARNINGS if context.job else ExitCode.FAILED


def _follow(
    context: Context,
    outcome: CommandResult,
    error: Failure | None,
    seconds: float,
    steps: logging.Handler,
) -> None:
    """Write the metrics and send the notifications of a job; only root can have run one."""
    if context.job and os.geteuid() == 0:
        from ..health import notify

        began = datetime.now().astimezone() - timedelta(seconds=seconds)
        ended = notify.FinishedRun(context.command, began, seconds, outcome, error)
        with _shown_by(steps), signals.heeded():  # so that a signal ends waiting for a slow service
            notify.follow(ended, context.settings, context.store)


def print_json(
    context: Context, outcome: CommandResult, error: Failure | None, code: ExitCode, seconds: float
) -> None:
    told = error and {"message": error.message, "detail": error.detail, "hint": error.hint}
    document = {
        "schema": SCHEMA,
        "command": context.command,
        "run": system_log.run_id(),
        "ok": code in (ExitCode.DONE, ExitCode.WARNINGS),
        "exit_code": int(code),
        "seconds": round(seconds, 3),
        "warnings": outcome.warnings,
        "error": told,
        **outcome.fields,
    }
    line = json.dumps(document, ensure_ascii=not terminal.in_unicode(sys.stdout))
    if not line.isprintable():  # control characters and undecodable bytes become JSON escapes
        line = "".join(
            letter if letter.isprintable() else json.dumps(letter)[1:-1] for letter in line
        )
    click.echo(line)


def _print_text(context: Context, outcome: CommandResult, error: Failure | None) -> None:
    watched = sys.stdout.isatty() or context.verbose or outcome.answer
    if watched and not context.quiet:
        for line, tone in zip_longest(outcome.lines, outcome.tones, fillvalue=("", "")):
            terminal.say(str(line), tone=tone if tone[0] else terminal.tone_of(str(line)))
    for warning in outcome.warnings:
        terminal.say(f"Warning: {warning}", err=True, colour="yellow")
    if error is not None:
        lines = [_(text) for text in (error.message, error.detail, error.hint) if text]
        word = "Error" if lines[0] == error.message else _("Error")
        terminal.say(f"{word}: {lines[0]}", err=True, colour="red")
        for line in lines[1:]:
            terminal.say(f"  {line}", err=True)


def _log_steps(context: Context) -> tuple[logging.Handler, SystemLog]:
    """Send log messages to the system's log, and on a terminal or with -v to stderr too."""
    logger = logging.getLogger("gitlab_mm_backup")
    logger.handlers.clear()
    logger.setLevel(logging.INFO)
    logger.propagate = False
    handler: logging.Handler = logging.NullHandler()
    if context.quiet:
        pass
    elif sys.stderr.isatty() and not context.as_json and terminal.watched():
        handler = Screen(sys.stderr, f"gitlab-mm {context.command}")
    elif context.verbose or (sys.stderr.isatty() and not context.as_json):
        handler = Lines(lambda line: terminal.say(line, err=True))
    lasting = SystemLog(context.command)
    logger.addHandler(handler)
    logger.addHandler(lasting)
    return handler, lasting


def _keep(
    log: SystemLog, outcome: CommandResult, error: Failure | None, code: ExitCode, seconds: float
) -> None:
    """Write the result of a run to the system's log; answers to questions are left out."""
    worth = outcome.lasting or not outcome.answer
    for line in outcome.lines if worth else []:
        log.write(line)
    for warning in outcome.warnings:
        log.write(warning, logging.WARNING)
    if error is not None:
        log.write(str(error), logging.ERROR)
    # cron runs us every hour; a run that had nothing to do is not logged.
    if (worth and outcome.lines) or error is not None or outcome.warnings:
        ended = (
            f"Ended with exit code {int(code)}, {code.meaning}, after {humanize.duration(seconds)}"
        )
        log.write(ended, fields={"exit_code": int(code), "seconds": round(seconds, 3)})


def _require_root() -> None:
    if os.geteuid() != 0:
        raise Failure(
            "This must be run by root",
            "only root may read GitLab's settings and Mattermost's data",
            f"sudo {Path(sys.argv[0]).name} ...",
            ExitCode.USAGE,
        )
