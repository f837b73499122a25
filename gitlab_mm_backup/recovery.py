"""Recovery: how each step of a restore is taken back or finished, in this run or a later one."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

from . import exchange, folders, service
from .errors import ExitCode, Failure
from .journal import Journal, Previous, Record
from .manifest import utc
from .site import Site
from .undo import Action, run


def actions(site: Site) -> dict[str, Action]:
    """Return what each noted step does; every one bears being done twice."""
    mattermost = service.of(site)

    def start() -> None:
        mattermost.allow_start()
        mattermost.start()

    return {
        "start Mattermost": start,
        "let Mattermost start again": mattermost.allow_start,
        "remove the new folder": folders.remove_work_folder,
        "put back the live state": _mourn,
        "drop the new database": lambda name: exchange.drop_marked(site.database, name),
        "exchange the databases back": lambda new, old: exchange.exchange_back(
            site.database, new, old
        ),
        "exchange the folders back": lambda live, work: folders.exchange_back(
            Path(live), Path(work)
        ),
        "drop the previous database": lambda name: exchange.drop_marked(site.database, name),
        "remove the previous folder": folders.remove_previous,
    }


def _mourn(safety_set: str) -> None:
    way_out = f"restore the safety set {safety_set}" if safety_set else "restore another set"
    raise Failure("it was removed to make room (--in-place)", way_out)


def finish(site: Site, journal: Journal, *, keep: bool) -> list[str]:
    """Remove what was live before a complete restore, or keep it for ``prune``.

    What cannot be removed is returned in words, and kept for ``prune`` too: the restore is done.
    """
    record = journal.read()
    steps = record.finish if record else []
    problems = [] if keep else run(steps, actions(site))
    if steps and (keep or problems):
        now = utc(datetime.now(timezone.utc))
        journal.keep([*journal.previous(), Previous(now, steps)])
    journal.write({}, [], [])
    return [f"The previous state could not be removed: {one}" for one in problems]


def roll_back(site: Site, record: Record, journal: Journal) -> str:
    """Take back a restore that was cut short; say which state is live now.

    One that was complete but for its cleaning up is completed: there is nothing to go back to.
    Raises Failure with ExitCode.ATTENTION when some step could not be taken back.
    """
    if record.finish:
        finish(site, journal, keep=False)
        return "new"
    problems = run(reversed(record.undo), actions(site))
    if problems:
        raise Failure(
            "The restore could not be taken back completely",
            "; ".join(problems),
            "Put right what is named, then run gitlab-mm restore --rollback again.",
            ExitCode.ATTENTION,
        )
    journal.write({}, [], [])
    return "old"


def unfinished(journal: Journal) -> Record:
    """Return the restore that was cut short; raises Failure where there is none."""
    record = journal.read()
    if record is None:
        raise Failure(
            "No restore was cut short", "there is nothing to take back", "", ExitCode.USAGE
        )
    return record


def refuse_unfinished(journal: Journal) -> None:
    """Raise Failure where a restore was cut short: nothing may build on a half state."""
    if journal.read() is not None:
        raise Failure(
            "A restore was cut short, and must be finished or taken back first",
            f"its journal is {journal.path}",
            "Run gitlab-mm restore --rollback (the old state) or --continue (the set's).",
            ExitCode.ATTENTION,
        )


def drop_previous(site: Site, journal: Journal, older_than: timedelta) -> list[str]:
    """Remove previous states that are kept and older than that; return what went wrong."""
    now = datetime.now(timezone.utc)
    kept, problems = [], []
    for one in journal.previous():
        wrong = run(one.steps, actions(site)) if now - one.moment >= older_than else None
        problems += wrong or []
        if wrong is None or wrong:
            kept.append(one)
    journal.keep(kept)
    return problems
