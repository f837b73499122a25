"""gitlab-mm offsite and recovery-kit, and the options --from and --identity of other verbs."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import Failure
from ..restore.plan import LATEST
from ..result import CommandResult
from ..system import humanize
from . import common
from .common import verb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..config.settings import Settings
    from ..offsite.recovery_kit import Kit
    from ..offsite.sync import SyncResult
    from ..restore.choice import Want
    from ..restore.plan import RestoreOptions
    from ..restore.source import RestoreSource
    from ..store.inventory import Store
    from ..store.manifest import Manifest
    from ..store.prune import Owner
    from ..store.sets import BackupSet
    from ..system.redaction import Secret
    from .output import Context

_CHECKS = {"pieces": "the hashes of their pieces", "read back": "all of them read again"}


def told_with_copies(
    outcome: CommandResult, served: Sequence[SyncResult], warnings: list[str]
) -> CommandResult:
    """Return the result of a backup with the result of its off-site copies added."""
    return replace(
        outcome,
        fields={**outcome.fields, "copies": copies_fields(served)},
        lines=outcome.lines + copies_lines(served),
        warnings=outcome.warnings + warnings,
    )


def offsite_result(served: Sequence[SyncResult], warnings: list[str]) -> CommandResult:
    """Return the result of gitlab-mm offsite; a missing copy makes it fail."""
    lines = copies_lines(served)
    if not served and not warnings:
        lines = ["No off-site copies are configured. Add `offsite:` to config.yml."]
    elif not lines and not warnings:
        lines = [f"All copies are up to date: {', '.join(result.remote.name for result in served)}"]
    error = Failure("Some sets have no off-site copy", "; ".join(warnings)) if warnings else None
    return CommandResult({"copies": copies_fields(served)}, lines, error=error)


def copies_fields(served: Sequence[SyncResult]) -> list[dict[str, object]]:
    return [
        {
            "remote": result.remote.name,
            "encrypted": bool(result.remote.recipients),
            "copied": {
                name: {"bytes": there.bytes, "checks": list(there.checks)}
                for name, there in result.copied.items()
            },
            "removed": result.removed,
            "beyond_rules": result.staying,
            "problems": result.problems,
        }
        for result in served
    ]


def copies_lines(served: Sequence[SyncResult]) -> list[str]:
    lines = []
    for result in served:
        for name, there in result.copied.items():
            how = ", ".join(_CHECKS.get(check, check) for check in there.checks)
            lines.append(
                f"Copied {name} to {result.remote.name}: {humanize.size(there.bytes)}, checked by {how}"
            )
        lines += [f"Removed {name} from {result.remote.name}" for name in result.removed]
        if result.staying:
            copies = humanize.number(result.staying, "copy", "copies")
            lines.append(f"{copies} beyond the rules stay at {result.remote.name} (add_only)")
    return lines


def from_elsewhere(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options --from and --identity to a verb."""
    place = click.option(
        "--from",
        "place",
        metavar="REMOTE",
        help="Use a copy from: a remote in config.yml, gitlab, an rclone remote (nas:backups), "
        "restic:REPOSITORY, or a path.",
    )
    identity = click.option(
        "--identity",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="File with the private key that decrypts the copy.",
    )
    return place(identity(function))


def _key(place: str | None, identity: Path | None) -> Secret | None:
    from ..offsite import age

    if identity is not None and place is None:
        raise click.UsageError("--identity needs --from.")
    return age.read_identity(identity) if identity is not None else None


def wanted(
    settings: Settings, store: Store, plan: RestoreOptions, name: str, want: Want
) -> RestoreSource:
    """Return the set to restore, from the store or from --from."""
    from ..restore import source

    key = _key(plan.place or None, Path(plan.identity) if plan.identity else None)
    return source.find(settings, store, plan.place, name, key, want)


def wanted_again(
    settings: Settings, store: Store, plan: RestoreOptions, reference: str
) -> RestoreSource:
    """Return the set of an interrupted restore, by the reference in its journal."""
    if "/" in reference:  # a path: the set is complete on this host
        plan = replace(plan, place="", identity="")
    return wanted(settings, store, plan, reference, _newest())


def _newest() -> Want:
    """Return the criteria of "latest" for verbs that only read: the newest set, sound or not."""
    from ..backup import live
    from ..config import identity
    from ..mattermost import detect
    from ..restore.choice import Want

    now = live.look(detect.find_any(), counted=False)
    return Want(identity.known(), identity.full_hostname(), now, sound=False)


@contextmanager
def looked_at(
    settings: Settings,
    store: Store,
    place: str | None,
    wanted: str,
    identity: Path | None,
    *,
    files: bool = True,
    messages: bool = True,
) -> Iterator[BackupSet]:
    """Yield a set of the store, or a copy in scratch that is removed afterwards.

    Without ``files`` those of a copy are not fetched: what is wanted of them is read in place.
    Without ``messages`` its dump is not, where its names do.
    """
    if place is None:
        _key(place, identity)
        yield _of_store(store, wanted)
        return
    with _copied(settings, place, wanted, identity, files, messages) as set_:
        yield set_


