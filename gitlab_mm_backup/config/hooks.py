"""Run the hooks of a phase: the package's and the administrator's, sorted by name."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..errors import Failure, Interrupted
from ..system import environment, process
from ..system import log as system_log
from ..system.lock import only_run
from ..system.process import Command

log = logging.getLogger(__name__)

OURS = Path("/usr/lib/gitlab-mm-backup/hooks")
ADMINS = Path("/etc/gitlab-mm-backup/hooks")
# Set for every hook. A gitlab-mm that a hook calls uses the lock of the run that called the hook.
PHASE_VARIABLE = "GITLAB_MM_PHASE"
POST_BACKUP = "post-backup"  # runs without the lock, because a rehearsal may take hours
PHASES = ("pre-backup", POST_BACKUP, "pre-restore", "post-restore", "on-failure")
# As in run-parts(8): backup files of editors and dpkg (name~, name.dpkg-old) do not run.
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_MOST_WORDS = 1 << 20  # bytes of a hook's output that go to the log


def our_turn() -> contextlib.AbstractContextManager[None]:
    """Take the lock, unless we run in a hook whose caller holds it (every phase but post-backup)."""
    held = os.environ.get(PHASE_VARIABLE, POST_BACKUP) != POST_BACKUP
    return contextlib.nullcontext() if held else only_run()


def site_kind() -> str:
    """Return the kind of site of the run that called this hook, "" outside of hooks."""
    return os.environ.get("GITLAB_MM_SITE", "") if PHASE_VARIABLE in os.environ else ""


def find(phase: str, ours: Path = OURS, admins: Path = ADMINS) -> list[Path]:
    """Return the hooks of ``phase``, sorted by name.

    A file of the administrator replaces the package's of the same name; a link to /dev/null
    disables it.
    """
    by_name: dict[str, Path] = {}
    for folder in (ours / f"{phase}.d", admins / f"{phase}.d"):
        try:
            entries = list(folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            continue
        by_name.update((path.name, path) for path in entries if _NAME.fullmatch(path.name))
    chosen = [path for _, path in sorted(by_name.items())]
    return [path for path in chosen if os.path.realpath(path) != "/dev/null"]


def run_phase(
    phase: str, variables: Mapping[str, str], ours: Path = OURS, admins: Path = ADMINS
) -> None:
    """Run the hooks of ``phase`` with root's HOME and ``GITLAB_MM_*`` in their environment.

    Their output goes to the log; background processes that they start are not waited for.  Raises
    Failure at the first hook that fails, or that others than root can write.
    """
    fields = {
        **environment.account(),
        PHASE_VARIABLE: phase,
        system_log.RUN_VARIABLE: system_log.run_id(),
        **{f"GITLAB_MM_{name.upper()}": value for name, value in variables.items()},
    }
    for path in find(phase, ours, admins):
        _refuse_untrusted(path)
        try:
            finished = process.run_alone(
                Command([str(path)], environment=fields), most_words=_MOST_WORDS
            )
        except Failure as failure:
            raise Failure(
                f"Hook {phase}.d/{path.name} failed",
                failure.detail or failure.message,
                f"Correct {path}, or disable it with a link to /dev/null in {admins / phase}.d/.",
            ) from failure
        for line in finished.err.splitlines():
            log.info("%s: %s", path.name, line)


@contextlib.contextmanager
def on_failure(variables: Mapping[str, str]) -> Iterator[None]:
    """Run the on-failure hooks if the block fails; their result changes nothing."""
    try:
        yield
    except (Exception, Interrupted) as failure:
        foreseen = isinstance(failure, (Failure, Interrupted, OSError))
        text = str(failure) if foreseen else type(failure).__name__
        try:
            run_phase("on-failure", {**variables, "error": text})
        except Failure as second:
            log.warning("%s", second)
        raise


def _refuse_untrusted(path: Path) -> None:
    """Raise Failure unless the hook is an executable that only root can write or replace."""
    real = Path(os.path.realpath(path))
    for checked in (real, real.parent, path.parent):
        try:
            status = os.stat(checked)
        except OSError as error:
            raise Failure(f"Hook {path} is not run", f"{checked}: {error.strerror}") from error
        if status.st_uid != 0 or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise Failure(
                f"Hook {path} is not run",
                f"{checked} can be written by others than root",
                f"chown root:root {checked}; chmod go-w {checked}",
            )
    if not real.is_file() or not os.access(real, os.X_OK):
        raise Failure(f"Hook {path} is not run", "it is not an executable file", f"chmod +x {path}")
