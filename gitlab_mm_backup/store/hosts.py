"""Hosts: whose sets lie in the store, and which of them were this host's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..config import identity
from ..config.identity import Host
from ..errors import ExitCode, Failure
from . import lineage
from .inventory import Store

_FULL = re.compile(r"[0-9a-f]{32}")  # an id of ours
_FEWEST = 6  # digits of an id that name a host


@dataclass(frozen=True)
class Seen:
    """What a store holds of one host and installation."""

    host: str  # as identity.of_set has it
    name: str
    installation: str
    sets: int
    newest: str


def seen(store: Store) -> list[Seen]:
    """Return whose sets the store holds, those with the newest set first."""
    found: dict[lineage.Lineage, list[tuple[str, str]]] = {}
    for one in store.sets():
        found.setdefault(lineage.of(one.manifest), []).append((one.name, one.manifest.host))
    known = [
        Seen(key.host, max(sets)[1], key.installation, len(sets), max(sets)[0])
        for key, sets in found.items()
    ]
    known += [
        Seen(one.host, one.name, one.installation, one.sets, one.newest) for one in store.others()
    ]
    return sorted(known, key=lambda one: one.newest, reverse=True)


def undecided(here: Host, known: Sequence[Seen]) -> list[str]:
    """Return the hosts of which nobody has said whether this is one of them, without repetition."""
    found = [here.original] if here.original else []
    found += [one.host for one in known if not here.owns(one.host) and one.host not in here.others]
    return list(dict.fromkeys(found))


def kin(here: Host, known: Sequence[Seen]) -> list[Seen]:
    """Return the hosts in question that kept this installation, those with the newest set first.

    Of a host that knows no installation yet, each may be one.
    """
    open_ = undecided(here, known)
    wanted = ("", here.installation)
    return [
        one
        for one in known
        if one.host in open_ and (not here.installation or one.installation in wanted)
    ]


def take_over(here: Host, known: Sequence[Seen], wanted: str) -> tuple[Host, str]:
    """Have this host own the sets of the host ``wanted``; return it, and that host.

    It is named by its id, the first digits of that, or its name; "" is the only one in question.
    Raises Failure where that is none, or several.
    """
    open_ = undecided(here, known)
    only = [here.original] if here.original else open_
    found = _named(here, known, wanted) if wanted else only
    if len(found) != 1:
        raise Failure(
            f"{'Several hosts are' if found else 'No host is'} meant",
            ", ".join(map(identity.shown, found or open_)) or "there are no sets of another host",
            "gitlab-mm host shows them; give the id of one.",
            ExitCode.USAGE,
        )
    now = identity.with_taken_over(here, found[0])
    identity.keep(now)
    return now, found[0]


def _named(here: Host, known: Sequence[Seen], wanted: str) -> list[str]:
    """Return the hosts that ``wanted`` may mean; a whole id need not have sets here."""
    by_name = {one.host for one in known if wanted in (one.name, identity.shown(one.host))}
    ids = {*(one.host for one in known), here.original, *here.others}
    by_id = {one for one in ids if len(wanted) >= _FEWEST and one.startswith(wanted)}
    found = {one for one in by_id or by_name if not here.owns(one)}
    if not found and _FULL.fullmatch(wanted) and wanted != here.id:
        found = {wanted}
    return sorted(found)


def new(here: Host, known: Sequence[Seen]) -> tuple[Host, list[str]]:
    """Have this host be none of those in question; where there is none, it gets another id.

    Return it, and the hosts that it is not.
    """
    open_ = undecided(here, known)
    now = identity.apart(here, open_) if open_ else identity.renewed(here)
    identity.keep(now)
    return now, open_
