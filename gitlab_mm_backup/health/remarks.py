"""Remarks on a set for lists: its host, its origin and its flaws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..config import identity
from ..config.identity import Host
from ..config.origin import Kind as OriginKind
from ..config.origin import Origin
from ..store import manifest as store_manifest
from ..store import soundness
from ..store.manifest import Manifest
from ..store.soundness import Flaw, Kind

_SHOWN = 8  # digits of an id
# Failed checks are shown with the check records.
_LISTED = (Kind.INCOMPLETE, Kind.EMPTIED, Kind.FUTURE, Kind.FORGED)


def of(manifest: Manifest, flaws: Sequence[Flaw], here: Host) -> list[str]:
    """Return the lines below a set in a list."""
    lines = [f"NOT SOUND: {flaw.words}" for flaw in flaws if flaw.kind in _LISTED]
    return lines + whose(manifest, here)


def whose(manifest: Manifest, here: Host) -> list[str]:
    """Return a line if a set is of another host or installation, else []."""
    host = store_manifest.host_of(manifest)
    if not here.owns(host):
        text = "without an id" if not identity.has_id(host) else host[:_SHOWN]
        return [f"of host {manifest.host} ({text}): not pruned here"]
    if here.installation and manifest.installation not in ("", here.installation):
        text = manifest.installation[:_SHOWN]
        return [f"of another installation, {text}: not pruned here"]
    return []


def origin_lines(origin: Origin | None) -> list[str]:
    """Return the line about the signature of a set; [] for a forged one, which is a flaw."""
    shown = origin is not None and origin.kind is not OriginKind.FORGED
    return [origin.words] if origin and shown else []


def origin_fields(origin: Origin | None) -> dict[str, Any]:
    """Return the JSON fields about the signature of a set."""
    return {
        "origin": origin and origin.kind.value,
        "key": (origin and origin.key) or None,
    }


def set_fields(manifest: Manifest) -> dict[str, Any]:
    """Return the JSON fields that a set has wherever sets are listed."""
    return {
        "made": manifest.started,
        "purpose": manifest.purpose,
        "told": list(manifest.told),
        "host": manifest.host,
        "gitlab": manifest.gitlab,
        "mattermost": manifest.mattermost,
        "rows": manifest.rows,
        "files": manifest.files.files,
    }


def fields(manifest: Manifest, flaws: Sequence[Flaw], here: Host) -> dict[str, Any]:
    """Return the JSON fields with the host, flaws and contents of a set."""
    people, own = manifest.contents, here.owns(store_manifest.host_of(manifest))
    return {
        "host_id": manifest.host_id or None,
        "installation": manifest.installation or None,
        "own": own,
        "counts": soundness.counts(manifest, flaws, own=own),
        "flaws": [{"kind": flaw.kind.value, "detail": flaw.words} for flaw in flaws],
        "contents": people
        and {
            "teams": people.teams,
            "users": people.users,
            "posts": people.posts,
            "uploads": people.uploads,
            "upload_bytes": people.upload_bytes,
            "last_post": people.last_post,
        },
    }
