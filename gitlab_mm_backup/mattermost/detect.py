"""Find the Mattermost of this host, bundled or standalone."""

from __future__ import annotations

from pathlib import Path

from ..container import compose, engine, selection, view
from ..errors import Failure
from . import omnibus, omnibus_files, standalone
from .omnibus import Presence
from .site import Kind, Site

_ROOT = Path("/")


def reach(wanted: str = "") -> None:
    """See the files of the container that Mattermost runs in, where this host has none itself.

    ``wanted`` names a container, and then it is used in any case.
    """
    ours = omnibus.presence() is not Presence.NO_GITLAB or standalone.present()
    if wanted or (not ours and (engine.present() or view.marked())):
        selection.reach(wanted)
        if view.entered() is not None and compose.server() is None:
            view.mark(omnibus_files.gitlab_version(_ROOT))


def kind(root: Path = _ROOT) -> Kind:
    """Return the kind to use where none is given: that of a container, else an enabled bundled one."""
    if root == _ROOT and compose.server() is not None:
        return Kind.STANDALONE
    if omnibus.presence(root) is Presence.ENABLED or root != _ROOT:
        return Kind.OMNIBUS
    return Kind.STANDALONE if standalone.present() else Kind.OMNIBUS


def find(wanted: str = "", *, config_required: bool = True) -> Site:
    """Return the Mattermost of kind ``wanted``, "" for the default.

    Raises Failure as omnibus.find and standalone.find do.
    """
    if (Kind(wanted) if wanted else kind()) is Kind.STANDALONE:
        return standalone.find()
    return omnibus.find(config_required=config_required)


def find_any() -> Site | None:
    """Return the Mattermost of this host, None where there is none or it cannot be read."""
    try:
        return find(config_required=False)
    except Failure:
        return None


def again(site: Site) -> Site:
    """Return ``site``, read again."""
    return standalone.find() if site.kind is Kind.STANDALONE else omnibus.find(site.root)


def absent(root: Path = _ROOT) -> str:
    """Return why there is no usable Mattermost; "" where there is one."""
    found = omnibus.presence(root)
    ours = found is Presence.ENABLED or kind(root) is Kind.STANDALONE
    unreached = selection.missing() if found is Presence.NO_GITLAB else None
    return "" if ours else str(unreached or found.value)


def never_set_up() -> str:
    """Return why this host has nothing to back up; "" where a container is not reached."""
    return "" if selection.missing() is not None else absent()
