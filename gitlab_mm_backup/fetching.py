"""Fetching a copy back: part by part, opened and checked on its way, into a store of this host."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from . import age, fog, process, rclone, remote_store, text
from . import remote as places
from .copies import CopiedPart
from .errors import ExitCode, Failure
from .manifest import Manifest, Part
from .process import Command
from .remote import GITLAB, Remote
from .remote_store import Entry
from .secret import Secret
from .sending import persist
from .settings import Settings
from .store.local import BackupSet, LocalStore
from .store.part import PartWriter

log = logging.getLogger(__name__)

_SPARE = 64 << 20  # bytes that must be left beside what is fetched
_LONGEST_CHAIN = 1000  # links; a manifest that names itself must not be followed for ever


def place(settings: Settings, wanted: str) -> Remote:
    """Return the remote that ``--from`` means: a name in config.yml, gitlab, or rclone's own.

    Raises Failure for what is none of these.
    """
    for one in settings.offsite:
        if one.name == wanted and one.name != GITLAB:
            return one
    if wanted == GITLAB:
        if settings.upload is None:
            raise Failure(
                "GitLab uploads its backups nowhere",
                "gitlab.yml has no backup.upload",
                "Name another place: a remote of rclone with a path, or an absolute path.",
                ExitCode.USAGE,
            )
        return fog.remote(settings.upload, rclone.version())
    try:
        return places.named(wanted)
    except ValueError as error:
        known = ", ".join([GITLAB, *(one.name for one in settings.offsite)])
        raise Failure(
            f"{wanted} is no place for copies",
            f"it {error}; config.yml and GitLab know: {known}",
            exit_code=ExitCode.USAGE,
        ) from None


def fetch(
    remote: Remote,
    wanted: str,
    store: LocalStore,
    identity: Secret | None,
    before: datetime | None = None,
) -> BackupSet:
    """Bring the copy of ``wanted`` into ``store``, with what it builds on.

    ``wanted`` is a name, or latest, which is the newest made ``before`` a moment.

    What is there already is not fetched.  Raises Failure when a copy is not what its manifest
    says: then the store is as before.
    """
    links = _chain(remote, remote_store.find(remote, wanted, before).name)
    missing = [one for one in links if held(store, _manifest(one)) is None]
    for one in missing:
        _refuse_locked(remote, one, identity)
    if missing:
        refuse_without_room(store, sum(_manifest(one).bytes for one in missing))
    for one in missing:
        log.info("Fetching %s from %s", one.name, remote.name)
        _fetch(remote, one, store, identity)
    return store.find(links[-1].name)


@contextlib.contextmanager
def fetched(
    remote: Remote, wanted: str, scratch: Path, identity: Secret | None
) -> Iterator[BackupSet]:
    """Have the copy of ``wanted`` in a folder of its own in ``scratch``, removed at the end."""
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".gitlab-mm-fetched-", dir=scratch))
    with process.removed_at_last(folder):
        yield fetch(remote, wanted, LocalStore(folder), identity)


def _chain(remote: Remote, wanted: str) -> list[Entry]:
    """Return the copy and all that it builds on, the base of all first."""
    links: list[Entry] = []
    while wanted and len(links) < _LONGEST_CHAIN:
        links.insert(0, remote_store.find(remote, wanted))
        increment = _manifest(links[0]).increment
        wanted = increment.base if increment else ""
    return links


def _manifest(one: Entry) -> Manifest:
    assert one.manifest is not None  # a copy that is found is complete
    return one.manifest


def held(store: LocalStore, wanted: Manifest, *, repacked: bool = False) -> BackupSet | None:
    """Return the very set that is here, None where there is none of its name.

    One that is ``repacked`` has its parts in other forms here.  Raises Failure when its name is
    another's here.
    """
    for entry in store.entries():
        if entry.name == wanted.name and entry.set is not None:
            here = entry.set.manifest
            if (replace(here, parts=wanted.parts) if repacked else here) == wanted:
                return entry.set
            raise Failure(f"{store.folder} has another set that is called {wanted.name}")
    return None


def _refuse_locked(remote: Remote, one: Entry, identity: Secret | None) -> None:
    if one.copy is not None and one.copy.recipients and identity is None:
        raise Failure(
            f"The copy of {one.name} at {remote.name} is encrypted",
            f"to {'; '.join(one.copy.recipients)}",
            "Give the file of a private key of one of these: --identity FILE",
            ExitCode.USAGE,
        )


def refuse_without_room(store: LocalStore, needed: int) -> None:
    """Raise Failure where ``needed`` bytes have no room in the folder of sets."""
    folder = next(path for path in (store.folder, *store.folder.parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    if free < needed + _SPARE:
        raise Failure(
            "There is no room for the copy here",
            f"{folder}: {text.size(needed + _SPARE)} needed, {text.size(free)} free",
            "Make room, or give another place (backup_path in /etc/gitlab-mm-backup/config.yml).",
        )


def _fetch(remote: Remote, one: Entry, store: LocalStore, identity: Secret | None) -> None:
    manifest, copy = _manifest(one), one.copy
    assert copy is not None
    locked, copied = (identity if copy.recipients else None), copy.parts
    with store.create(one.name) as staging:
        for name, part in manifest.parts.items():
            path = staging / part.file

            def bring(
                path: Path = path, part: Part = part, there: CopiedPart = copied[name]
            ) -> None:
                path.unlink(missing_ok=True)
                _bring(remote, one.name, there, path, part, locked)

            persist(remote, bring)
        store.complete(staging, manifest)


def _bring(
    remote: Remote, name: str, there: CopiedPart, path: Path, part: Part, identity: Secret | None
) -> None:
    """Fetch one part, and hold it against the manifest on its way."""
    commands: list[Command] = [rclone.read(remote, name, there.file)]
    if identity is not None:
        commands.append(age.decrypt(identity))
    writer, left = PartWriter(path), part.bytes
    what = f"{there.file} cannot be read from {remote.name}"

    def take(piece: memoryview) -> None:
        nonlocal left
        left -= len(piece)
        if left < 0:
            raise _damaged(remote, name, there, f"it has more than {part.bytes} bytes")
        writer.write(piece)

    try:
        with rclone.explained(remote, what), age.explained(there.file):
            process.pipeline(*commands, sink=take)
    finally:
        made = writer.finish(part.form)
    if (made.bytes, made.sha256) != (part.bytes, part.sha256):
        raise _damaged(remote, name, there, f"{made.bytes} bytes with another checksum")


def _damaged(remote: Remote, name: str, there: CopiedPart, detail: str) -> Failure:
    return Failure(
        f"The copy of {name} at {remote.name} is damaged",
        f"{there.file}: {detail}",
        "Nothing was changed. Choose another copy: gitlab-mm list --from",
    )