@contextmanager
def _copied(
    settings: Settings,
    place: str,
    wanted: str,
    identity: Path | None,
    files: bool,
    messages: bool,
) -> Iterator[BackupSet]:
    from ..offsite import copies, download
    from ..restore import choice, source
    from ..store.manifest import NAMES
    from ..store.restic_set import DATABASE, FILES

    def but(manifest: Manifest | None) -> list[str]:
        """Return the parts that are not fetched."""
        named = manifest is not None and NAMES in manifest.parts
        return [] if files else [FILES, *([DATABASE] if named and not messages else [])]

    key = _key(place, identity)
    scratch, repository = settings.scratch_dir, source.store_elsewhere(settings, place, key)
    if repository is not None:
        if wanted == LATEST:
            found = choice.of_store(repository)
            wanted = choice.choose(found, _newest(), repository.where).name
        chosen = repository.find(wanted)
        with repository.fetched(chosen, scratch, but(chosen.manifest)) as set_:
            yield set_
        return
    remote = download.place(settings, place)
    if wanted == LATEST:
        wanted = choice.choose(choice.of_remote(remote), _newest(), remote.name).name
    entry = copies.find(remote, wanted)
    if files:
        with download.fetched(remote, wanted, scratch, key) as set_:
            yield set_
        return
    download.refuse_locked(remote, entry, key)
    with download.streamed(remote, entry, scratch, key, but(entry.manifest)) as set_:
        yield set_


def _of_store(store: Store, wanted: str) -> BackupSet:
    if wanted != LATEST:
        return store.find(wanted)
    from ..restore import choice

    return store.named(choice.choose(choice.of_store(store), _newest(), store.where).name)


def names(settings: Settings, store: Store, place: str | None) -> list[str]:
    """Return the names of the complete sets in the store, or at ``place``, newest first."""
    from ..offsite import download
    from ..restore import choice, source

    if place is None:
        return [set_.name for set_ in store.sets()]
    repository = source.store_elsewhere(settings, place)
    found = (
        choice.of_store(repository)
        if repository is not None
        else choice.of_remote(download.place(settings, place))
    )
    return sorted((offer.name for offer in found if offer.manifest is not None), reverse=True)


@click.command()
@common.wait_option
@verb
def offsite(context: Context) -> CommandResult:
    """Copy finished sets to the off-site remotes, check the copies, and prune them.

    Each backup does this at its end. Data that an interrupted run has copied is not sent again.
    """
    from ..backup import live
    from ..config import identity
    from ..mattermost import detect
    from ..offsite import sync
    from ..store import inventory
    from ..store.prune import Owner

    context.load_everything()
    with context.only_run():
        ours, here = context.settings(), identity.own()
        owner = Owner(here, live.installation(detect.find_any(), here))
        return offsite_result(*sync.copy(ours, inventory.local_store(ours), owner))


def with_copies(made: CommandResult, settings: Settings, owner: Owner) -> CommandResult:
    """Copy the sets after a backup, and add the result of that to the result of the backup."""
    from ..offsite import sync
    from ..store import inventory

    copied = sync.copy(settings, inventory.local_store(settings), owner, heed=True)
    return told_with_copies(made, *copied)


def render_kit(made: Kit) -> bytes:
    """Return the page of the kit."""
    from ..health import html
    from ..offsite import recovery_kit

    versions = recovery_kit.versions(made)
    return html.render("offsite/kit.jinja", {}, made=made, versions=versions)


def write_kit(path: Path, made: Kit) -> Path:
    """Write the page of the kit, readable only by root; return its full path. Raises Failure."""
    from ..health import html

    return html.write(path, render_kit(made), "gitlab-mm recovery-kit FILE")


def kit_result(made: Kit, path: Path | None) -> CommandResult:
    """Return the kit, or the path of its page; the JSON fields contain no secrets."""
    from ..offsite import recovery_kit

    fields = {
        "path": str(path) if path else None,
        "places": [
            {
                "name": place.name,
                "path": place.path,
                "newest": place.newest or None,
                "sets": place.sets,
                "recipients": list(place.recipients),
            }
            for place in made.places
        ],
        "key": made.key or None,
        "needed": [{"what": item.what, "why": item.why} for item in made.needed],
        "versions": dict(made.versions),
        "editions": dict(made.editions),
        "package": made.held
        and {
            "version": made.held.package.version,
            "sha256": made.held.package.sha256,
            "places": list(made.held.places),
        },
        "steps": [{"title": step.title, "commands": list(step.commands)} for step in made.steps],
        "told": list(made.told),
    }
    lines = [str(path)] if path else recovery_kit.lines(made)
    return CommandResult(fields, lines, made.warnings, answer=True)


@click.command("kit")  # "command" in the JSON object; COMMANDS has the name that a user types
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option(
    "--with-secrets",
    is_flag=True,
    help="Include secrets. Store the output as securely as a password.",
)
@click.option(
    "--package",
    "deb",
    type=click.Path(path_type=Path),
    metavar="DEB",
    help="The package that this version was installed from, if this host does not have it any more.",
)
@verb
def kit(context: Context, file: Path | None, with_secrets: bool, deb: Path | None) -> CommandResult:
    """Show what is needed to restore Mattermost on an empty machine.

    It lists the places of the sets, the required keys and files, versions, and the commands. With
    FILE, it is written as an HTML page for printing. The package of this program is put next to the
    sets and copies.
    """
    from ..offsite import recovery_kit

    if with_secrets and context.as_json:
        raise click.UsageError("--with-secrets and --json exclude each other.")
    ours = context.settings()
    made = recovery_kit.kit(ours, context.store(), with_secrets=with_secrets, deb=deb)
    return kit_result(made, write_kit(file, made) if file is not None else None)
