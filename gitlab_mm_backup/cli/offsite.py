"""The verbs for what is outside this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ..result import Outcome
from .common import verb
from .manner import Manner


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
        with repository.fetched(repository.find(wanted), settings.rehearse_in) as set_:
            yield set_
        return
    remote = download.place(settings, place)
    if wanted == source.LATEST:
        wanted = choice.choose(offered.of_remote(remote), _newest(), remote.name).name
    with download.fetched(remote, wanted, settings.rehearse_in, key) as set_:
        yield set_


def listed(store: Any) -> Outcome:
    """Return the list of a store's sets, with all that is known of them."""
    from ..config import identity
    from ..restore import offered
    from ..store import check_records
    from . import outcomes

    known = {one.name: one for one in offered.of_store(store)}
    lines = [
        outcomes.Listed(
            one,
            check_records.of_set(one.set) if one.set else [],
            known[one.name].flaws if one.name in known else (),
            known[one.name].origin if one.name in known else None,
        )
        for one in store.entries()
    ]
    return outcomes.of_list(lines, store, identity.known())


def list_copies(settings: Any, place: str) -> Outcome:
    """Return what there is at a remote."""
    from ..config import identity
    from ..offsite import copies, download
    from ..restore import offered, source
    from . import offsite_outcomes

    repository = source.store_elsewhere(settings, place)
    if repository is not None:
        return with_places(listed(repository))
    remote = download.place(settings, place)
    entries = copies.entries(remote)
    known = {one.name: one for one in offered.of_copies(entries)}
    return offsite_outcomes.of_copies(remote, entries, known, identity.known())


@click.command()
@verb
def offsite(manner: Manner) -> Outcome:
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
    from . import offsite_outcomes

    manner.load_everything()
    with only_run():
        ours, here = manner.settings(), identity.own()
        owner = Owner(here, live.installation(detect.find_any(), here))
        return offsite_outcomes.of_offsite(*sync.copy(ours, inventory.local_store(ours), owner))


def with_copies(made: Outcome, settings: Any, owner: Any) -> Outcome:
    """Copy the sets when a backup is made, and tell it with that."""
    from ..offsite import sync
    from ..store import inventory
    from . import offsite_outcomes

    copied = sync.copy(settings, inventory.local_store(settings), owner, heed=True)
    return offsite_outcomes.with_copies(made, *copied)


def with_places(listed: Outcome) -> Outcome:
    """Tell the list of sets with where each has a copy."""
    from ..offsite import ledger
    from . import offsite_outcomes

    return offsite_outcomes.with_places(listed, ledger.by_set())


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option(
    "--with-secrets", is_flag=True, help="The keys as well; then keep it as you keep keys."
)
@verb
def kit(manner: Manner, file: Path | None, with_secrets: bool) -> Outcome:
    """Print what is needed to bring Mattermost back on an empty machine.

    Where sets are, which keys and files are needed, versions, and the commands. With FILE it is one
    HTML page, for paper.
    """
    from ..offsite import recovery_kit
    from . import kit_outcomes

    if with_secrets and manner.as_json:
        raise click.UsageError("--with-secrets is for paper: without --json.")
    ours = manner.settings()
    made = recovery_kit.kit(ours, manner.store(), with_secrets=with_secrets)
    return kit_outcomes.of_kit(made, kit_outcomes.write(file, made) if file is not None else None)
