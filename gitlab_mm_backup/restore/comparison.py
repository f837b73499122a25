"""Comparison: what the live Mattermost holds and what a set holds, side by side, for the prompt."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Sequence

from .. import clock
from ..backup.live import Live
from ..postgresql import contents
from ..store.manifest import Contents, Manifest
from ..system import humanize
from ..translation import _

_COLUMNS = 79  # a terminal of 80, without its last
_GAP = "  "
_UPLOADS = 3  # the row that a restore of the files alone has


def lines(manifest: Manifest, live: Live, parts: Collection[str]) -> list[str]:
    """Return a table of what people would miss, as far as ``parts`` replace it.

    Where the live state could not be read, the reason stands below.
    """
    names = (_("posts"), _("last post"), _("users"), _("uploads"))
    sides = (_cells(live.contents), _of_set(manifest))
    rows = [("", _("LIVE"), _("SET")), *zip(names, *sides)]
    if "database" not in parts:
        rows = [rows[0], rows[1 + _UPLOADS]] if "files" in parts else []
    widths = [max(map(humanize.width, column)) for column in zip(*rows)]
    table = [_GAP + _GAP.join(map(humanize.padded, row, widths)).rstrip() for row in rows]
    return table + (_why_unknown(live) if rows else [])


def _of_set(manifest: Manifest) -> Sequence[str]:
    """Return the cells of a set; an older one has the rows of its tables only."""
    if manifest.contents is not None:
        return _cells(manifest.contents)
    rough = contents.from_rows(manifest.database.rows)
    posts, users, uploads = (
        _("about {count}").format(count=humanize.grouped(count))
        for count in (rough.posts, rough.users, rough.uploads)
    )
    return posts, _("not known"), users, uploads


def _cells(found: Contents | None) -> Sequence[str]:
    if found is None:
        return (_("not known"),) * 4
    last = found.last_post and humanize.moment(clock.parse_moment(found.last_post))
    uploads = humanize.grouped(found.uploads)
    return (
        humanize.grouped(found.posts),
        last or (_("not known") if found.posts else _("none")),
        humanize.grouped(found.users),
        f"{uploads}, {humanize.size(found.upload_bytes)}" if found.uploads else uploads,
    )


def _why_unknown(live: Live) -> list[str]:
    if live.contents is not None:
        return []
    told = _("The live state is not known: {reason}").format(reason=humanize.plain(live.trouble))
    return textwrap.wrap(told, _COLUMNS - len(_GAP), break_on_hyphens=False)
