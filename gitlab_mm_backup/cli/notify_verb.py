"""The verb that sends a notice."""

from __future__ import annotations

import click

from ..result import Outcome
from .common import verb
from .manner import Manner


@click.command()
@click.option("--test", is_flag=True, help="Send a test to everybody in notices of config.yml.")
@verb
def notify(manner: Manner, test: bool) -> Outcome:
    """Try the notices: whether everybody in config.yml can be told."""
    from . import notify_outcomes

    if not test:
        raise click.UsageError("Give --test; real notices are sent by the jobs themselves.")
    return notify_outcomes.of_test(manner.settings().notices)
