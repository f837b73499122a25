"""The command line: one function per verb; this module alone prints and exits."""

from __future__ import annotations

import functools
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import click

from .errors import ExitCode, Failure, Interrupted
from .outcome import Outcome

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_SET_HELP = "SET is a set's name, latest, or a path to a set."


@dataclass(frozen=True)
class Manner:
    """How a command was asked to speak, and the settings file."""

    command: str
    as_json: bool
    quiet: bool
    verbose: bool
    config: Path


def _verb(function: Callable[..., Outcome]) -> Callable[..., None]:
    """Give a verb the options that all have, and its end: printing, JSON, the exit code."""

    @click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
    @click.option(
        "--config",
        type=click.Path(path_type=Path, readable=False),
        default=Path("/etc/gitlab-mm-backup/config.yml"),
        show_default=True,
        help="Settings file.",
    )
    @click.option("-v", "--verbose", is_flag=True, help="Tell every step, also without a terminal.")
    @click.option("-q", "--quiet", is_flag=True, help="Say nothing but warnings and errors.")
    @functools.wraps(function)
    def run(as_json: bool, config: Path, verbose: bool, quiet: bool, **options: Any) -> None:
        context = click.get_current_context()
        manner = Manner(str(context.command.name), as_json, quiet, verbose, config)
        sys.exit(_finish(manner, lambda: function(manner, **options)))

    return run


def _finish(manner: Manner, work: Callable[[], Outcome]) -> int:
    """Run ``work``, print its outcome or failure, and return the exit code."""
    _log_steps(manner)
    began = time.monotonic()
    outcome, error = Outcome({}, []), None
    try:
        _require_root()
        outcome = work()
    except Failure as failure:
        error = failure
    except Interrupted as interrupted:
        error = Failure(
            f"Interrupted by {interrupted.signal_name}",
            "everything begun was taken back",
            "Run the command again.",
        )
    code = error.exit_code if error else outcome.exit_code
    if manner.as_json:
        _print_json(manner, outcome, error, code, time.monotonic() - began)
    else:
        _print_text(manner, outcome, error)
    return int(code)


def _print_json(
    manner: Manner, outcome: Outcome, error: Failure | None, code: ExitCode, seconds: float
) -> None:
    told = error and {"message": error.message, "detail": error.detail, "hint": error.hint}
    document = {
        "command": manner.command,
        "ok": code in (ExitCode.DONE, ExitCode.WARNINGS),
        "exit_code": int(code),
        "seconds": round(seconds, 3),
        "warnings": outcome.warnings,
        "error": told,
        **outcome.fields,
    }
    click.echo(json.dumps(document, ensure_ascii=False))


def _print_text(manner: Manner, outcome: Outcome, error: Failure | None) -> None:
    watched = sys.stdout.isatty() or manner.verbose or outcome.answer
    if watched and not manner.quiet:
        for line in outcome.lines:
            click.echo(line)
    for warning in outcome.warnings:
        click.secho(f"Warning: {warning}", err=True, fg="yellow")
    if error is not None:
        click.secho(f"Error: {error.message}", err=True, fg="red", bold=True)
        for line in (error.detail, error.hint):
            if line:
                click.echo(f"  {line}", err=True)


def _log_steps(manner: Manner) -> None:
    """Send the steps that jobs log to stderr: on a terminal, or when asked for."""
    logger = logging.getLogger("gitlab_mm_backup")
    logger.handlers.clear()
    shown = manner.verbose or (sys.stderr.isatty() and not manner.as_json)
    if shown and not manner.quiet:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%H:%M:%S"))
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _require_root() -> None:
    if os.geteuid() != 0:
        raise Failure(
            "This must be run by root",
            "only root may read GitLab's settings and Mattermost's data",
            f"sudo {Path(sys.argv[0]).name} ...",
            ExitCode.USAGE,
        )


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gitlab-mm-backup", prog_name="gitlab-mm")
def group() -> None:
    """Backup, restore and way out for the Mattermost bundled with Omnibus GitLab.

    Exit codes: 0 done; 1 failed, and the live state is as before; 2 bad usage or settings;
    3 another run holds the lock; 4 done, with warnings; 5 failed, and the live state needs
    attention.
    """


