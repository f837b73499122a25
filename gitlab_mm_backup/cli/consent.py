"""Confirm a restore, and refuse sets whose origin is not proven."""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

from ..config import keys
from ..config.origin import Kind, Origin
from ..errors import ExitCode, Failure
from ..restore import preview, replacing
from ..store import inventory
from . import terminal

if TYPE_CHECKING:
    from ..backup.live import Live
    from ..mattermost.site import Site
    from ..restore.plan import RestoreOptions
    from ..restore.source import RestoreSource
    from ..store.sets import BackupSet


def given(
    wanted: RestoreSource, site: Site, plan: RestoreOptions, live: Live, *, yes: bool, trusted: str
) -> RestoreOptions:
    """Ask the operator to confirm a restore, and separately to replace live data with nothing.

    Returns the plan with that consent.  Raises Failure without it, before any part of the set is
    fetched.  --yes does not confirm replacing live data with nothing.  The origin of the set with the
    name ``trusted`` need not be proven.
    """
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
