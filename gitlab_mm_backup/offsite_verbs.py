"""The verbs for what is outside this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from .console import verb
from .manner import Manner
from .outcome import Outcome


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
    from . import age

    if identity is not None and place is None:
        raise click.UsageError("--identity opens copies: give --from as well.")
    return age.read_identity(identity) if identity is not None else None


def wanted(settings: Any, store: Any, plan: Any, name: str, before: Any = None) -> Any:
    """Return the set that a restore is to put back, of the store or from elsewhere."""
    from . import arrival

    key = _key(plan.place or None, Path(plan.identity) if plan.identity else None)
    return arrival.find(settings, store, plan.place, name, key, before)


def wanted_again(settings: Any, store: Any, plan: Any, reference: str) -> Any:
    """Return the set of a restore that was cut short, by how its journal has it."""
    if "/" in reference:  # it had come to this host, whole
        plan = replace(plan, place="", identity="")
    return wanted(settings, store, plan, reference)


@contextmanager
def looked_at(
    settings: Any, store: Any, place: str | None, wanted: str, identity: Path | None
) -> Iterator[Any]:
    """Have the set of the store, or a copy in scratch as long as it is looked at."""
    from . import elsewhere, fetching

    key = _key(place, identity)
    if place is None:
        yield store.find(wanted)
        return
    repository = elsewhere.store(settings, place, key)
    if repository is not None:
        with repository.fetched(repository.find(wanted), settings.rehearse_in) as set_:
            yield set_
        return
    remote = fetching.place(settings, place)
    with fetching.fetched(remote, wanted, settings.rehearse_in, key) as set_:
        yield set_


def list_copies(settings: Any, place: str) -> Outcome:
    """Return what there is at a remote."""
    from . import elsewhere, fetching, remote_store
    from . import offsite_outcomes as outcomes
    from .outcomes import of_list

    repository = elsewhere.store(settings, place)
    if repository is not None:
        return with_places(of_list([(one, []) for one in repository.entries()], repository.where))
    remote = fetching.place(settings, place)
    return outcomes.of_copies(remote, remote_store.entries(remote))


@click.command()
@verb
def offsite(manner: Manner) -> Outcome:
    """Copy finished sets to the places outside this machine, check them there, thin them out.

    A backup does it at its end; this does it now. What an interrupted run has brought there stays.
    """
    from . import offsite as job
    from . import offsite_outcomes as outcomes
    from . import stores
    from .lock import only_run

    manner.load_everything()
    with only_run():
        ours = manner.settings()
        return outcomes.of_offsite(*job.copy(ours, stores.local(ours)))


def with_copies(made: Outcome, settings: Any) -> Outcome:
    """Copy the sets when a backup is made, and tell it with that."""
    from . import offsite as job
    from . import offsite_outcomes as outcomes
    from . import stores

    return outcomes.with_copies(made, *job.copy(settings, stores.local(settings), heed=True))


def with_places(listed: Outcome) -> Outcome:
    """Tell the list of sets with where each has a copy."""
    from . import copied
    from . import offsite_outcomes as outcomes

    return outcomes.with_places(listed, copied.by_set())


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
    from . import kit as job
    from . import kit_outcomes as outcomes

    if with_secrets and manner.as_json:
        raise click.UsageError("--with-secrets is for paper: without --json.")
    ours = manner.settings()
    made = job.kit(ours, manner.store(), with_secrets=with_secrets)
    return outcomes.of_kit(made, outcomes.write(file, made) if file is not None else None)
