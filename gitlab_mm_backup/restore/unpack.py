"""The new folders of a restore, unpacked next to the live ones."""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pwd
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from ..backup import attributes, targets
from ..backup.attributes import Keeping
from ..config import identity
from ..errors import Failure
from ..mattermost import json_file
from ..mattermost.site import Site
from ..store import archive_reader, file_list, manifest, verify
from ..store.archive_reader import Portion
from ..store.file_list import LISTING
from ..store.manifest import FileOwner
from ..store.restic_set import BY_RESTIC
from ..store.sets import BackupSet
from ..store.verify import ETC
from ..system import process, sandbox
from ..system.disk_space import is_mount
from ..system.files import WORK, replace_file
from ..system.process import Command
from . import configuration
from .folder_swap import FolderMapping, exchanged, moves, work_folder, works_by_entries
from .plan import RestoreOptions


@dataclass(frozen=True)
class StagedFolder:
    """A folder to exchange, and its private work directory."""

    live: Path
    folder: Path

    @property
    def staged(self) -> Path:
        """Where the new folder is made: the folder itself, or the content for a mount point."""
        new = self.folder / "new"
        return new if works_by_entries(self.live, self.folder) else new / self.live.name


def previous(work: StagedFolder) -> Path:
    """Return the place of the previous live folder after the exchange."""
    old = work.folder / "old"
    return old if works_by_entries(work.live, work.folder) else old / work.live.name


def previous_data(site: Site, works: Mapping[str, StagedFolder]) -> Path:
    """Return the place of the previous data directory after the exchange."""
    data = site.folders.real["data"]
    by_live = {work.live: work for work in works.values()}
    around = next(path for path in (data, *data.parents) if path in by_live)
    return previous(by_live[around]) / data.relative_to(around)


def works(set_: BackupSet, site: Site, plan: RestoreOptions, token: str) -> dict[str, StagedFolder]:
    """Return the work for each folder that the plan restores, by role.

    ``config`` is config.json alone, ``etc`` is /etc/gitlab.
    """
    live: dict[str, Path] = {}
    if plan.with_folders:
        roles = {move.role for move in _moves(set_, site)}
        live = {role: path for role, path in exchanged(site.folders).items() if role in roles}
    elif "config" in plan.parts:
        live = {"config": site.folders.home / "config.json"}
    if plan.with_etc:
        etc = site.below_root(ETC)
        live["etc"] = Path(os.path.realpath(etc)) if is_mount(etc) else etc
    return {
        role: StagedFolder(path, work_folder(path, f"{token}-{role}"))
        for role, path in live.items()
    }


def unpack(
    set_: BackupSet,
    site: Site,
    plan: RestoreOptions,
    works: Mapping[str, StagedFolder],
    without: Mapping[str, Without] | None = None,
) -> list[str]:
    """Complete the new folders: the set's files, the host's own files, owners.

    ``without`` has what is left out of them, by the name of the set that holds it. Returns, as
    text, what this host cannot have of the set.
    """
    lines: list[str] = []
    if "home" in works:
        lines += _unpack_folders(set_, site, plan, works, without or {})
    elif "config" in works:
        source = f"{set_.manifest.files.folders['home']}/config.json"
        layers = _archives(set_, source)
        lines += _unpack_tree(layers, source, (), works["config"], works["config"].staged)
        lines += _keep_host_settings(set_, site, works["config"].staged)
    for role, work in works.items():
        if role == "etc":
            lines += _unpack_etc(set_, work)
        else:
            _give_to(site, set_, work.live, work.staged)
        if role in site.folders.shared:
            _keep_others(work)
    return list(dict.fromkeys(lines))


def _unpack_folders(
    set_: BackupSet,
    site: Site,
    plan: RestoreOptions,
    works: Mapping[str, StagedFolder],
    without: Mapping[str, Without],
) -> list[str]:
    lines = []
    for move in _moves(set_, site):
        layers = [archive.less(without) for archive in _archives(set_, move.source)]
        lines += _unpack_one(layers, move, works[move.role])
    home = works["home"].staged
    _keep_links(site, home)
    _keep_environment(site, home)
    if "config" in plan.parts:
        lines += _keep_host_settings(set_, site, home / "config.json")
    else:
        (home / "config.json").unlink(missing_ok=True)
        _copy(site.folders.home / "config.json", home / "config.json")
    return lines


def _unpack_etc(set_: BackupSet, work: StagedFolder) -> list[str]:
    """Make the new /etc/gitlab; GitLab's own backups of it, in no set, stay."""
    told = _unpack_tree([Archive(set_, "etc-gitlab")], ETC, (), work, work.staged)
    backups = work.live / "config_backup"
    told += targets.replaced(work.live, work.staged, backups)
    if backups.is_dir():
        _copy(backups, work.staged / "config_backup")
    return told


