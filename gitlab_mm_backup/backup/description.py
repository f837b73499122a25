"""The manifest of a new set, from what was written and found."""

from __future__ import annotations

import grp
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from .. import clock, version
from ..config import identity
from ..errors import Failure
from ..mattermost.site import Site
from ..postgresql.catalog import Unread
from ..postgresql.contents import Upload
from ..postgresql.dump import DatabaseState
from ..sso import check
from ..store import archive_writer, manifest
from ..store.manifest import Credentials, Database, Manifest, Part
from ..store.properties import Properties
from ..store.soundness import INSTALLED, target_of
from ..system import disk_space, files, humanize, sandbox
from .attributes import Attributes
from .incremental import Packed

_BEGINNING = 100  # letters of a long path that are told
_SHOWN = 20  # links that are told one by one


@dataclass(frozen=True)
class Written:
    """The parts of a set, and what was found while writing them."""

    parts: Mapping[str, Part]
    database: Database
    roles: Mapping[str, str]  # Mattermost's folders that were packed, as a manifest has them
    installation: str
    people: manifest.Contents | None
    uploads: Sequence[Upload]  # some that the database names, to look for on the disk
    packed: Packed
    surveys: Sequence[archive_writer.Survey]
    unread: Sequence[Unread]  # what of the database could not be read
    attributes: Attributes
    properties: Properties  # of the database
    told: Sequence[str]  # what of the database no restore brings back as it was
    state: DatabaseState | None = None  # of the database, where it was asked for

    @property
    def links(self) -> dict[str, str]:
        return {link: to for survey in self.surveys for link, to in survey.links_out.items()}

    def _untaken(self) -> list[str]:
        """Return, as text, the links to files that are not in the set."""
        known = f"{self.roles['home']}/config.json"  # settings.json has what it says
        links = {link: to for link, to in self.links.items() if link != known and matters(link, to)}
        words = [
            f"{link!r} is a link to {to!r}, which is not in the set: replace the link by the files, or "
            "back up those files separately"
            for link, to in list(links.items())[:_SHOWN]
        ]
        more = len(links) - len(words)
        return words + ([f"{more} more links lead to what is not in the set"] if more else [])

    def _too_far(self) -> list[str]:
        far = [path for survey in self.surveys for path in survey.far]
        if not far:
            return []
        count = humanize.number(len(far), "path")
        return [
            f"{count} of more than {archive_writer.LONGEST} bytes, and what is below, are not in the set, such as "
            f"{far[0][:_BEGINNING] + '...'!r}: give the files a shorter path"
        ]

    def _ownerless(self) -> list[str]:
        """Return a warning about files without an owner, which another account may get elsewhere."""
        return [
            f"{survey.ownerless!r}, and maybe more, has an owner or a group that is a number without a name; on "
            "another host a restore gives it to the account with this number there. find -nouser -o -nogroup "
            "shows all, chown sets an owner"
            for survey in self.surveys
            if survey.ownerless
        ]

    @property
    def oddities(self) -> list[str]:
        special = [path for survey in self.surveys for path in survey.special]
        privileged = [path for survey in self.surveys for path in survey.privileged]
        words = [f"{path!r} is a device or pipe, and is not in the set" for path in special]
        words += self._too_far() + self._ownerless()
        words += [*map(str, self.unread), *self.told, *self.attributes.told, *self._untaken()]
        return words + [
            f"{path!r} has the set-user-id or set-group-id bit; a restore takes it away"
            for path in privileged
        ]


def matters(link: str, target: str) -> bool:
    """Tell whether data are lost with the target of a link that leads out of the set."""
    there = target_of(link, target)
    return not there.startswith(INSTALLED) and os.path.lexists(there)


def describe(
    site: Site, name: str, started: datetime, seconds: float, written: Written
) -> Manifest:
    """Return the manifest of a set, without the fields that the run itself adds."""
    return Manifest(
        name=name,
        tool=version.tool(),
        kind=site.kind.value,
        gitlab=site.gitlab.version,
        mattermost=site.version,
        host=identity.full_hostname(),
        started=clock.utc(started),
        seconds=round(seconds, 3),
        database=written.database,
        files=manifest.Files(
            folders=written.roles,
            account=_account(site),
            environment_folder=str(site.environment_folder or ""),
            files=written.packed.whole.files,
            bytes=written.packed.whole.size,
            filled=[role for role, path in written.roles.items() if files.filled(Path(path))],
            mounted=_mounted(site, written.roles),
        ),
        credentials=_credentials(site),
        parts=written.parts,
        links=written.links,
        salvaged=None if site.missing is None else tuple(site.missing),
        privileged=tuple(path for survey in written.surveys for path in survey.privileged),
        pipes=tuple(path for survey in written.surveys for path in survey.special),
        increment=written.packed.increment,
        installation=written.installation,
        contents=written.people,
        properties=written.properties,
        attributes=written.attributes.kept,
    )


def _mounted(site: Site, roles: Mapping[str, str]) -> list[str]:
    """Return the roles whose directory is a mount point; in a salvage's view all would be."""
    if site.missing is not None:
        return []
    return [role for role, path in roles.items() if disk_space.is_mount(Path(path))]


def _account(site: Site) -> manifest.FileOwner:
    """Return the account of the files; a salvage has ids where names are gone."""
    user, group = site.account.user, site.account.group
    uid = int(user) if user.isdecimal() else sandbox.account_entry(user).pw_uid
    try:
        gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise Failure(
            f"There is no group {group} on this host", hint="Run gitlab-ctl reconfigure."
        ) from None
    return manifest.FileOwner(user, group, uid, gid)


def _credentials(site: Site) -> Credentials:
    pair = check.effective_pair(site)
    return Credentials(pair.id if pair else "", check.accepted(site))
