"""The verbs for what is outside this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ..errors import Failure
from ..offsite.sync import SyncResult
from ..result import CommandResult
from ..system import humanize
from .common import verb
from .output import Context

_CHECKS = {"pieces": "the hashes of their pieces", "read back": "all of them read again"}


def told_with_copies(
    outcome: CommandResult, served: Sequence[SyncResult], warnings: list[str]
) -> CommandResult:
    """Return the outcome of a backup with what became of its copies."""
    return replace(
        outcome,
        fields={**outcome.fields, "copies": copies_fields(served)},
        lines=outcome.lines + copies_lines(served),
        warnings=outcome.warnings + warnings,
    )


def offsite_result(served: Sequence[SyncResult], warnings: list[str]) -> CommandResult:
    """Tell of gitlab-mm offsite, which was asked for copies alone: without them it has failed."""
    told = copies_lines(served)
    if not served and not warnings:
        told = ["No place outside this machine is known: offsite in config.yml"]
    elif not told and not warnings:
        told = [f"All copies are there: {', '.join(one.remote.name for one in served)}"]
    error = Failure("Not all sets have their copies", "; ".join(warnings)) if warnings else None
    return CommandResult({"copies": copies_fields(served)}, told, error=error)


def copies_fields(served: Sequence[SyncResult]) -> list[dict[str, object]]:
    return [
        {
            "remote": one.remote.name,
            "encrypted": bool(one.remote.recipients),
            "copied": {
                name: {"bytes": there.bytes, "checks": list(there.checks)}
                for name, there in one.copied.items()
            },
            "removed": one.removed,
            "beyond_rules": one.staying,
            "problems": one.problems,
        }
        for one in served
    ]


def copies_lines(served: Sequence[SyncResult]) -> list[str]:
    told = []
    for one in served:
        for name, there in one.copied.items():
            how = ", ".join(_CHECKS.get(check, check) for check in there.checks)
            told.append(
                f"Copied {name} to {one.remote.name}: {humanize.size(there.bytes)}, checked by {how}"
            )
        told += [f"Removed {name} from {one.remote.name}" for name in one.removed]
        if one.staying:
            copies = humanize.number(one.staying, "copy", "copies")
            told.append(f"{copies} beyond the rules stay at {one.remote.name} (add_only)")
    return told


def from_elsewhere(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb the options that name a copy in place of a set."""
    place = click.option(
        "--from",
        "place",
        metavar="REMOTE",
        help="Take a copy: from a remote in config.yml, gitlab, nas:backups as rclone has it, "
        "restic:REPOSITORY, or a path.",
    )
    identity = click.option(
        "--identity",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="File with the private key that opens an encrypted copy.",
    )
    return place(identity(function))


def _key(place: str | None, identity: Path | None) -> Any:
    from ..offsite import age

    if identity is not None and place is None:
        raise click.UsageError("--identity opens copies: give --from as well.")
    return age.read_identity(identity) if identity is not None else None


def wanted(settings: Any, store: Any, plan: Any, name: str, want: Any) -> Any:
    """Return the set that a restore is to put back, of the store or from elsewhere."""
    from ..restore import source

    key = _key(plan.place or None, Path(plan.identity) if plan.identity else None)
    return source.find(settings, store, plan.place, name, key, want)


def wanted_again(settings: Any, store: Any, plan: Any, reference: str) -> Any:
    """Return the set of a restore that was cut short, by how its journal has it."""
    if "/" in reference:  # it had come to this host, whole
        plan = replace(plan, place="", identity="")
    return wanted(settings, store, plan, reference, _newest())


def _newest() -> Any:
    """Return what latest means to whoever only looks: the newest set, sound or not."""
    from ..backup import live
    from ..config import identity
    from ..mattermost import detect
    from ..restore.choice import Want

    return Want(
        identity.known(), identity.full_hostname(), live.look(detect.find_any()), sound=False
    )


@contextmanager
def looked_at(
    settings: Any, store: Any, place: str | None, wanted: str, identity: Path | None
) -> Iterator[Any]:
    """Have the set of the store, or a copy in scratch as long as it is looked at."""
    from ..offsite import download
    from ..restore import choice, offered, source

    key = _key(place, identity)
    if place is None:
        yield source.find(settings, store, "", wanted, None, _newest()).set
        return
    repository = source.store_elsewhere(settings, place, key)
    if repository is not None:
        if wanted == source.LATEST:
            found = offered.of_store(repository)
            wanted = choice.choose(found, _newest(), repository.where).name
        with repository.fetched(repository.find(wanted), settings.scratch_dir) as set_:
            yield set_
        return
    remote = download.place(settings, place)
    if wanted == source.LATEST:
        wanted = choice.choose(offered.of_remote(remote), _newest(), remote.name).name
    with download.fetched(remote, wanted, settings.scratch_dir, key) as set_:
        yield set_


@click.command()
@verb
def offsite(context: Context) -> CommandResult:
    """Copy finished sets to the places outside this machine, check them there, thin them out.

    A backup does it at its end; this does it now. What an interrupted run has brought there stays.
    """
    from ..backup import live
    from ..config import identity
    from ..mattermost import detect
    from ..offsite import sync
    from ..store import inventory
    from ..store.prune import Owner
    from ..system.lock import only_run

    context.load_everything()
    with only_run():
        ours, here = context.settings(), identity.own()
        owner = Owner(here, live.installation(detect.find_any(), here))
        return offsite_result(*sync.copy(ours, inventory.local_store(ours), owner))


def with_copies(made: CommandResult, settings: Any, owner: Any) -> CommandResult:
    """Copy the sets when a backup is made, and tell it with that."""
    from ..offsite import sync
    from ..store import inventory

    copied = sync.copy(settings, inventory.local_store(settings), owner, heed=True)
    return told_with_copies(made, *copied)
