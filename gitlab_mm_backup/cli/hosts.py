"""The verbs that say which host this is."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import click

from ..config import identity
from ..config.identity import Host
from ..config.keys import Ring
from ..result import CommandResult
from ..store.inventory import SeenHost
from ..system import humanize
from .common import verb
from .output import Context


@click.group()
def place() -> None:
    """Places of sets and copies, which are known again by a mark."""


@place.command("forget")
@click.argument("wanted", metavar="PLACE")
@verb
def forget(context: Context, wanted: str) -> CommandResult:
    """Forget a place that was replaced or emptied on purpose; the next backup marks what is there now.

    PLACE is the folder of sets, the path of a remote, or its name. Sets and copies there stay.
    """
    from ..offsite import ledger
    from ..system.lock import only_run

    with only_run():
        path = ledger.forget_place(wanted)
    return CommandResult({"place": path}, [f"{path} is forgotten; the next backup marks it again"])


_SHOWN = 8  # digits of an id that tell it from others


def host_result(here: Host, known: Sequence[SeenHost], ring: Ring) -> CommandResult:
    """Tell which host this is, its key, and whose sets lie in the store."""
    lines = [f"This is host {here.id}"]
    lines.append(f"  Installation of Mattermost: {here.installation or 'not known yet'}")
    key = ring.own.fingerprint if ring.own else ""
    others = sorted(ring.trusted - {key})
    lines.append(f"  It signs its sets with key {key}")
    lines += [f"  It trusts sets that are signed with key {one}" for one in others]
    lines += [f"  It has the sets of {identity.shown(one)} too" for one in here.took_over]
    if here.original:
        lines += [
            f"  It came with the disk of host {here.original}, on another machine. Say which it is:",
            "    gitlab-mm host take-over    the same host, on other hardware",
            "    gitlab-mm host new          a copy of it",
        ]
    lines += [_line(one, here) for one in known] or ["There are no sets yet"]
    fields = {
        **_fields(here),
        "key": key,
        "trusted_keys": others,
        "hosts": [
            {
                "host": identity.shown(one.host),
                "name": one.name,
                "installation": one.installation or None,
                "sets": one.sets,
                "newest": one.newest,
                "own": here.owns(one.host),
            }
            for one in known
        ],
    }
    return CommandResult(fields, lines, answer=True)


def _fields(here: Host) -> dict[str, object]:
    return {
        "id": here.id,
        "installation": here.installation or None,
        "original": here.original or None,
        "took_over": [identity.shown(one) for one in here.took_over],
        "others": [identity.shown(one) for one in here.others],
    }


def _line(one: SeenHost, here: Host) -> str:
    whose = identity.shown(one.host) if identity.has_id(one.host) else "without an id"
    of = one.installation[:_SHOWN] or "not known"
    told = f"{humanize.number(one.sets, 'set')} of {one.name} ({whose}), installation {of}"
    told += f", the newest {one.newest}"
    if here.owns(one.host):
        return f"{told}: this host's"
    if one.host in here.others:
        return f"{told}: another host's"
    return f"{told}: not pruned here; gitlab-mm host take-over {_short(one.host)} if this was that host"


def _short(host: str) -> str:
    return host[:_SHOWN] if identity.has_id(host) else identity.shown(host)


def take_over_result(here: Host, former: str) -> CommandResult:
    """Tell whose sets are this host's from now on."""
    told = f"The sets of host {identity.shown(former)} are this host's: it prunes them as its own"
    return CommandResult({**_fields(here), "host": identity.shown(former)}, [told], answer=True)


def new_result(here: Host, not_this: Sequence[str]) -> CommandResult:
    """Tell which hosts this is not."""
    lines = [f"This is not host {identity.shown(one)}: its sets are left alone" for one in not_this]
    lines.append(f"This is host {here.id}")
    return CommandResult(_fields(here), lines, answer=True)


def trust_result(key: str) -> CommandResult:
    """Tell whose sets are accepted from now on."""
    return CommandResult(
        {"key": key}, [f"Sets that are signed with key {key} are authentic"], answer=True
    )


def distrust_result(key: str) -> CommandResult:
    """Tell whose sets are not accepted any more."""
    told = f"Key {key} is not trusted any more; what was restored or fetched stays"
    return CommandResult({"key": key}, [told], answer=True)


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
def host(context: Context) -> CommandResult:
    """Say which host this is, and whose sets lie here.

    A host is known by an id of its own, not by its name. It prunes its own sets alone. After a
    reinstall, and on a copy of a host, it is another one until somebody says whose sets are its.
    """
    from ..config import identity, keys
    from ..store import inventory

    here = identity.own()
    ring = keys.known(here.id)
    return host_result(here, inventory.seen(context.store()), ring)


@host.command("take-over")
@click.argument("wanted", metavar="[ID]", default="")
@verb
def take_over(context: Context, wanted: str) -> CommandResult:
    """Take the sets of another host for this one's: it was this host, before.

    They are used, and pruned, as its own from then on. ID is its id, the first digits of that, or
    its name; the only one in question unless it is given.
    """
    from ..config import identity
    from ..store import inventory
    from ..system.lock import only_run

    with only_run():
        here = identity.own()
        return take_over_result(*inventory.take_over(here, inventory.seen(context.store()), wanted))


@host.command("new")
@verb
def new(context: Context) -> CommandResult:
    """Say that this is none of the other hosts: a copy of one, or one that shares its place.

    Where no other host is in question, this one gets a new id.
    """
    from ..config import identity
    from ..store import inventory
    from ..system.lock import only_run

    with only_run():
        here = identity.own()
        return new_result(*inventory.new_identity(here, inventory.seen(context.store())))


@host.command("trust")
@click.argument("key", metavar="KEY")
@verb
def trust(context: Context, key: str) -> CommandResult:
    """Trust the sets that are signed with the key of another host.

    KEY is the key's fingerprint, as gitlab-mm recovery-kit and gitlab-mm host print it on that host.
    """
    from ..config import keys
    from ..system.lock import only_run

    with only_run():
        return trust_result(keys.trust_typed(key))


@host.command("distrust")
@click.argument("key", metavar="KEY")
@verb
def distrust(context: Context, key: str) -> CommandResult:
    """Trust the key of another host no more."""
    from ..config import keys
    from ..system.lock import only_run

    with only_run():
        return distrust_result(keys.distrust(key))