@group.command()
@click.option("--if-present", is_flag=True, help="Do nothing where no Mattermost is set up.")
@_verb
def backup(manner: Manner, if_present: bool) -> Outcome:
    """Make a set of Mattermost while it keeps running, then thin out old sets."""
    from . import backup as job
    from . import omnibus, outcomes
    from .lock import only_run

    if if_present and omnibus.presence() is not omnibus.Presence.ENABLED:
        return Outcome({"set": None}, [omnibus.presence().value])
    with only_run():
        ours, store = _store(manner)
        return outcomes.of_backup(job.backup(omnibus.find(), ours, store))


@group.command(epilog=_SET_HELP)
@click.argument("wanted", metavar="[SET]", default="latest")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--with-etc", is_flag=True, help="Put /etc/gitlab back too.")
@click.option("--rollback", is_flag=True, help="Take back a restore that was cut short.")
@_verb
def restore(manner: Manner, wanted: str, yes: bool, with_etc: bool, rollback: bool) -> Outcome:
    """Put a set back: messages, uploads, settings and GitLab sign-in."""
    from . import omnibus, outcomes
    from . import restore as job
    from .journal import Journal
    from .lock import only_run

    with only_run():
        if rollback:
            taken = job.roll_back(omnibus.find(config_required=False), Journal())
            return Outcome({"steps": taken}, ["Everything is as it was before the restore"])
        _, store = _store(manner)
        set_ = store.find(wanted)
        site = omnibus.find(config_required=False)
        if not yes:
            _ask(set_, site)
        return outcomes.of_restore(set_, job.restore(set_, site, job.Plan(with_etc, Journal())))


@group.command("list")
@_verb
def list_sets(manner: Manner) -> Outcome:
    """List the sets, newest first."""
    from . import outcomes

    _, store = _store(manner)
    return outcomes.of_list(store.entries(), str(store.folder))


@group.command(epilog=_SET_HELP)
@click.argument("wanted", metavar="[SET]", default="latest")
@_verb
def verify(manner: Manner, wanted: str) -> Outcome:
    """Read a whole set and hold it against its manifest."""
    from . import outcomes
    from . import verify as job

    _, store = _store(manner)
    set_ = store.find(wanted)
    job.verify(set_)
    return outcomes.of_verify(set_)


@group.command()
@click.option("--dry-run", is_flag=True, help="Only tell what would be removed, and why.")
@_verb
def prune(manner: Manner, dry_run: bool) -> Outcome:
    """Remove sets that are older than the keep time; never the newest."""
    from . import outcomes
    from . import prune as job
    from .lock import only_run

    with only_run():
        ours, store = _store(manner)
        decisions = job.plan(store, ours.keep_time)
        removed, problems = ([], []) if dry_run else job.prune(store, ours.keep_time)
    return outcomes.of_prune(decisions, removed, problems, dry_run)


@group.command()
@_verb
def doctor(manner: Manner) -> Outcome:
    """Say whether this host is ready to back up and to restore."""
    from . import doctor as job
    from . import outcomes

    return outcomes.of_doctor(job.examine(manner.config))


@group.group()
def sso() -> None:
    """Sign-in through GitLab: check it, mend it."""


_FROM = click.option(
    "--from",
    "named",
    multiple=True,
    metavar="SET|FOLDER",
    help="Look for credentials there too; may be repeated.",
)


@sso.command("check")
@_FROM
@_verb
def sso_check(manner: Manner, named: tuple[str, ...]) -> Outcome:
    """Say whether GitLab accepts Mattermost's credentials, and if not, why."""
    from . import candidates, omnibus, outcomes

    _, store = _store(manner)
    return outcomes.of_check(candidates.examine(omnibus.find(), store, named))


