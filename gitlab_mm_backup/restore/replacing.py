"""What a restore replaces: refused without consent, and what a move out of the bundle leaves to do."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import Failure
from ..mattermost import json_file
from ..mattermost.effective_config import EffectiveConfig
from ..mattermost.site import Kind, Site
from ..postgresql import connection
from ..sso import oauth
from ..sso.oauth import APPLICATION_NAME
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


def todo(set_: BackupSet, site: Site) -> list[str]:
    """Return the remaining tasks on GitLab's host; [] unless this moves out of the bundle."""
    if site.kind is not Kind.STANDALONE or set_.manifest.kind != Kind.OMNIBUS.value:
        return []
    url = _url(site)
    lines = [
        "On GitLab's host, in /etc/gitlab/gitlab.rb: remove every line that begins with mattermost "
        "(mattermost_external_url, mattermost['...'], mattermost_nginx['...'])",
        f"  and add: gitlab_rails['mattermost_host'] = {_ruby(url)}",
        "  then: gitlab-ctl reconfigure",
    ]
    if url != _url_before(set_):
        lines.append(f"In GitLab, Admin, Applications, {APPLICATION_NAME}: add these redirect URIs")
        lines += [f"  {uri}" for uri in oauth.redirect_uris(site)]
    else:
        host = urlsplit(url).hostname
        lines.append(
            f"Point the DNS name {host} to this host; GitLab's application needs no change"
        )
    return lines


def _ruby(text: str) -> str:
    """Return a literal for gitlab.rb, which root runs: Mattermost's account can change the address."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _url(site: Site) -> str:
    return site.settings.text("ServiceSettings", "SiteURL").rstrip("/")


def _url_before(set_: BackupSet) -> str:
    tree = json_file.read(set_.file("settings")).document.get("effective")
    settings = EffectiveConfig(tree if isinstance(tree, dict) else {})
    return settings.text("ServiceSettings", "SiteURL").rstrip("/")


def check_vacant(set_: BackupSet, site: Site, plan: RestoreOptions) -> None:
    """Raise Failure for the first obstacle; changes nothing."""
    if site.kind is Kind.OMNIBUS and set_.manifest.kind != site.kind.value:
        raise Failure(
            "The set is from a standalone Mattermost; this host has the one bundled with GitLab",
            "the bundled one cannot take its settings: its environment folder overrides them",
            "Restore it where Mattermost's own package is installed.",
        )
    if site.kind is Kind.STANDALONE and plan.with_etc:
        raise Failure(
            "/etc/gitlab is not restored on a standalone Mattermost",
            "it belongs to GitLab, on GitLab's host",
            "Run it without --with-etc.",
        )
    if "database" not in plan.parts:
        return
    if site.database.admin == site.database.owner:
        _refuse_weak_role(site)
    if set_.manifest.kind != site.kind.value and not plan.replace:
        _refuse_data(site)


def _refuse_weak_role(site: Site) -> None:
    """Raise Failure where Mattermost's role cannot create and rename databases.

    Where Mattermost's DataSource is the only login, its role makes the new database.
    """
    endpoint = site.database
    with connection.administering(endpoint) as session:
        row = session.execute(
            "SELECT rolsuper OR rolcreatedb, rolsuper OR NOT EXISTS (SELECT 1"
            " FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) %s"
            " AND NOT pg_catalog.pg_has_role(datdba, 'MEMBER'))"
            " FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) current_user",
            (endpoint.name,),
        ).fetchone()
    assert row is not None
    role, name = _quoted(endpoint.owner.role), _quoted(endpoint.name)
    missing = {
        f"ALTER ROLE {role} CREATEDB": row[0],
        f"ALTER DATABASE {name} OWNER TO {role}": row[1],
    }
    wanted = [statement for statement, there in missing.items() if not there]
    if wanted:
        raise Failure(
            f"Role {endpoint.owner.role} may not create and rename databases",
            "the set is loaded into a new database, which is then swapped with the live one by renaming",
            "As a superuser of that server: "
            + "; ".join(
                f"psql -p {endpoint.port} -c {shlex.quote(statement)}" for statement in wanted
            )
            + ". After the restore it can be taken back (NOCREATEDB).",
        )


def _refuse_data(site: Site) -> None:
    try:
        teams, users = connection.count_people(site.database)
    except Failure:
        return  # there is no such database yet; whatever else is wrong was found before
    if teams or users:
        raise Failure(
            "This Mattermost already holds data",
            f"its database {site.database.name} has {teams} teams and {users} users",
            "To replace them, give --replace; a safety set is made first.",
        )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
