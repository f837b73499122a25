"""The live Mattermost: which installation it is, and whether anybody uses it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..config import identity
from ..config.identity import Host
from ..errors import Failure
from ..mattermost.site import Site
from ..postgresql import connection, contents
from ..store.manifest import Contents


@dataclass(frozen=True)
class Live:
    """What the database of this host's Mattermost says; nothing where it cannot be asked."""

    installation: str = ""
    contents: Contents | None = None

    @property
    def used(self) -> bool:
        return self.contents is not None and not self.contents.empty


def look(site: Site | None) -> Live:
    """Ask the database; one that is not there, or does not answer, says nothing."""
    if site is None:
        return Live()
    try:
        with connection.within(site.database) as session:
            return Live(contents.installation(session), contents.count(session))
    except Failure:
        return Live()


def installation(site: Site | None, host: Host) -> str:
    """Return the id of what is live, or of what this host had last where nobody answers."""
    return look(site).installation or host.installation


def note(host: Host, installation: str) -> Host:
    """Have this host remember which installation it has; raises Failure where it cannot."""
    if not installation or host.installation == installation:
        return host
    now = replace(host, installation=installation)
    identity.keep(now)
    return now
