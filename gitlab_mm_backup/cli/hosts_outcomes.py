"""What the verbs about hosts say to a person and to a machine."""

from __future__ import annotations

from collections.abc import Sequence

from ..config import identity
from ..config.identity import Host
from ..config.keys import Ring
from ..result import Outcome
from ..store.inventory import Seen
from ..system import humanize

_SHOWN = 8  # digits of an id that tell it from others


def of_host(here: Host, known: Sequence[Seen], ring: Ring) -> Outcome:
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
    return Outcome(fields, lines, answer=True)


def _fields(here: Host) -> dict[str, object]:
    return {
        "id": here.id,
        "installation": here.installation or None,
        "original": here.original or None,
        "took_over": [identity.shown(one) for one in here.took_over],
        "others": [identity.shown(one) for one in here.others],
    }


def _line(one: Seen, here: Host) -> str:
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


def of_take_over(here: Host, former: str) -> Outcome:
    """Tell whose sets are this host's from now on."""
    told = f"The sets of host {identity.shown(former)} are this host's: it prunes them as its own"
    return Outcome({**_fields(here), "host": identity.shown(former)}, [told], answer=True)


def of_new(here: Host, not_this: Sequence[str]) -> Outcome:
    """Tell which hosts this is not."""
    lines = [f"This is not host {identity.shown(one)}: its sets are left alone" for one in not_this]
    lines.append(f"This is host {here.id}")
    return Outcome(_fields(here), lines, answer=True)


def of_trust(key: str) -> Outcome:
    """Tell whose sets are accepted from now on."""
    return Outcome(
        {"key": key}, [f"Sets that are signed with key {key} are authentic"], answer=True
    )


def of_distrust(key: str) -> Outcome:
    """Tell whose sets are not accepted any more."""
    told = f"Key {key} is not trusted any more; what was restored or fetched stays"
    return Outcome({"key": key}, [told], answer=True)