def _moves(set_: BackupSet, site: Site) -> list[FolderMapping]:
    manifest = set_.manifest.files
    never = [manifest.environment_folder] if manifest.environment_folder else []
    if set_.manifest.kind != site.kind.value:  # what the bundled program noted for itself
        never.append(f"{manifest.folders['home']}/VERSION")
    return moves(manifest.folders, site.folders, tuple(never))


class Without(NamedTuple):
    """What to leave out of a files part, and the portion that has the rest."""

    paths: Sequence[str]  # absolute, in the set
    portion: Portion


@dataclass(frozen=True)
class Archive:
    """A part of a set to unpack, without what is ``stale``: absolute paths of the set."""

    set: BackupSet
    part: str = "files"
    stale: Sequence[str] = ()
    portion: Portion | None = None  # of it; None: all

    def less(self, without: Mapping[str, Without]) -> Archive:
        """Return it without what is to be left out of its set."""
        left_out = without.get(self.set.name)
        if left_out is None:
            return self
        return replace(self, stale=[*self.stale, *left_out.paths], portion=left_out.portion)

    def unpack(
        self, folder: str, into: Path, excluded: Sequence[str], keeping: Keeping
    ) -> list[str]:
        """Unpack a folder of it; return, as text, what ``keeping`` cannot restore."""
        set_, never = self.set, [*excluded, *self.stale]
        stream, index = (set_.stream, set_.index) if self.part == "files" else (None, None)
        if set_.frames is not None and self.portion is not None:  # it is here
            stream = None
        strange = self._by_number and not identity.known().owns(manifest.host_of(set_.manifest))
        options = keeping.options(strange)
        if stream is None:
            warned = archive_reader.unpack(
                set_.file(self.part), folder, into, never, options, self.portion, index
            )
        else:
            warned = stream.read_by(
                lambda tar: archive_reader.unpack_as_it_comes(
                    lambda put: verify.pass_on(set_, tar, put), folder, into, never, options
                )
            )
        return keeping.told(set_.manifest.attributes, strange, warned)

    @property
    def _by_number(self) -> bool:
        """Tell whether access control lists have accounts by number: restic's, and a salvage's."""
        forms = (part.form for name, part in self.set.manifest.parts.items() if name == self.part)
        return self.set.manifest.salvaged is not None or not {*forms}.isdisjoint(BY_RESTIC)


def comes_once(set_: BackupSet, site: Site, plan: RestoreOptions) -> bool:
    """Tell whether this plan reads the files part at most once, from start to end."""
    return set_.base is None and len(_moves(set_, site) if plan.with_folders else ()) <= 1


def _archives(set_: BackupSet, source: str) -> list[Archive]:
    """Return the archives to unpack for ``source``, oldest first; each file is in one of them."""
    if set_.base is None:
        return [Archive(set_)]
    final, found = set_.file(LISTING), []
    for level, link in enumerate(set_.chain):
        stale, anything = file_list.stale(link.file(LISTING), final, level, source)
        if anything:
            found.append(Archive(link, stale=stale))
    return found


def upload_layers(set_: BackupSet) -> list[Archive]:
    """Return what the data directory is unpacked from, oldest first."""
    return _archives(set_, set_.manifest.files.folders["data"])


def unpack_uploads(
    set_: BackupSet,
    site: Site,
    layers: Sequence[Archive],
    portions: Mapping[str, Portion],
    into: Path,
) -> tuple[Path, list[str]]:
    """Unpack a part of the data directory into the empty private directory ``into``.

    ``portions`` has what to unpack, by the name of the set that has it. Returns the directory in
    ``into`` that stands for the site's data directory, and as ``unpack`` what this host cannot have.
    """
    source, live = set_.manifest.files.folders["data"], site.folders.real["data"]
    lines = list[str]()
    keeping = attributes.keeping(into, live)
    for layer in layers:
        if layer.set.name in portions:
            some = replace(layer, portion=portions[layer.set.name])
            lines += some.unpack(source, into, (), keeping)
    tree = into / Path(source).name
    _give_to(site, set_, live, tree)
    return tree, lines


def _unpack_one(layers: Sequence[Archive], move: FolderMapping, work: StagedFolder) -> list[str]:
    target = work.staged / move.below
    if os.path.islink(target):  # the set's home had a link here; this site has the folder
        target.unlink()
    target.parent.mkdir(parents=True, exist_ok=True)
    return _unpack_tree(layers, move.source, move.excluded, work, target)


def _unpack_tree(
    layers: Sequence[Archive],
    source: str,
    excluded: tuple[str, ...],
    work: StagedFolder,
    target: Path,
) -> list[str]:
    """Unpack ``source``, and rename it to its name only when it is complete."""
    unpacking = work.folder / "unpacking"
    unpacking.mkdir(mode=0o700)
    keeping = attributes.keeping(unpacking, work.live)
    lines = [
        words for layer in layers for words in layer.unpack(source, unpacking, excluded, keeping)
    ]
    unpacked = unpacking / Path(source).name
    if target == work.folder / "new":  # of such a folder the entries are exchanged
        for entry in unpacked.iterdir():
            os.rename(entry, target / entry.name)
    else:
        os.rename(unpacked, target)
    shutil.rmtree(unpacking)
    return lines


