"""Hooks: executables in a phase folder, ours and the administrator's, in one order by name."""

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
# Set for every hook; a gitlab-mm that a hook calls runs within the run that holds the lock, if any.
PHASE_VARIABLE = "GITLAB_MM_PHASE"
POST_BACKUP = "post-backup"  # a run has dropped the lock before it: a rehearsal may take hours
PHASES = ("pre-backup", POST_BACKUP, "pre-restore", "post-restore", "on-failure")
# As run-parts(8) does: editors' and dpkg's leftovers (name~, name.dpkg-old) do not run.
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_MOST_WORDS = 1 << 20  # bytes of what a hook prints that go to the log


def our_turn() -> contextlib.AbstractContextManager[None]:
    """Hold the lock; within a hook the run that called it holds it for us, but for the last phase."""
    held = os.environ.get(PHASE_VARIABLE, POST_BACKUP) != POST_BACKUP
    return contextlib.nullcontext() if held else only_run()


def site_kind() -> str:
    """Return the kind of site that a run works on whose hook we are, "" outside of hooks."""
    return os.environ.get("GITLAB_MM_SITE", "") if PHASE_VARIABLE in os.environ else ""


def find(phase: str, ours: Path = OURS, admins: Path = ADMINS) -> list[Path]:
    """Return the hooks of ``phase`` in their order.

    An administrator's file replaces ours of the same name; a link to /dev/null masks it.
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

    What they print goes to the log; what they leave running in the background is not waited for.
    Raises Failure at the first that fails, or that somebody
    but root could have written.
    """
    told = {
        **environment.account(),
        PHASE_VARIABLE: phase,
        system_log.RUN_VARIABLE: system_log.run_id(),
        **{f"GITLAB_MM_{name.upper()}": value for name, value in variables.items()},
    }
    for path in find(phase, ours, admins):
        _refuse_untrusted(path)
        try:
            finished = process.run_alone(
                Command([str(path)], environment=told), most_words=_MOST_WORDS
            )
        except Failure as failure:
            raise Failure(
                f"Hook {phase}.d/{path.name} failed",
                failure.detail or failure.message,
                f"Mend {path}, or mask it with a link to /dev/null in {admins / phase}.d/.",
            ) from failure
        for line in finished.err.splitlines():
            log.info("%s: %s", path.name, line)


@contextlib.contextmanager
def on_failure(variables: Mapping[str, str]) -> Iterator[None]:
    """Run the on-failure hooks when the block fails; they cannot make it worse, or better."""
    try:
        yield
    except (Exception, Interrupted) as failure:
        foreseen = isinstance(failure, (Failure, Interrupted, OSError))
        told = str(failure) if foreseen else type(failure).__name__
        try:
            run_phase("on-failure", {**variables, "error": told})
        except Failure as second:
            log.warning("%s", second)
        raise


def _refuse_untrusted(path: Path) -> None:
    """Only root's files run, and only where nobody else could have put or changed them."""
    real = Path(os.path.realpath(path))
    for one in (real, real.parent, path.parent):
        try:
            status = os.stat(one)
        except OSError as error:
            raise Failure(f"Hook {path} is not run", f"{one}: {error.strerror}") from error
        if status.st_uid != 0 or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise Failure(
                f"Hook {path} is not run",
                f"{one} can be written by others than root",
                f"chown root:root {one}; chmod go-w {one}",
            )
    if not real.is_file() or not os.access(real, os.X_OK):
        raise Failure(f"Hook {path} is not run", "it is no executable file", f"chmod +x {path}")
