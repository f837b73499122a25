"""Write the parts of a set: folders (tar or restic), and Mattermost's settings."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config.settings import Settings
from ..errors import Failure
from ..mattermost import json_file
from ..mattermost.site import Kind, Site
from ..store import archive_writer
from ..store.file_list import Shifted
from ..store.frames import INDEX, Take
from ..store.local import PartWriter
from ..store.manifest import Part
from ..store.restic_store import ResticStore
from ..store.sets import BackupSet
from ..system.process import compress
from . import incremental, targets
from .incremental import Packed

log = logging.getLogger(__name__)


def pack(
    settings: Settings,
    path: Path,
    found: archive_writer.Survey,
    excluded: Sequence[Path] = (),
    expected: int | None = None,
    instead: Mapping[Path, Path] | None = None,
    index: Take = lambda record: None,
) -> tuple[Part, archive_writer.Contents]:
    """Write the folders of a survey as a part; ``instead`` are files that replace excluded links.

    ``index`` gets the records of its index.
    """
    writer = PartWriter(path)
    compressor = compress(settings.files_level, settings.packers)
    with tempfile.TemporaryDirectory(dir=path.parent) as copies:
        names = list(targets.copy(instead or {}, Path(copies)))
        taken = (Path(copies), names) if names else None
        contents = archive_writer.pack(
            found.folders, excluded, found, compressor, writer.write, expected, taken, index
        )
    return writer.finish("tar, zstd"), contents


def whole(
    settings: Settings,
    expected: int | None,
    staging: Path,
    found: archive_writer.Survey,
) -> Packed:
    """Write all files as one archive; ``expected`` is the estimated size."""
    path = staging / "files.tar.zst"
    with tempfile.TemporaryFile(dir=staging) as index:
        part, contents = pack(settings, path, found, expected=expected, index=index.write)
        indexed = incremental.keep(settings, staging / "files.index.zst", index)
    return Packed({"files": part, INDEX: indexed}, contents)


def changes(
    settings: Settings,
    base: BackupSet | None,
    staging: Path,
    found: archive_writer.Survey,
) -> Packed:
    """Write the changes since ``base``; all files where directories change too quickly for that."""
    try:
        return incremental.pack(settings, base, staging, found)
    except Shifted as shifted:
        log.info("Packing all files, for no other set to build on: %s", shifted)
        (staging / "files.tar.zst").unlink()
        return whole(settings, None, staging, found)


def keep(
    store: ResticStore,
    staging: Path,
    found: archive_writer.Survey,
) -> Packed:
    """Store the folders with restic."""
    part, taken = store.keep_folders(
        staging, archive_writer.outermost(found.folders), found.left_out
    )
    # Unlike tar, restic does not list what it packs: what is unusual may have come meanwhile.
    found.add(archive_writer.survey(found.folders))
    return Packed({"files": part}, archive_writer.Contents(taken.files, taken.bytes))


def gitlab_settings(site: Site) -> tuple[list[Path], list[Path]]:
    """Return what to pack of /etc/gitlab, and what not.

    Nothing for a standalone Mattermost, even where it shares a host with GitLab.
    """
    if site.kind is not Kind.OMNIBUS:
        return [], []
    etc = site.below_root("/etc/gitlab")
    return [etc], [etc / "config_backup"]


def pack_gitlab_settings(
    site: Site, settings: Settings, staging: Path
) -> tuple[dict[str, Part], list[archive_writer.Survey]]:
    """Write /etc/gitlab, with root's files in place of links to them."""
    etc, excluded = gitlab_settings(site)
    if not etc:
        return {}, []
    found, path = archive_writer.survey(etc), staging / "etc-gitlab.tar.zst"
    instead = targets.find(etc[0], found)
    left = targets.without(found, instead).links_out
    excluded += [Path(link) for link in found.links_out if link not in left]
    part, _ = pack(settings, path, found, excluded, instead=instead)
    return {"etc-gitlab": part}, [targets.without(found, instead)]


def pack_settings(site: Site, path: Path) -> Part:
    """Write settings.json with its secrets: the set is for root only, as GitLab's own files are."""
    writer = PartWriter(path)
    writer.write(settings_of(site))
    return writer.finish("json")


def settings_of(site: Site) -> bytes:
    """Return the content of settings.json."""
    document: dict[str, Any] = {
        "environment_folder": str(site.environment_folder or ""),
        "environment": {name: value.reveal() for name, value in site.environment.items()},
        "config": _config(site),
        "effective": site.settings.tree,
    }
    text = json.dumps(document, indent=2, ensure_ascii=False)
    return f"{text}\n".encode(errors="backslashreplace")


def _config(site: Site) -> Mapping[str, Any]:
    """Return the content of config.json; a salvage goes on without it."""
    try:
        document: Mapping[str, Any] = json_file.read_config(site.config_file).document
        return document
    except Failure:
        if site.missing is None:
            raise
        return {}