def _keep_links(site: Site, home: Path) -> None:
    """Create the links from this site's home to its folders elsewhere."""
    for role, path in site.folders.configured.items():
        if role != "home" and path.is_symlink() and site.folders.home in path.parents:
            link = home / path.relative_to(site.folders.home)
            if not os.path.lexists(link):
                link.symlink_to(os.readlink(path))


def _keep_environment(site: Site, home: Path) -> None:
    """Copy the host's environment folder if it is in the home (GitLab 10 to 11.5)."""
    folder = site.environment_folder
    if folder is not None and site.folders.home in folder.parents:
        _copy(folder, home / folder.relative_to(site.folders.home))


def _keep_host_settings(set_: BackupSet, site: Site, config: Path) -> list[str]:
    """Write this host's own settings into the new config.json, unless the environment has them."""
    lines = _put_in_place_of_link(set_, site, config) if config.is_symlink() else []
    if not config.is_file():
        raise Failure("The set holds no config.json", hint="Choose another set.")
    file = json_file.read_config(config)
    operations = configuration.operations(set_, site, file.document)
    if operations:
        json_file.write(config, json_file.apply(file, operations))
    return lines


def link_of_config(set_: BackupSet) -> list[str]:
    """Return a warning where config.json was a link out of the set's directories."""
    path = f"{set_.manifest.files.folders['home']}/config.json"
    to = set_.manifest.links.get(path)
    return [] if to is None else [_as_copy(to)]


def _as_copy(to: str) -> str:
    return (
        f"config.json was a link to {to!r}, and is a copy of what it led to when the set was made: "
        "create the link again if it is managed elsewhere"
    )


def _put_in_place_of_link(set_: BackupSet, site: Site, config: Path) -> list[str]:
    """Write config.json from the set's settings, where it was a link to a file that no set has."""
    to, owner = os.readlink(config), sandbox.account_entry(site.account.user)
    found = json_file.read(set_.file("settings")).document.get("config")
    if not isinstance(found, dict):
        return []
    config.unlink()
    data = json.dumps(found, indent=4, ensure_ascii=False).encode(errors="backslashreplace")
    replace_file(config, data + b"\n", owner.pw_uid, owner.pw_gid, 0o600)
    # A link out of the set's directories has been reported before the restore.
    return [] if link_of_config(set_) else [_as_copy(to)]


def _keep_others(work: StagedFolder) -> None:
    """Keep files of the program's package that are not in the set."""
    for entry in sorted(work.live.iterdir()) if work.live.is_dir() else []:
        kept = work.staged / entry.name
        if not os.path.lexists(kept) and not entry.name.startswith(WORK):
            _copy(entry, kept)


def _give_to(site: Site, set_: BackupSet, live: Path, tree: Path) -> None:
    """Give the files in ``tree`` to this site's account, where its name differs from the set's."""
    before = set_.manifest.files.account
    if set_.manifest.kind != site.kind.value:
        _give_all_to(site, live, tree)
        return
    if (before.user, before.group) == (site.account.user, site.account.group):
        return
    target = sandbox.account_entry(site.account.user)
    uid, gid = _ids_here(before)
    for folder, names, others in os.walk(tree):
        for path in (folder, *(os.path.join(folder, name) for name in (*names, *others))):
            status = os.lstat(path)
            os.chown(
                path,
                target.pw_uid if status.st_uid == uid else -1,
                target.pw_gid if status.st_gid == gid else -1,
                follow_symlinks=False,
            )


def _give_all_to(site: Site, live: Path, tree: Path) -> None:
    """Give all files to the site's account, with the modes of the live ones."""
    target = sandbox.account_entry(site.account.user)
    gid = grp.getgrnam(site.account.group).gr_gid
    for folder, _, names in os.walk(tree):
        for path in (folder, *(os.path.join(folder, name) for name in names)):
            os.chown(path, target.pw_uid, gid, follow_symlinks=False)
    for here, there in ((tree, live), *_same_config(live, tree)):
        if there.exists() and not here.is_symlink():
            status = there.stat()
            os.chown(here, status.st_uid, status.st_gid)
            os.chmod(here, status.st_mode & 0o7777)


def _same_config(live: Path, tree: Path) -> list[tuple[Path, Path]]:
    new = tree / "config.json"
    return [(new, live / "config.json")] if new.is_file() else []


def _ids_here(account: FileOwner) -> tuple[int, int]:
    """Return the ids that tar gave to the account's files: by name where it exists here."""
    uid, gid = account.uid, account.gid
    with contextlib.suppress(KeyError):
        uid = pwd.getpwnam(account.user).pw_uid
    with contextlib.suppress(KeyError):
        gid = grp.getgrnam(account.group).gr_gid
    return uid, gid


def _copy(source: Path, target: Path) -> None:
    process.run(Command(["cp", "--archive", "--", str(source), str(target)]))
