"""Preview: what a restore would do, without doing it."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from .. import clock
from ..backup.live import Live
from ..config.origin import Kind, Origin
from ..errors import Failure
from ..mattermost import json_file
from ..mattermost.effective_config import overlay
from ..mattermost.journal import Journal
from ..mattermost.site import Site
from ..postgresql import contents
from ..store import soundness
from ..store.manifest import Contents, Manifest
from ..store.sets import BackupSet
from ..system import humanize
from ..translation import _, local, plural
from . import (
    configuration,
    preflight,
    rollback,
    search_index,
    source,
    unpack,
    uploads_later,
)
from .earlier_uploads import Later
from .plan import RestoreOptions
from .replacing import Loss
from .source import RestoreSource

# Bytes a second on two small cores: index builds dominate a load.
_DATABASE_RATE = 20 << 20
_FILES_RATE = 100 << 20
_WITHOUT_SEARCH = 1 / 3  # of the time of a load (docs/restore.md)
_COLUMNS = 79  # a terminal of 80, without its last
_GAP = "  "
_UPLOADS = 3  # the row that a restore of the files alone has


@dataclass(frozen=True)
class Preview:
    """The plan of a restore."""

    set: BackupSet
    where: str  # the place that it is fetched from; "" where it is here
    steps: list[str]
    space: list[str]  # lines about disk space
    settings_changed: list[str]  # Section.Key
    patch: list[str]  # what is done to the set's config.json, nothing secret
    seconds: float  # a rough guess, by the sizes
    obstacle: str  # what would refuse it now, "" where nothing does
    warnings: list[str]

    @property
    def told(self) -> list[str]:
        """The warnings of the backup that made the set."""
        return list(self.set.manifest.told)


def preview(set_: BackupSet, wanted: RestoreSource, site: Site, plan: RestoreOptions) -> Preview:
    """Run all checks of a restore of ``wanted``, which is available as ``set_``; changes nothing."""
    obstacle, warnings, later = "", list[str](), None
    try:
        warnings, later = preflight.check(set_, site, plan)
    except Failure as failure:
        obstacle = str(failure)
    return Preview(
        set_,
        wanted.where,
        [*_fetching(wanted, site, plan, later), *_steps(set_, site, plan, later)],
        preflight.room(preflight.needs(set_, site, plan)),
        _settings_changed(set_, site) if "config" in plan.parts else [],
        _patch(set_, site) if "config" in plan.parts else [],
        _seconds(set_.manifest, plan),
        obstacle,
        warnings,
    )


def _seconds(
    manifest: Manifest, plan: RestoreOptions, *, search: bool = True, uploads: bool = True
) -> float:
    """Return about how long a restore takes.

    Without ``search`` and ``uploads``, without what comes after Mattermost's start.
    """
    seconds = 5.0
    if "database" in plan.parts:
        seconds += manifest.database.bytes / _DATABASE_RATE * (1 if search else _WITHOUT_SEARCH)
    if plan.with_folders and uploads:
        seconds += manifest.files.bytes / _FILES_RATE
    return seconds


def _fetching(
    wanted: RestoreSource, site: Site, plan: RestoreOptions, later: Later | None
) -> list[str]:
    if not wanted.where:
        return []
    step = f"fetch {humanize.size(wanted.set.manifest.bytes)} from {wanted.where}"
    if wanted.set.manifest.increment is not None:
        step += ", and the sets that it builds on"
    if later is not None and later.look.set.frames is not None:
        return [f"{step}, earlier uploads while Mattermost runs"]
    streamed = source.streams(wanted, site, plan) is not None
    return [step + (", its files while they are unpacked" if streamed else "")]


def _steps(set_: BackupSet, site: Site, plan: RestoreOptions, later: Later | None) -> list[str]:
    steps = ["make a safety set of the current state"] if plan.safety else []
    steps.append("stop Mattermost")
    if plan.in_place:
        steps.append("REMOVE the current state (in place)")
    if "database" in plan.parts:
        steps.append(f"load database {set_.manifest.database.name} next to {site.database.name}")
    works = unpack.works(set_, site, plan, "preview")
    steps += [f"make a new {work.live} next to the live one" for work in works.values()]
    steps.append("swap the new data with the live data")
    steps.append("run the post-restore hooks")
    steps.append("start Mattermost and wait until it answers")
    if "database" in plan.parts and search_index.waits(plan.search, set_.manifest):
        steps.append("build the search indexes while Mattermost runs")
    if later is not None:
        size = humanize.size(later.bytes)
        steps.append(f"unpack {size} of earlier uploads while Mattermost runs, newest first")
    steps.append("keep the present state" if plan.keep_previous else "remove the previous state")
    if configuration.wanted(set_, plan):
        steps.append("put back the configuration of gitlab-mm-backup, because this host has none")
    return steps


def _settings_changed(set_: BackupSet, site: Site) -> list[str]:
    """Compare the set's config.json with the live settings; the environment's values stay."""
    document = json_file.read(set_.file("settings")).document
    config = document.get("config")
    if not isinstance(config, dict):
        return []
    config = json_file.applied(config, configuration.operations(set_, site, config), "config.json")
    return overlay(config, site.environment).differences(site.settings)


def _patch(set_: BackupSet, site: Site) -> list[str]:
    config = json_file.read(set_.file("settings")).document.get("config")
    return (
        configuration.shown(configuration.operations(set_, site, config))
        if isinstance(config, dict)
        else []
    )


Question = tuple["list[str]", "list[str]", str]  # lines, lines of a loud warning, and what is asked


def question_of_losses(lost: Sequence[Loss]) -> Question:
    """Return the question about live data that would be replaced with nothing."""
    words = [f"- {local(loss.words)}" for loss in lost]
    return [], [_("THIS REPLACES LIVE DATA WITH NOTHING:"), *words], _("Lose these data?")


def question_of_origin(name: str, origin: Origin) -> Question:
    """Return the question about a set from elsewhere whose origin is not proven."""
    if origin.kind is Kind.UNKNOWN:
        unknown = _(
            "Set {name} is signed with a key that this host does not know:\n  {key}\n"
            "The recovery kit of the host that made it has the fingerprint of its key."
        )
        loud = unknown.format(name=name, key=origin.key)
        return [], loud.split("\n"), _("Are the two fingerprints the same?")
    unsigned = _(
        "Set {name} is not signed: nothing proves who made it.\n"
        "Anyone who can write to its location may have put it there."
    )
    return [], unsigned.format(name=name).split("\n"), _("Restore it anyway?")


def question(wanted: RestoreSource, site: Site, plan: RestoreOptions, live: Live) -> Question:
    """Return the text and question before a restore: what is replaced, with what, at what cost."""
    manifest = wanted.set.manifest
    summary = _(
        "This replaces {parts} of Mattermost {version} on this host\n"
        "with set {name},\nmade {made} on {host}:\n{rows}, {files}."
    ).format(
        parts=", ".join(plan.parts),
        version=site.version,
        name=wanted.set.name,
        made=humanize.moment(manifest.made),
        host=manifest.host,
        rows=plural("{count} row", "{count} rows", manifest.rows),
        files=plural("{count} file", "{count} files", manifest.files.files),
    )
    lines = [*summary.split("\n"), *comparison(manifest, live, plan.parts)]
    lines += [_downtime(wanted, site, plan), *_safety(plan)]
    lines += [*wanted.chosen.notes, *soundness.caveat_lines(manifest.told)]
    if not plan.in_place:
        return lines, [*wanted.chosen.warnings], _("Continue?")
    loud = _(
        "IN PLACE: the current state is removed FIRST. If anything fails after that,\n"
        "Mattermost stays down until you restore a set."
    )
    return lines, loud.split("\n"), _("Remove the current state and continue?")


def _downtime(wanted: RestoreSource, site: Site, plan: RestoreOptions) -> str:
    manifest = wanted.set.manifest
    search = not search_index.waits(plan.search, manifest)
    streamed = source.streams(wanted, site, plan) is not None
    uploads = streamed or not uploads_later.may_wait(plan, manifest.files.bytes)
    time = humanize.duration(_seconds(manifest, plan, search=search, uploads=uploads))
    if not streamed:
        return _("Mattermost will be down for about {time}.").format(time=time)
    told = _("Mattermost will be down for about {time}, and while {size} are downloaded.")
    return told.format(time=time, size=humanize.size(manifest.bytes))


def _safety(plan: RestoreOptions) -> list[str]:
    """Return whether the live state is backed up first; none where an earlier restore removed it."""
    if rollback.live_state_removed(Journal()):
        return []
    if not plan.safety:
        return [_("NO safety backup of the live state is made (--no-safety-backup).")]
    return [_("A safety backup of the live state is made first.")]


def comparison(manifest: Manifest, live: Live, parts: Collection[str]) -> list[str]:
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