@sso.command("repair")
@_FROM
@click.option("--rotate", is_flag=True, help="Where nothing fits: a new secret in GitLab's row.")
@click.option("--register", is_flag=True, help="Where nothing fits: a new application in GitLab.")
@click.option("--if-possible", is_flag=True, help="Where nothing fits: warn instead of failing.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be written.")
@click.option("--undo", is_flag=True, help="Put the files back as the last repair found them.")
@_verb
def sso_repair(manner: Manner, undo: bool, **how: Any) -> Outcome:
    """Give Mattermost the credentials that GitLab accepts, with the least change."""
    from . import hooks, omnibus, outcomes
    from . import repair as job
    from .journal import STATE
    from .lock import only_run

    with only_run() if hooks.PHASE_VARIABLE not in os.environ else nullcontext():
        site = omnibus.find()
        if undo:
            layers = job.undo(site, STATE)
            return Outcome({"written": layers}, [f"Put back: {', '.join(layers)}"])
        _, store = _store(manner)
        return outcomes.of_repair(job.repair(site, store, STATE, job.Wish(**how)))


def _store(manner: Manner) -> Any:
    from . import settings
    from .store.local import LocalStore

    ours = settings.load(manner.config)
    return ours, LocalStore(ours.sets)


def _ask(set_: Any, site: Any) -> None:
    """Have the operator confirm, or say how to go without asking."""
    from . import text

    if not sys.stdin.isatty():
        raise Failure(
            "A restore replaces what is live, and nobody can be asked",
            "there is no terminal",
            "Give --yes to restore without a question.",
            ExitCode.USAGE,
        )
    manifest = set_.manifest
    click.echo(
        f"This replaces the messages, uploads and settings of Mattermost {site.version} on this\n"
        f"host with set {set_.name}, made {text.moment(manifest.made)} on {manifest.host}:\n"
        f"{text.number(manifest.rows, 'row')}, {text.number(manifest.files.files, 'file')}.",
        err=True,
    )
    if not click.confirm("Go on?", err=True):
        raise Failure("Nothing was done", "the answer was no", exit_code=ExitCode.USAGE)


def _interrupt(number: int, _: FrameType | None) -> None:
    for one in _SIGNALS:  # once is enough: a second must not cut the taking back short
        signal.signal(one, signal.SIG_IGN)
    raise Interrupted(signal.Signals(number).name)


def _enter(command: click.Command, program: str) -> None:
    """Run ``command``; usage errors keep the promise of one JSON object too."""
    os.umask(0o077)
    for one in _SIGNALS:
        signal.signal(one, _interrupt)
    try:
        command.main(prog_name=program, standalone_mode=False)
    except click.exceptions.Exit as leaving:
        sys.exit(leaving.exit_code)
    except (click.Abort, Interrupted):
        sys.exit(ExitCode.FAILED)
    except click.ClickException as error:
        if "--json" in sys.argv:
            manner = Manner(program, True, False, False, Path())
            failure = Failure(error.format_message(), exit_code=ExitCode.USAGE)
            _print_json(manner, Outcome({}, []), failure, ExitCode.USAGE, 0)
        else:
            error.show()
        sys.exit(ExitCode.USAGE)
    except BrokenPipeError:
        with suppress(OSError):
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the interpreter flushes it at exit
        sys.exit(ExitCode.FAILED)


def main() -> None:
    """Entry point of gitlab-mm."""
    _enter(group, "gitlab-mm")


def main_backup() -> None:
    """Entry point of gitlab-mm-backup."""
    _enter(backup, "gitlab-mm-backup")


def main_restore() -> None:
    """Entry point of gitlab-mm-restore."""
    _enter(restore, "gitlab-mm-restore")
