"""The command line's part about sign-in through GitLab."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from ..result import Outcome
from .common import verb
from .manner import Manner


@click.group()
def sso() -> None:
    """Sign-in through GitLab: check it, mend it."""


_FROM = click.option(
    "--from",
    "named",
    multiple=True,
    metavar="SET|FOLDER",
    help="Look for credentials there too; may be repeated.",
)


@sso.command("check")
@_FROM
@verb
def sso_check(manner: Manner, named: tuple[str, ...]) -> Outcome:
    """Say whether GitLab accepts Mattermost's credentials, and if not, why."""
    from ..config import hooks
    from ..mattermost import detect
    from ..sso import check
    from . import sign_in_outcomes

    store = manner.store()
    return sign_in_outcomes.of_check(check.examine(detect.find(hooks.site_kind()), store, named))


@sso.command("repair")
@_FROM
@click.option("--rotate", is_flag=True, help="Where nothing fits: a new secret in GitLab's row.")
@click.option("--register", is_flag=True, help="Where nothing fits: a new application in GitLab.")
@click.option("--if-possible", is_flag=True, help="Where nothing fits: warn instead of failing.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be written.")
@click.option("--undo", is_flag=True, help="Put the files back as the last repair found them.")
@verb
def sso_repair(manner: Manner, undo: bool, **how: Any) -> Outcome:
    """Give Mattermost the credentials that GitLab accepts, with the least change."""
    from ..config import hooks
    from ..mattermost import detect
    from ..sso import repair
    from . import sign_in_outcomes

    manner.load_everything()
    with hooks.our_turn():
        site = detect.find(hooks.site_kind())
        if undo:
            layers = repair.undo(site)
            return Outcome({"written": layers}, [f"Put back: {', '.join(layers)}"])
        kept = Path(os.environ.get(repair.UNDO_VARIABLE, repair.UNDO_FILE))
        done = repair.repair(site, manner.store(), repair.Wish(**how), kept)
        return sign_in_outcomes.of_repair(done)
