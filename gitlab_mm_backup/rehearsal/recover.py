"""One thing of a set put back into the live Mattermost, and taken out of it again."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .. import clock
from ..backup import live
from ..errors import ExitCode, Failure, reason
from ..mattermost import owned_rows, staged_rows
from ..mattermost.owned_rows import CHANNEL, FILE, HOMES, POST, TEAM, USER, OwnedTable
from ..mattermost.site import Site
from ..mattermost.staged_rows import Wanted
from ..postgresql import connection, contents
from ..postgresql.contents import ask, named
from ..postgresql.scratch import WAYS
from ..restore import live_rows, preflight, undo_log
from ..restore.live_rows import Recovered
from ..restore.undo_log import RecoveryLog, RecoveryRecord
from ..store.sets import BackupSet
from ..system import humanize, sandbox
from . import directory, dump_rows, extraction
from .directory import Directory
from .dump_rows import Table
from .extraction import LiveFolder
from .output_folder import Asker

_ID = re.compile(r"[a-z0-9]{26}")  # of everything in Mattermost (model.NewId)
# As Mattermost has names of channels (model.IsValidChannelIdentifier).
_NAME = re.compile(r"[a-z0-9]+([a-z\-_0-9]+|(__)?)[a-z0-9]*")
_LONGEST_NAME = 64


@dataclass(frozen=True)
class Asked:
    """What to bring back, as it was typed."""

    kind: str
    name: str
    place: str = ""  # TEAM/NEW-CHANNEL, "" for its own


@dataclass
class Recovery:
    """What was done, or would be."""

    kind: str
    id: str
    name: str
    rows: Recovered
    folder: LiveFolder | None  # None where uploads are not on this host's disk
    absent: list[str]  # paths of files that were missing on the disk
    undo: Path | None = None
    missed: list[tuple[str, int, str]] = field(default_factory=list)  # table, rows, why
    missing: list[str] = field(default_factory=list)  # paths of uploads that the set lacks
    warnings: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        return self.undo is not None


def recover(
    set_: BackupSet, site: Site, asked: Asked, scratch: Path, *, dry_run: bool = False
) -> Recovery:
    """Put one thing of a set back into the live Mattermost.

    With ``dry_run`` all is done in a transaction that is rolled back, and no file is written.
    Raises Failure, with nothing changed, where the thing cannot come back.
    """
    preflight.refuse_recovery(set_, site)
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    names = directory.read(set_)
    id_ = _find(names, asked)
    tables = _tables(set_, site, asked.kind, id_)
    with _on_disk(scratch), contextlib.ExitStack() as opened:
        gathered = dump_rows.gather(
            set_,
            asked.kind,
            id_,
            tables,
            lambda: opened.enter_context(tempfile.TemporaryFile(dir=scratch)),
        )
        _refuse_missing(gathered, asked)
        place = _place(site, asked, id_)
        encoding = set_.manifest.database.encoding
        wanted = Wanted(asked.kind, id_, gathered.rows, encoding, place)
        job = _Job(set_, site, wanted, names)
        plan = job.rows(None)
        done = Recovery(asked.kind, id_, names.name_of(asked.kind, id_), plan, None, [])
        done.missed = [
            (name, rows, owned_rows.LEFT_OUT[name]) for name, rows in gathered.missed.items()
        ]
        done.warnings += _unknown(gathered)
        job.look_at_files(done)
        if not dry_run and (plan.rows or done.absent):
            job.carry_out(done)
    done.warnings += done.rows.warnings
    return done


@contextlib.contextmanager
def _on_disk(folder: Path) -> Iterator[None]:
    """Raise Failure where the rows of the set have no room in the scratch directory."""
    try:
        yield
    except OSError as error:
        raise Failure(f"{folder} cannot be written", reason(error), WAYS) from error


def _find(names: Directory, asked: Asked) -> str:
    """Return the id of a thing; raises Failure where the set has none or several."""
    if asked.kind in (TEAM, CHANNEL, USER):
        return names.id_of(asked.kind, asked.name)
    if not _ID.fullmatch(asked.name):
        raise Failure(
            f"{humanize.plain(asked.name)} is not the id of a {_WORDS[asked.kind]}",
            "an id has 26 letters and digits",
            "gitlab-mm find --json shows the ids of messages and uploads.",
            ExitCode.USAGE,
        )
    return asked.name


_WORDS = {POST: "message", FILE: "file", CHANNEL: "channel", TEAM: "team", USER: "user"}


def _tables(set_: BackupSet, site: Site, kind: str, id_: str) -> list[OwnedTable]:
    """Return the tables whose rows may come back.

    Of a user whose row is there, that is the account: what else was deleted since was no part of
    its deactivation.
    """
    tables = owned_rows.tables(set_.manifest.mattermost)
    if kind == USER and _is_live(site, kind, id_):
        return [table for table in tables if table.name in ("users", "bots")]
    return tables


def _is_live(site: Site, kind: str, id_: str) -> bool:
    with connection.within(site.database) as session:
        return bool(
            ask(session, "SELECT 1 FROM {home} WHERE id = %s", id_, home=named(HOMES[kind]))
        )


def _place(site: Site, asked: Asked, id_: str) -> dict[str, str]:
    """Return the new name and team of a channel; raises Failure where it cannot be there."""
    if not asked.place:
        return {}
    team, _, name = asked.place.partition("/")
    if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME or _ID.fullmatch(name):
        raise Failure(
            f"{humanize.plain(asked.place)} is not TEAM/NEW-CHANNEL",
            "the name of a channel has small letters, digits, - and _, as in its address",
            exit_code=ExitCode.USAGE,
        )
    with connection.within(site.database) as session:
        there = ask(session, "SELECT name, teamid FROM channels WHERE id = %s", id_)
        rows = ask(session, "SELECT id, deleteat > 0 FROM teams WHERE name = %s", team)
    if there and [(name, row[0]) for row in rows] != there:
        raise Failure(
            "The channel is still there, and keeps its name",
            f"its name is {humanize.plain(there[0][0])} now",
            "Leave out --as; a channel is renamed in Mattermost.",
            ExitCode.USAGE,
        )
    if not rows or rows[0][1]:
        shown, where = humanize.plain(team), "in Mattermost"
        raise Failure(
            f"The team {shown} is deleted {where}" if rows else f"There is no team {shown} {where}",
            hint=f"A team of the set comes back by: gitlab-mm recover SET --team {shown}",
            exit_code=ExitCode.USAGE,
        )
    return {"name": name, "teamid": rows[0][0]}


def _unknown(gathered: dump_rows.Gathered) -> list[str]:
    return [
        f"{humanize.plain(name)}: {humanize.number(rows, 'row')} with ids of it left out: the "
        "table is in no reviewed list of Mattermost's"
        for name, rows in gathered.unknown.items()
    ]


def _refuse_missing(gathered: dump_rows.Gathered, asked: Asked) -> None:
    if not any(rows.table.kind == asked.kind for rows in gathered.rows):
        raise Failure(
            f"The set has no {_WORDS[asked.kind]} {humanize.plain(asked.name)}",
            hint="gitlab-mm find --all --json shows which set has it.",
            exit_code=ExitCode.USAGE,
        )


@dataclass
class _Job:
    """A recovery: its rows in a transaction, and the files before it."""

    kept: BackupSet
    site: Site
    wanted: Wanted
    names: Directory

    def rows(self, log: RecoveryLog | None) -> Recovered:
        """Put the rows back; without ``log`` they are rolled back."""
        done = Recovered()
        with connection.transaction(self.site.database, keep=log is not None) as session:
            tables, problems = staged_rows.stage(session, self.wanted)
            left = staged_rows.leave_out(session, tables, self.wanted, self._had)
            done.warnings, done.partial = [*problems, *left], bool(left)
            live_rows.put_back(session, tables, self.wanted, done)
            if log is not None:
                transaction = str(ask(session, "SELECT txid_current()")[0][0])
                log.settle(done.inserted, done.digests, done.changes, transaction)
        return done

    def _had(self, asked: Mapping[str, Collection[str]]) -> dict[str, set[str]]:
        """Return which of the ids the set has."""
        known: dict[str, Collection[str]] = {
            TEAM: self.names.teams,
            CHANNEL: self.names.channels,
            USER: self.names.users,
        }
        found = {kind: set(ids) & set(known[kind]) for kind, ids in asked.items() if kind in known}
        rest = {kind: set(ids) for kind, ids in asked.items() if kind not in known and ids}

        def table(kind: str, ids: set[str]) -> Table:
            there = found.setdefault(kind, set())
            return Table(HOMES[kind], ("id",), lambda row: there.update(ids & {row[0] or ""}))

        if rest:
            dump_rows.read(self.kept, [table(kind, ids) for kind, ids in rest.items()])
        return found

    def look_at_files(self, done: Recovery) -> None:
        """Note which files are missing on the disk; raises Failure where they have no room."""
        if self.site.uncovered:
            if done.rows.uploads:
                done.warnings += self.site.uncovered
            return
        done.folder = _folder(self.site)
        path = done.folder.path
        done.absent = extraction.absent(self._paths(done.rows), done.folder)
        absent = set(done.absent)
        needed = sum(int(size or 0) for size, _, name, *_ in done.rows.uploads if name in absent)
        disk = os.statvfs(path)
        if needed > disk.f_bavail * disk.f_frsize:
            raise Failure(
                "Not enough disk space for the uploads",
                f"{humanize.size(needed)} are needed in {path}; nothing was changed",
            )

    def _paths(self, rows: Recovered) -> list[str]:
        """Return the paths of all files of the thing: uploads, their previews, and pictures."""
        found = [path for _, _, *paths in rows.uploads for path in paths if path]
        for kind, picture in owned_rows.PICTURES.items():
            found += [picture.format(id=key[0]) for key in rows.inserted.get(HOMES[kind], ())]
        return list(dict.fromkeys(found))

    def carry_out(self, done: Recovery) -> None:
        """Put the files back, then the rows; after a failure both are as before."""
        stamp = f"{clock.now():%Y%m%dT%H%M%S%fZ}"
        about = {"set": self.kept.name, "kind": done.kind, "id": done.id, "name": done.name}
        about["installation"] = self.kept.manifest.installation
        with RecoveryLog(undo_log.log_path(stamp), about) as log:
            try:
                if done.folder is not None:
                    done.folder.note = log.note
                    extraction.put_back(self.kept, self._paths(done.rows), done.folder)
                done.rows = self.rows(log)
            except BaseException as cause:
                record = undo_log.read_recovery(log.path)
                if not _backed_out(self.site, log.path, record):
                    raise _undecided(log.path) from cause
                raise
        if done.rows.rows or (done.folder and done.folder.written):
            done.undo = log.path
        else:
            log.remove()
        done.warnings += self._said_of_files(done)

    def _said_of_files(self, done: Recovery) -> list[str]:
        if done.folder is None:
            return []
        uploads = {path for _, _, *paths in done.rows.uploads for path in paths}
        done.missing = [path for path in done.folder.missing if path in uploads]
        return [
            *done.folder.problems,
            *(f"Not in the set: {humanize.plain(path)}" for path in done.missing),
            *(
                f"{humanize.plain(path)} has another content than in the set, and stays"
                for path in done.folder.differing
            ),
        ]


def _backed_out(site: Site, path: Path, record: RecoveryRecord) -> bool:
    """Remove the files and the log of a recovery that failed, unless its rows were committed.

    Returns whether it is as before then. A server that is gone cannot tell.
    """
    try:
        with connection.within(site.database) as session:
            if contents.committed(session, record.transaction) is not False:
                return False
    except Failure:
        if record.transaction:
            return False
    if not site.uncovered:
        extraction.take_away(_folder(site), record.files, record.directories)
    path.unlink(missing_ok=True)
    return True


def _undecided(path: Path) -> Failure:
    return Failure(
        "The recovery was interrupted while its rows were written",
        f"whether they are there is not known; the undo file is {path}",
        "Run the command again; or, to take it back: gitlab-mm recover --undo FILE.",
        ExitCode.ATTENTION,
    )


def resolve_interrupted(site: Site) -> tuple[list[str], list[Path]]:
    """Bring recoveries that were killed to an end; return how each ended, as text.

    One whose rows were not committed is as if it had never begun. The others stay: their undo files
    are returned, to be noted as finished once Mattermost has read its rows anew. Raises Failure while a transaction
    is not decided.
    """
    said, kept = [], []
    for path, record in undo_log.interrupted(live.look(site).installation):
        shown = humanize.plain(f"{record.about.get('kind', '')} {record.about.get('name', '')}")
        if _backed_out(site, path, record):
            said.append(f"An interrupted recovery of {shown} was taken back")
            continue
        with connection.within(site.database) as session:
            live_rows.refuse_undecided(session, record)
        kept.append(path)
        said.append(
            f"The recovery of {shown} was interrupted after its rows were written; to take it back: "
            f"gitlab-mm recover --undo {path}"
        )
    return said, kept


def _folder(site: Site) -> LiveFolder:
    """Return the live data directory."""
    folders, account = site.folders, sandbox.account_entry(site.account.user)
    path = folders.real.get("data", folders.home / "data")
    return LiveFolder(path, Asker(account.pw_uid, account.pw_gid), lambda _: None)


@dataclass
class Undone:
    """What an undo has taken back."""

    about: Mapping[str, str]
    rows: int
    files: int
    warnings: list[str]
    resumed: bool  # an earlier undo was killed: Mattermost may not know of the rows it removed


def undo(site: Site, path: Path) -> Undone:
    """Take back what a recovery did; raises Failure, with nothing changed, where that is in use."""
    record = undo_log.read_recovery(path)
    if not record.may_be_of(live.look(site).installation):
        raise Failure(
            "The undo file is of another Mattermost",
            f"its installation is {humanize.plain(record.about['installation'])}",
        )
    with connection.transaction(site.database, keep=True) as session:
        rows, told = live_rows.take_back(session, record)
        undo_log.note_state(path, "undoing")
    there: dict[str, str] = {}
    if record.files or record.directories:
        folder = _folder(site)
        there = {name: digest for name, digest in record.files.items() if folder.has(name)}
        told += extraction.take_away(folder, there, record.directories)
    return Undone(record.about, rows, len(there), told, record.undoing)
