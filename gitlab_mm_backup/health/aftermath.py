"""What follows every job, however it ended: metrics and notices, neither of which can harm it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from .. import version
from ..config import identity
from ..config.settings import Notice, Settings
from ..errors import ExitCode, Failure, reason
from ..offsite import ledger
from ..result import Outcome
from ..store import check_records
from ..store.inventory import Store
from ..store.local import LocalStore
from ..store.soundness import Kind
from ..system import disk_space, files, humanize, redaction
from ..system import log as system_log
from . import metrics, monitoring, notify, report, runs
from .notify import Message
from .rating import Found
from .runs import Run

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ended:
    """The end of one run of a command."""

    command: str
    began: datetime
    seconds: float
    outcome: Outcome
    error: Failure | None

    @property
    def code(self) -> ExitCode:
        return self.error.exit_code if self.error else self.outcome.exit_code

    @property
    def idle(self) -> bool:
        """Tell whether it had nothing to do: cron asks every hour, and a question changes nothing."""
        told = self.outcome.fields
        nothing = told.get("set", self) is None and not told.get("rehearsals")
        return self.error is None and (self.outcome.answer or nothing)


def begin(command: str, ours: Settings) -> None:
    """Tell those who want to know that a job begins."""
    title = f"gitlab-mm {command} begins on {identity.full_hostname()}"
    _tell(ours.notices, Message(title, title, notify.START))


def follow(ended: Ended, load: Callable[[], Settings], find: Callable[[], Store]) -> None:
    """Note how a run ended, write the metrics and send the notices.

    Bad settings, a full disk, a service that is down: all of it is logged and changes nothing.
    """
    if ended.idle:
        return
    before: Run | None = None
    try:
        before, _ = runs.note(ended.command, ended.began, ended.seconds, int(ended.code))
    except OSError as error:
        log.warning("How this run ended is not noted: %s", error.strerror)
    _guard(lambda: write_metrics(load(), find))
    _guard(lambda: _send(ended, before, load()))


def _guard(act: Callable[[], None]) -> None:
    try:
        act()
    except (Failure, OSError) as error:
        log.warning("%s", redaction.without_rows(reason(error)))
    except Exception as error:  # the other one is still to be done
        for line in system_log.bug_trace(error):
            log.error("%s", line)


def write_metrics(ours: Settings, find: Callable[[], Store]) -> None:
    """Write what all runs, sets and rehearsals come to, for Prometheus."""
    folder = monitoring.collector()
    if folder.is_dir():
        files.note_trace(folder / metrics.FILE)
        metrics.write(facts(find(), ours.remotes), folder)


def _flawed(found: Found | None, kind: Kind) -> frozenset[str]:
    """Return the names of this host's sets against which something of a kind speaks."""
    if found is None:
        return frozenset()
    own = [one.name for one in found.entries if one.name not in found.foreign]
    return frozenset(name for name in own if found.has(name, kind))


def facts(store: Store, remotes: Sequence[str]) -> metrics.Facts:
    """Return what the metrics are made from.

    A store that cannot be looked at, as where its disk is not mounted, has no set to tell of: how
    the run ended is told all the same.
    """
    here, found = identity.known(), None
    offsite = ledger.newest(remotes, here)
    try:
        found = report.look(store)
        offsite = ledger.newest_elsewhere(store, remotes)
    except Failure as failure:
        log.warning("The metrics tell of no set: %s", redaction.without_rows(str(failure)))
    own = [one for one in found.entries if one.name not in found.foreign] if found else []
    flawed = {kind: _flawed(found, kind) for kind in Kind}
    free = disk_space.free(store.folder) if isinstance(store, LocalStore) else None
    return metrics.Facts(
        tool=version.tool(),
        runs=runs.read(),
        entries=[one for one in own if one.name not in flawed[Kind.FUTURE]],
        refuted=flawed[Kind.FAILED],
        emptied=flawed[Kind.EMPTIED],
        future=len(flawed[Kind.FUTURE]),
        foreign=len(found.foreign) if found else 0,
        host=here.id,
        installation=here.installation,
        history=found.history if found else check_records.history(),
        free=free,
        offsite=offsite,
    )


def _send(ended: Ended, before: Run | None, ours: Settings) -> None:
    was_good = before.good if before else None
    chosen = [
        one
        for one in ours.notices
        if one.kind == "ping" or notify.wanted(one.when, int(ended.code), was_good)
    ]
    _tell(chosen, message(ended, recovered=was_good is False))


def _tell(chosen: Sequence[Notice], message: Message) -> None:
    for name, problem in notify.send(chosen, message).items():
        log.warning("Notice %s is not sent: %s", name, problem)


def message(ended: Ended, *, recovered: bool = False) -> Message:
    """Return what is told of a run; rows that PostgreSQL quotes stay out."""
    good = ended.code in (ExitCode.DONE, ExitCode.WARNINGS)
    verdict = "failed" if not good else "has warnings" if ended.code else "is done"
    if good and recovered:
        verdict += " again, after a failure"
    host = identity.full_hostname()
    lines = [
        f"gitlab-mm {ended.command}: {ended.code.meaning}, after {humanize.duration(ended.seconds)}"
    ]
    if ended.error is not None:
        lines += [str(ended.error), ended.error.hint]
    lines += ended.outcome.warnings or ([] if ended.error else ended.outcome.lines)
    lines.append(f"More: journalctl -t gitlab-mm GITLAB_MM_RUN={system_log.run_id()}")
    told = "\n".join(humanize.shown(redaction.without_rows(line)) for line in lines if line)
    title = humanize.plain(f"gitlab-mm {ended.command} {verdict} on {host}")
    return Message(title, told, "success" if good else "fail")
