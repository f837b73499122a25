"""gitlab-mm host and place, and consent to restore a set, of which the origin is a part."""

from __future__ import annotations

import functools
import hashlib
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from ..config import identity, keys
from ..config.origin import Kind
from ..errors import ExitCode, Failure
from ..result import CommandResult
from ..store import inventory, manifest
from ..system import humanize
from . import common, terminal
from .common import verb

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..backup.live import Live
    from ..config.identity import Host
    from ..config.keys import Ring
    from ..config.origin import Origin
    from ..mattermost.site import Site
    from ..restore.plan import RestoreOptions
    from ..restore.source import RestoreSource
    from ..store.inventory import SeenHost
    from ..store.sets import BackupSet
    from .output import Context


@click.group(cls=common.Group)
def place() -> None:
    """Places of sets and copies; each is recognised by a mark file."""


@place.command("forget")
@click.argument("wanted", metavar="PLACE")
@verb
def forget(context: Context, wanted: str) -> CommandResult:
    """Forget a place that was replaced or emptied on purpose; the next backup marks it again.

    PLACE is the directory of the sets, or the path or name of a remote. Sets and copies there stay.
    """
    from ..offsite import ledger

    with context.only_run():
        path = ledger.forget_place(wanted)
    return CommandResult({"place": path}, [f"Forgot {path}; the next backup marks it again"])


_SHOWN = 8  # digits of an id


def host_result(here: Host, known: Sequence[SeenHost], ring: Ring) -> CommandResult:
    """Return which host this is, its key, and the hosts whose sets are in the store."""
    lines = [f"This is host {here.id}"]
    lines.append(f"  Installation of Mattermost: {here.installation or 'not known yet'}")
    key = ring.own.fingerprint if ring.own else ""
    others = sorted(ring.trusted - {key})
    lines.append(f"  Signs its sets with key {key}")
    lines += [f"  Trusts sets that are signed with key {key}" for key in others]
    lines += [f"  Owns the sets of {identity.shown(former)} too" for former in here.took_over]
    if here.original:
        lines += [
            f"  Its disk comes from host {here.original}, on another machine. Choose one:",
            "    gitlab-mm host take-over    if it is the same host on new hardware",
            "    gitlab-mm host new          if it is a copy of that host",
        ]
    lines += [_line(seen, here) for seen in known] or ["No sets yet"]
    fields = {
        **_fields(here),
        "key": key,
        "trusted_keys": others,
        "hosts": [
            {
                "host": identity.shown(seen.host),
                "name": seen.name,
                "installation": seen.installation or None,
                "sets": seen.sets,
                "newest": seen.newest,
                "own": here.owns(seen.host),
            }
            for seen in known
        ],
    }
    return CommandResult(fields, lines, answer=True)


def _fields(here: Host) -> dict[str, object]:
    return {
        "id": here.id,
        "installation": here.installation or None,
        "original": here.original or None,
        "took_over": [identity.shown(former) for former in here.took_over],
        "others": [identity.shown(other) for other in here.others],
    }


def _line(seen: SeenHost, here: Host) -> str:
    whose = identity.shown(seen.host) if identity.has_id(seen.host) else "without an id"
    of = seen.installation[:_SHOWN] or "not known"
    text = f"{humanize.number(seen.sets, 'set')} of {seen.name} ({whose}), installation {of}"
    text += f", the newest {seen.newest}"
    if here.owns(seen.host):
        return f"{text}: this host's"
    if seen.host in here.others:
        return f"{text}: another host's"
    return f"{text}: not pruned here; gitlab-mm host take-over {_short(seen.host)} if this was that host"


def _short(host: str) -> str:
    return host[:_SHOWN] if identity.has_id(host) else identity.shown(host)


def take_over_result(here: Host, former: str) -> CommandResult:
    """Return the result of taking over the sets of another host."""
    text = f"This host now owns the sets of host {identity.shown(former)}, and prunes them"
    return CommandResult({**_fields(here), "host": identity.shown(former)}, [text], answer=True)


def new_result(here: Host, not_this: Sequence[str]) -> CommandResult:
    """Return the hosts that this one is not, and its id."""
    lines = [
        f"This is not host {identity.shown(other)}: its sets are not pruned" for other in not_this
    ]
    lines.append(f"This is host {here.id}")
    return CommandResult(_fields(here), lines, answer=True)


def trust_result(key: str) -> CommandResult:
    """Return the key that is trusted now."""
    return CommandResult(
        {"key": key}, [f"Trusted: sets that are signed with key {key}"], answer=True
    )


def distrust_result(key: str) -> CommandResult:
    """Return the key that is no longer trusted."""
    text = f"Key {key} is no longer trusted; restored and fetched data stays"
    return CommandResult({"key": key}, [text], answer=True)


def _alone(run: Callable[..., None]) -> Callable[..., None]:
    """Make the group itself a verb if it is called without a subcommand."""

    @functools.wraps(run)
    def call(**options: object) -> None:
        if click.get_current_context().invoked_subcommand is None:
            run(**options)

    return call


def _seen(context: Context) -> list[SeenHost]:
    store = context.store()
    return inventory.seen(store.sets(), store.others())


