"""Live data that a restore would replace with nothing: reported, and refused without consent."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ..errors import Failure
from ..mattermost.site import Site
from ..postgresql import connection
from ..store.manifest import Manifest
from ..store.sets import BackupSet
from ..system import files, humanize
from ..translation import Text, amount, phrase
from . import folder_swap, unpack
from .plan import RestoreOptions

OPTION = "--replace-with-empty"


@dataclass(frozen=True)
class Loss:
    """Live data of a kind that the set does not have."""

    part: str  # of the plan
    words: str


def refuse(set_: BackupSet, site: Site, plan: RestoreOptions) -> list[Loss]:
    """Raise Failure where live data would be lost without consent.

    Returns the losses that the operator has agreed to.
    """
    lost = losses(set_, site, plan)
    open_ = [loss for loss in lost if not _agreed(loss, plan)]
    if not open_:
        return lost
    only = " ".join(f"--only {part}" for part in dict.fromkeys(loss.part for loss in open_))
    raise Failure(
        "The restore would replace live data with nothing",
        "; ".join(loss.words for loss in open_),
        f"Choose another set (gitlab-mm list). To replace these data all the same, give {OPTION}, or name what is "
        f"to be replaced: {only}.",
    )


def unagreed(set_: BackupSet, site: Site, plan: RestoreOptions) -> list[Loss]:
    """Return the losses that the operator has not agreed to yet."""
    return [loss for loss in losses(set_, site, plan) if not _agreed(loss, plan)]


def losses(set_: BackupSet, site: Site, plan: RestoreOptions) -> list[Loss]:
    """Return the live data among the replaced parts that ``set_`` has nothing of."""
    lost = []
    if "database" in plan.parts and set_.manifest.empty:
        lost += _database(site)
    if plan.with_folders:
        lost += _directories(set_, site, plan)
    return lost


def lost_for_good(site: Site) -> list[str]:
    """Return, as text, parts of the live database that even the safety set does not hold."""
    try:
        return connection.lost_for_good(site.database)
    except Failure:
        return []  # there is no such database, or another check says why it does not answer


def _agreed(loss: Loss, plan: RestoreOptions) -> bool:
    return plan.replace_with_empty or loss.part in plan.named


def _database(site: Site) -> list[Loss]:
    try:
        teams, users = connection.count_people(site.database)
        post = connection.last_post(site.database)
    except Failure:
        return []  # there is no such database, or another check says why it does not answer
    if not (teams or users or post):
        return []
    people = {
        "teams": amount("{count} team", "{count} teams", teams),
        "users": amount("{count} user", "{count} users", users),
    }
    if post is None:
        words = phrase(
            "the database of the set is empty; the live one has {teams} and {users}", **people
        )
    else:
        words = phrase(
            "the database of the set is empty; the live one has {teams} and {users}, "
            "last post {last}",
            **people,
            last=humanize.moment(post),
        )
    return [Loss("database", words)]


def _directories(set_: BackupSet, site: Site, plan: RestoreOptions) -> list[Loss]:
    manifest, replaced = set_.manifest, unpack.works(set_, site, plan, "look").keys()
    own = folder_swap.exchanged(site.folders)
    return [
        Loss("files", _nothing(manifest, role, path))
        for role, path in site.folders.real.items()
        if not has(manifest, role) and _outer(path, own.items()) in replaced and files.filled(path)
    ]


def has(manifest: Manifest, role: str) -> bool:
    """Tell whether a set has files in the directory of ``role``, as far as its manifest shows."""
    known = manifest.files
    if known.filled is None:  # before format 3
        return role in known.folders and known.files > 0
    return role in known.folders and role in known.filled


def _nothing(manifest: Manifest, role: str, path: Path) -> Text:
    if role in manifest.files.folders:
        return phrase(
            "the set has an empty directory {role}; {path!r} holds files", role=role, path=str(path)
        )
    return phrase(
        "the set has no directory {role}; {path!r} holds files", role=role, path=str(path)
    )


def _outer(path: Path, own: Collection[tuple[str, Path]]) -> str:
    """Return the role whose exchange includes ``path``."""
    around = [(len(outer.parts), role) for role, outer in own if _in(path, outer)]
    return max(around)[1]


def _in(path: Path, outer: Path) -> bool:
    return path == outer or outer in path.parents
