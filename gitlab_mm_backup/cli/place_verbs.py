"""The verbs of gitlab-mm place."""

from __future__ import annotations

import click

from ..result import Outcome
from .common import verb
from .manner import Manner


@click.group()
def place() -> None:
    """Places of sets and copies, which are known again by a mark."""


@place.command("forget")
@click.argument("wanted", metavar="PLACE")
@verb
def forget(manner: Manner, wanted: str) -> Outcome:
    """Forget a place that was replaced or emptied on purpose; the next backup marks what is there now.

    PLACE is the folder of sets, the path of a remote, or its name. Sets and copies there stay.
    """
    from ..offsite import ledger
    from ..system.lock import only_run

    with only_run():
        path = ledger.forget_place(wanted)
    return Outcome({"place": path}, [f"{path} is forgotten; the next backup marks it again"])
