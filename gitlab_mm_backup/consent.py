"""The operator's consent to a restore."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from . import ending, preview, replacing
from .choice import Chosen
from .plan import Plan
from .site import Site
from .store.local import BackupSet


def given(options: dict[str, Any], set_: BackupSet, chosen: Chosen, site: Site, plan: Plan) -> Plan:
    """Have the operator agree, and apart to live data in whose place the set has nothing.

    Returns the plan with that consent.  Raises Failure without it, before any of the set is
    fetched: --yes alone does not give it.
    """
    if options["dry_run"]:
        return plan
    if options["yes"]:
        replacing.refuse(set_, site, plan)
        return plan
    ending.ask(*preview.question(set_, site, plan, chosen))
    lost = replacing.unagreed(set_, site, plan)
    if lost:
        ending.ask(*preview.question_of_losses(lost))
    return replace(plan, replace_with_empty=plan.replace_with_empty or bool(lost))
