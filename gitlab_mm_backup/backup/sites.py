"""Sites: which Mattermost of this host a set is made of."""

from __future__ import annotations

from ..mattermost import detect
from ..mattermost.site import Kind, Site
from ..store.local import LocalStore
from . import salvage


def here(store: LocalStore) -> Site:
    """Return this host's Mattermost, or what GitLab 19 left of it.  Raises Failure without either."""
    if detect.kind() is Kind.OMNIBUS and salvage.left():
        return salvage.find(salvage.kept_in(store.sets()))
    return detect.find()