@click.group(cls=common.Group, invoke_without_command=True)
@_alone
@verb
def host(context: Context) -> CommandResult:
    """Show which host this is, and the hosts whose sets are here.

    A host is identified by an id, not by its name. It prunes only its own sets. After a reinstall,
    and on a copy of a host, it is a new host until gitlab-mm host take-over assigns sets to it.
    """

    here = identity.own()
    ring = keys.known(here.id)
    return host_result(here, _seen(context), ring)


@host.command("take-over")
@click.argument("wanted", metavar="[ID]", default="")
@verb
def take_over(context: Context, wanted: str) -> CommandResult:
    """Take over the sets of a former host: this host owns and prunes them from then on.

    ID is the former host's id, its first digits, or its name. Without ID, the only host in question
    is taken.
    """
    with context.only_run():
        here = identity.own()
        return take_over_result(*inventory.take_over(here, _seen(context), wanted))


@host.command("new")
@verb
def new(context: Context) -> CommandResult:
    """Declare that this is none of the other hosts: it is a copy, or shares a backup place.

    If no other host is in question, this host gets a new id.
    """
    with context.only_run():
        here = identity.own()
        return new_result(*inventory.new_identity(here, _seen(context)))


@host.command("trust")
@click.argument("key", metavar="KEY")
@verb
def trust(context: Context, key: str) -> CommandResult:
    """Trust the sets that are signed with the key of another host.

    KEY is the key's fingerprint; gitlab-mm recovery-kit and gitlab-mm host on that host print it.
    """
    with context.only_run():
        return trust_result(keys.trust_typed(key))


@host.command("distrust")
@click.argument("key", metavar="KEY")
@verb
def distrust(context: Context, key: str) -> CommandResult:
    """Stop trusting the key of another host."""
    with context.only_run():
        return distrust_result(keys.distrust(key))


def agreed(
    wanted: RestoreSource, site: Site, plan: RestoreOptions, live: Live, *, yes: bool, trusted: str
) -> RestoreOptions:
    """Ask the operator to confirm a restore, and separately to replace live data with nothing.

    Returns the plan with that consent.  Raises Failure without it, before any part of the set is
    fetched.  --yes does not confirm replacing live data with nothing.  The origin of the set with the
    name ``trusted`` need not be proven.
    """
    from ..restore import preview, replacing

    set_, key = wanted.set, ""
    origin = inventory.origin_of(set_)
    if set_.name != trusted:
        key = _prove(set_, origin, asked=not yes and terminal.interactive())
    proven = set_.said is None or origin.proven or bool(key)
    plan = replace(plan, accepted=_identity(set_), proven=proven)
    if yes:
        replacing.refuse(set_, site, plan)
        return plan
    terminal.ask(*preview.question(wanted, site, plan, live))
    lost = replacing.unagreed(set_, site, plan)
    if lost:
        terminal.ask(*preview.question_of_losses(lost))
    if key:  # now: until the last answer nothing is changed
        keys.trust(key)
    return replace(plan, replace_with_empty=plan.replace_with_empty or bool(lost))


def refuse_unproven(set_: BackupSet, trusted: str) -> None:
    """Raise Failure for a set that a restore would not take without asking about its origin."""
    if set_.name != trusted:
        _prove(set_, inventory.origin_of(set_), asked=False)


def refuse_another(set_: BackupSet, plan: RestoreOptions) -> None:
    """Raise Failure if a continued restore would use another set than the confirmed one."""
    if plan.accepted != _identity(set_):
        _prove(set_, inventory.origin_of(set_), asked=False)


def _identity(set_: BackupSet) -> str:
    return hashlib.sha256(set_.documents.manifest).hexdigest()


def _prove(set_: BackupSet, origin: Origin, *, asked: bool) -> str:
    """Raise Failure for a forged set, and for a set from elsewhere whose origin is not proven.

    If the operator can be ``asked``, they compare an unknown key with the one in the recovery kit of
    the host that made the set. Returns the key to trust then, "" for none.
    """
    from ..restore import preview

    elsewhere = set_.said is not None
    if origin.kind is Kind.FORGED or (elsewhere and not origin.proven and not asked):
        raise _unproven(set_.name, origin)
    if not elsewhere or origin.proven:
        return ""
    terminal.ask(*preview.question_of_origin(set_.name, origin))
    return origin.key if origin.kind is Kind.UNKNOWN else ""


def _unproven(name: str, origin: Origin) -> Failure:
    name = shlex.quote(name)
    accept = f"To restore this set all the same: --trust-unsigned {name}"
    if origin.kind is Kind.UNKNOWN:
        accept = (
            "If the recovery kit of the host that made it has this key: gitlab-mm host trust "
            f"{origin.key}; then try again. {accept}"
        )
    return Failure(
        f"Nothing proves who made {name}"
        if origin.kind is not Kind.FORGED
        else f"{name} is forged",
        f"it is {origin.words}",
        accept,
        ExitCode.USAGE,
    )


def former_host(set_: BackupSet, here: Host) -> list[str]:
    """Return a note if a host made the set that may be this one before a reinstall, else []."""
    former = manifest.host_of(set_.manifest)
    if here.owns(former) or former in here.others:
        return []
    name = identity.shown(former)[:_SHOWN] if identity.has_id(former) else identity.shown(former)
    return [
        f"Sets of the former host ({set_.manifest.host}) are not pruned until you run: "
        f"gitlab-mm host take-over {name}"
    ]
