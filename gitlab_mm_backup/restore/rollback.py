"""Rollback: undo or finish each step of a restore, in this run or a later one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from ..clock import utc
from ..errors import ExitCode, Failure
from ..mattermost import detect, service, standalone
from ..mattermost.journal import Journal, Previous, Step, UnfinishedRestore
from ..mattermost.site import Site
from ..postgresql import connection, swap
from ..sso import repair
from ..system import files
from . import folder_swap, uploads_later
from .undo_log import Action, run

LIVE_STATE_REMOVED = "put back the live state"  # which cannot be: it was removed for --in-place
DROP = "drop the previous database"
OPEN = "open the folder again"
FORGET = "forget the copy of config.json"
FORGET_UPLOADS = "forget the uploads to unpack later"


def actions(site: Site) -> dict[str, Action]:
    """Return the function for each recorded step; all may be run twice."""
    mattermost = service.of(site)

    def start(answered: str) -> None:
        mattermost.allow_start()
        mattermost.start()
        if answered == "yes":
            service.wait_until_it_answers(detect.again(site))

    def remove_folder(live: str, work: str, mounted: str) -> None:
        folder_swap.refuse_unmounted(Path(live), mounted == "yes")
        folder_swap.remove_work_folder(work)

    def exchange_back(live: str, work: str, mounted: str) -> None:
        folder_swap.refuse_unmounted(Path(live), mounted == "yes")
        for ground in files.grounds(Path(work)):  # what was noted before opens them again
            folder_swap.shut(ground)
        folder_swap.exchange_back(Path(live), Path(work))

    def open_again(path: str, uid: str, gid: str, mode: str) -> None:
        folder_swap.open_again(files.Ground(path, int(uid), int(gid), int(mode)))

    return {
        "start Mattermost": start,
        "let Mattermost start again": mattermost.allow_start,
        "stop Mattermost": mattermost.stop,
        "remove the new folder": remove_folder,
        "exchange the folders back": exchange_back,
        "remove the previous folder": folder_swap.remove_previous,
        OPEN: open_again,
        FORGET: standalone.forget_config,
        FORGET_UPLOADS: uploads_later.forget,
        "take back the credentials": lambda kept: repair.take_back(site, Path(kept)),
        LIVE_STATE_REMOVED: _mourn,
        **_database_actions(site),
    }


def _database_actions(site: Site) -> dict[str, Action]:
    def drop(name: str) -> None:
        connection.wait_for_server(site.database)
        swap.drop_marked(site.database, name)

    def exchange_back(new: str, old: str) -> None:
        connection.wait_for_server(site.database)
        swap.exchange_back(site.database, new, old)

    def give_back(owner: str = "") -> None:
        connection.wait_for_server(site.database)
        swap.return_ownership(site.database, owner)

    return {
        "drop the new database": drop,
        DROP: drop,
        "exchange the databases back": exchange_back,
        "give the live database back": give_back,
    }


def _mourn(safety_set: str) -> None:
    way_out = f"gitlab-mm restore {safety_set}" if safety_set else "restore another set"
    raise Failure("it was removed to free disk space (--in-place)", way_out)


def finish(site: Site, journal: Journal, *, keep: bool) -> list[str]:
    """Remove the previous live data after a complete restore, or keep it for ``prune``.

    Returns what could not be removed, as text; it is kept for ``prune`` too, since the restore is
    done.
    """
    record = journal.read()
    steps = record.finish if record else []
    problems = [] if keep else _remove(steps, site)
    try:
        if steps and (keep or problems):
            now = utc(datetime.now(timezone.utc))
            journal.keep([*journal.previous(), Previous(now, steps, site.kind.value)])
        journal.write({}, [], [])
    except Failure as failure:
        problems.append(str(failure))
    return [f"The previous state could not be removed: {problem}" for problem in problems]


def _remove(steps: Sequence[Step], site: Site) -> list[str]:
    """Run ``steps``; directories are removed while the server drops the database."""
    known = actions(site)
    databases = [step for step in steps if step.action == DROP]
    left = [step for step in steps if step.action != DROP]
    problems: list[str] = []

    def drop(name: str) -> None:
        connection.wait_for_server(site.database)
        with swap.dropped_beside(site.database, name):
            problems.extend(run(left, known))
            left.clear()

    problems += run(databases, {**known, DROP: drop})
    return problems + run(left, known)


@dataclass(frozen=True)
class RolledBack:
    """The live state after a rollback."""

    state: str  # "old", or "new" where only the cleanup of a restore was missing
    warnings: list[str]


def roll_back(site: Site, record: UnfinishedRestore, journal: Journal) -> RolledBack:
    """Undo an interrupted restore.

    A restore that was complete except for its cleanup is finished instead, because its previous
    state may be gone. Raises Failure with ExitCode.ATTENTION when some step could not be undone.
    """
    if record.finish:
        keep = bool(record.request.get("plan", {}).get("keep_previous"))
        return RolledBack("new", finish(site, journal, keep=keep))
    _end_leftovers(site)
    problems = run(reversed(record.undo), actions(site))
    if problems:
        raise Failure(
            "The restore could not be rolled back completely",
            "; ".join(problems),
            "Fix the above, then run gitlab-mm restore --rollback again.",
            ExitCode.ATTENTION,
        )
    journal.write({}, [], [])
    return RolledBack("old", [])


def _end_leftovers(site: Site) -> None:
    """End sessions of a killed run that are still active in the server."""
    connection.wait_for_server(site.database)
    swap.end_our_sessions(site.database)


def live_state_removed(journal: Journal) -> list[Step]:
    """Return the step of a failed restore with --in-place that says so; [] where there is none."""
    record = journal.read()
    return [step for step in record.undo if step.action == LIVE_STATE_REMOVED] if record else []


def take_over(site: Site, journal: Journal) -> list[Step]:
    """Clean up after a failed restore with --in-place, whose live data are gone.

    Returns the step that records this, for the next restore's journal; [] where there is none.
    Raises Failure when something cannot be cleaned up.
    """
    record, mourned = journal.read(), live_state_removed(journal)
    if record is None or not mourned:
        return []
    _end_leftovers(site)
    rest = [step for step in record.undo if step.action != LIVE_STATE_REMOVED and not step.last]
    problems = run(reversed(rest), actions(site))
    if problems:
        raise Failure(
            "The failed restore could not be cleaned up",
            "; ".join(problems),
            "Fix the above, then try again.",
            ExitCode.ATTENTION,
        )
    journal.write(record.request, mourned, [])
    return mourned


def unfinished(journal: Journal) -> UnfinishedRestore:
    """Return the interrupted restore; raises Failure where there is none."""
    record = journal.read()
    if record is None:
        raise Failure("No interrupted restore", "there is nothing to roll back", "", ExitCode.USAGE)
    return record


def refuse_unfinished(journal: Journal) -> None:
    """Raise Failure after an interrupted restore: nothing may build on its incomplete state."""
    record = journal.read()
    if live_state_removed(journal):
        raise Failure(
            "A failed restore with --in-place has removed the live state",
            f"its journal is {journal.path}",
            "Restore a set; gitlab-mm list shows all, safety sets included.",
            ExitCode.ATTENTION,
        )
    if record is not None:
        raise Failure(
            "A restore was interrupted; finish it or roll it back first",
            f"its journal is {journal.path}",
            "Run gitlab-mm restore --rollback (the old state) or --continue (the set's).",
            ExitCode.ATTENTION,
        )


def drop_previous(journal: Journal, older_than: timedelta) -> list[str]:
    """Remove kept previous states that are old enough; return problems as text."""
    now = datetime.now(timezone.utc)
    kept, problems = [], []
    for state in journal.previous():
        wrong = None
        if now - state.moment >= older_than:
            wrong = run(state.steps, actions(detect.find(state.site, config_required=False)))
        problems += wrong or []
        if wrong is None or wrong:
            kept.append(state)
    journal.keep(kept)
    return problems


def prune_previous(keep_time: timedelta | None, *, all_: bool = False) -> list[str]:
    """Remove the states kept by --keep-previous, by keep time or all; return problems as text."""
    journal = Journal()
    if not journal.previous() or (keep_time is None and not all_):
        return []
    return drop_previous(journal, timedelta() if all_ else keep_time or timedelta())
