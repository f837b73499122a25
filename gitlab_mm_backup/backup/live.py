"""The live Mattermost: its installation, and whether it is used."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..config import identity
from ..config.identity import Host
from ..errors import Failure
from ..mattermost.site import Site
from ..postgresql import connection, contents
from ..store.manifest import Contents
from ..system import progress

_ABSENT = "the database has no tables of Mattermost"
_UNEXPECTED = "its tables are not those of a known Mattermost"


@dataclass(frozen=True)
class Live:
    """Facts from the live database; all empty where it does not answer."""

    installation: str = ""
    contents: Contents | None = None
    trouble: str = ""  # why there are no contents, "" where there are
    in_use: bool = False  # known without its contents

    @property
    def used(self) -> bool:
        return self.in_use or (self.contents is not None and not self.contents.empty)


@progress.waiting("database")
def look(site: Site | None, *, counted: bool = True) -> Live:
    """Query the database; one that is missing or does not answer gives no facts.

    Counting takes long in a large database: without ``counted`` it is only known whether it is used.
    """
    if site is None:
        return Live()
    try:
        with connection.within(site.database) as session:
            installation = contents.installation(session)
            if not counted:
                return Live(installation, in_use=contents.in_use(session))
            people = contents.count(session)
            absent = "" if contents.present(session) else _ABSENT
    except Failure as failure:
        return Live(trouble=str(failure))
    if absent or people is None:
        return Live(installation, trouble=absent or _UNEXPECTED)
    return Live(installation, people)


def installation(site: Site | None, host: Host) -> str:
    """Return the id of the live installation, or this host's last one if it does not answer."""
    return look(site).installation or host.installation


def note(host: Host, installation: str) -> Host:
    """Record this host's installation; raises Failure where that fails."""
    if not installation or host.installation == installation:
        return host
    now = replace(host, installation=installation)
    identity.keep(now)
    return now
