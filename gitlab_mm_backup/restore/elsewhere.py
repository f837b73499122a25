"""``--from restic:REPOSITORY``: sets in a repository that this host does not back up to."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ..config import identity, keys
from ..config.schema import NO_PASSWORD
from ..config.settings import Restic, Settings
from ..errors import ExitCode, Failure
from ..offsite.download import refuse_without_room
from ..store.local import LocalStore
from ..store.restic_set import Kept, fetch
from ..store.restic_store import ResticStore
from ..store.sets import BackupSet
from ..system import environment
from ..system.redaction import Secret

_WORD = "restic"


def store(settings: Settings, place: str, key: Secret | None = None) -> ResticStore | None:
    """Return the repository that ``place`` means: restic:REPOSITORY, or restic for config.yml's.

    None for any other place.  How to open it comes from config.yml, and what that leaves open
    from the environment that restic itself would take it from.
    """
    word, _, there = place.partition(":")
    if word != _WORD:
        return None
    if key is not None:
        raise Failure(
            "--identity opens copies by rclone",
            "a repository of restic has a password",
            exit_code=ExitCode.USAGE,
        )
    if there and not re.fullmatch(NO_PASSWORD, there):
        raise Failure(
            "The address of the repository holds a password",
            "whoever looks at the list of processes could read it",
            "Put the address into RESTIC_REPOSITORY, and give --from restic.",
            ExitCode.USAGE,
        )
    given = environment.restic()
    access = _access(settings.restic, there, given)
    return ResticStore(access, identity.known(), environment=given)


def _access(known: Restic, there: str, given: Mapping[str, Secret]) -> Restic:
    """Return how to open the repository ``there``, "" for the one that is ``known``."""
    access = replace(known, repository=there or known.repository)
    if known.password_file is None and not known.password_command:
        file, command = given.get("RESTIC_PASSWORD_FILE"), given.get("RESTIC_PASSWORD_COMMAND")
        if file is not None:
            return replace(access, password_file=Path(file.reveal()))
        if command is not None:
            return replace(access, password_command=tuple(shlex.split(command.reveal())))
    return access


def bring(there: ResticStore, one: BackupSet, here: LocalStore) -> BackupSet:
    """Bring a set from a repository into the folder of sets ``here``, where it is not yet.

    Raises Failure when restic cannot read all of it: then ``here`` is as before.
    """
    assert isinstance(one.source, Kept)
    refuse_without_room(here, one.manifest.bytes)
    with here.create(one.name) as staging:
        parts, problems = fetch(one.source, staging)
        if problems:
            raise Failure(
                f"Set {one.name} cannot be read from {there.where}",
                "; ".join(problems),
                "Choose another set; restic check tells what is wrong with the repository.",
            )
        sign = keys.own(identity.own().id).sign  # whoever restores it has accepted it
        return here.complete(staging, replace(one.manifest, parts=parts), sign=sign)
