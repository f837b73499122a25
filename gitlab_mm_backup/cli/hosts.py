"""The verbs that say which host this is."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from ..result import Outcome
from .common import verb
from .manner import Manner


def _alone(run: Callable[..., None]) -> Callable[..., None]:
    """Have the group itself be a verb where none of its own follows."""

    @functools.wraps(run)
    def call(**options: Any) -> None:
        if click.get_current_context().invoked_subcommand is None:
            run(**options)

    return call


@click.group(invoke_without_command=True)
@_alone
@verb
def host(manner: Manner) -> Outcome:
    """Say which host this is, and whose sets lie here.

    A host is known by an id of its own, not by its name. It prunes its own sets alone. After a
    reinstall, and on a copy of a host, it is another one until somebody says whose sets are its.
    """
    from ..config import identity, keys
    from ..store import inventory
    from . import hosts_outcomes

    here = identity.own()
    ring = keys.known(here.id)
    return hosts_outcomes.of_host(here, inventory.seen(manner.store()), ring)


@host.command("take-over")
@click.argument("wanted", metavar="[ID]", default="")
@verb
def take_over(manner: Manner, wanted: str) -> Outcome:
    """Take the sets of another host for this one's: it was this host, before.

    They are used, and pruned, as its own from then on. ID is its id, the first digits of that, or
    its name; the only one in question unless it is given.
    """
    from ..config import identity
    from ..store import inventory
    from ..system.lock import only_run
    from . import hosts_outcomes

    with only_run():
        here = identity.own()
        return hosts_outcomes.of_take_over(
            *inventory.take_over(here, inventory.seen(manner.store()), wanted)
        )


@host.command("new")
@verb
def new(manner: Manner) -> Outcome:
    """Say that this is none of the other hosts: a copy of one, or one that shares its place.

    Where no other host is in question, this one gets a new id.
    """
    from ..config import identity
    from ..store import inventory
    from ..system.lock import only_run
    from . import hosts_outcomes

    with only_run():
        here = identity.own()
        return hosts_outcomes.of_new(*inventory.new_identity(here, inventory.seen(manner.store())))


@host.command("trust")
@click.argument("key", metavar="KEY")
@verb
def trust(manner: Manner, key: str) -> Outcome:
    """Trust the sets that are signed with the key of another host.

    KEY is the key's fingerprint, as gitlab-mm kit and gitlab-mm host print it on that host.
    """
    from ..config import keys
    from ..system.lock import only_run
    from . import hosts_outcomes

    with only_run():
        return hosts_outcomes.of_trust(keys.trust_typed(key))


@host.command("distrust")
@click.argument("key", metavar="KEY")
@verb
def distrust(manner: Manner, key: str) -> Outcome:
    """Trust the key of another host no more."""
    from ..config import keys
    from ..system.lock import only_run
    from . import hosts_outcomes

    with only_run():
        return hosts_outcomes.of_distrust(keys.distrust(key))
