"""Nights in a folder: sets of a tree made and restored as our jobs do it, without a database."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path

from gitlab_mm_backup.backup import incremental
from gitlab_mm_backup.config.settings import Settings
from gitlab_mm_backup.mattermost.effective_config import EffectiveConfig as Effective
from gitlab_mm_backup.mattermost.site import Account, Folders, GitLab, Kind, Site
from gitlab_mm_backup.postgresql.endpoint import Endpoint, Login
from gitlab_mm_backup.restore import folder_swap, unpack
from gitlab_mm_backup.restore.plan import RestoreOptions
from gitlab_mm_backup.restore.unpack import Without
from gitlab_mm_backup.store import archive_writer, file_list
from gitlab_mm_backup.store.local import LocalStore, PartWriter
from gitlab_mm_backup.store.sets import BackupSet
from gitlab_mm_backup.system import process
from tests.unit.helpers.builders import make_manifest

SETTINGS = Settings(Path("/unused"), None, files="incremental")


def seen_as_a_link(name: str) -> Callable[[file_list.ListingWriter, bytes], None]:
    """Return a Witness.add_line to which tar tells of the folder ``name`` as a link."""
    add_line = file_list.ListingWriter.add_line

    def told(self: file_list.ListingWriter, line: bytes) -> None:
        if line.startswith(b"d") and line.endswith(f'{name}/"\n'.encode()):
            line = b"l" + line[1:-3] + b'" -> "/etc"\n'
        add_line(self, line)

    return told


@dataclasses.dataclass
class House:
    """A Mattermost's home, which a test changes, and a store; each night makes a set."""

    home: Path
    store: LocalStore
    nights: int = 0

    @property
    def roles(self) -> dict[str, Path]:
        every = {"home": self.home, **{role: self.home / role for role in ("data", "plugins")}}
        return {role: path for role, path in every.items() if path.is_dir()}

    def night(self, base: BackupSet | None) -> BackupSet:
        """Make a set on top of ``base``."""
        name = f"{1795223600 + 86400 * self.nights}_2026_11_21_10.11.4"
        self.nights += 1
        places = list(self.roles.values())
        with self.store.create(name) as staging:
            found = archive_writer.survey(places)
            packed = incremental.pack(SETTINGS, base, staging, found)
            before = make_manifest(name=name)
            changed = functools.partial(dataclasses.replace, before)
            described = changed(
                parts={**packed.parts, "etc-gitlab": _etc(staging)},
                files=dataclasses.replace(
                    before.files,
                    folders={role: str(path) for role, path in self.roles.items()},
                    files=packed.whole.files,
                    bytes=packed.whole.size,
                ),
                links=found.links_out,
                privileged=tuple(found.privileged),
                pipes=tuple(found.special),
                increment=packed.increment,
            )
            return self.store.complete(staging, described, packed.base)

    def site(self, place: Path) -> Site:
        """Return a site whose home is in ``place``."""
        home = place / "mattermost"
        real = {"home": home, "data": home / "data", "plugins": home / "plugins"}
        login = Login("nobody")
        return Site(
            kind=Kind.OMNIBUS,
            version="10.11.4",
            account=Account("mattermost", "mattermost"),
            folders=Folders(real, real),
            config_file=home / "config.json",
            environment_folder=None,
            environment={},
            settings=Effective({}),
            database=Endpoint("/nowhere", 5432, "none", login, login),
            client_programs=Path("/usr/bin"),
            gitlab=GitLab("18.11.9", "", None),
        )

    def restore(
        self, set_: BackupSet, place: Path, without: Mapping[str, Without] | None = None
    ) -> Path:
        """Unpack the files of ``set_`` with the restore's own code; return the new home."""
        site, plan = self.site(place), RestoreOptions(parts=("files", "config"))
        works = unpack.works(set_, site, plan, "test")
        for work in works.values():
            folder_swap.make_work_folder(work.folder, work.live)
        unpack.unpack(set_, site, plan, works, without)
        return works["home"].staged


def _etc(staging: Path) -> object:
    writer = PartWriter(staging / "etc-gitlab.tar.zst")
    tar = process.Command(["tar", "--create", "--files-from=/dev/null"])
    process.pipeline(tar, process.compress(1, 1), sink=writer.write)
    return writer.finish("tar, zstd")
