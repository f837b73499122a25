"""The verbs of gitlab-mm config."""

from __future__ import annotations

import click

from ..result import Outcome
from .common import verb
from .manner import Manner


@click.group()
def config() -> None:
    """Settings: see what holds and why, check the file, explain an option."""


@config.command("show")
@verb
def show(manner: Manner) -> Outcome:
    """Show every option's value and where it comes from: default, gitlab.yml or config.yml."""
    from . import config as job

    return job.of_show(manner.values())


@config.command("check")
@verb
def check(manner: Manner) -> Outcome:
    """Tell every mistake in config.yml at once, each with its line."""
    from ..config import settings
    from . import config as job

    return job.of_check(manner.values(), str(manner.config or settings.CONFIG_FILE))


@config.command("explain")
@click.argument("wanted", metavar="KEY")
@verb
def explain(manner: Manner, wanted: str) -> Outcome:
    """Tell what an option is for, what it may be, its default, and what it is now.

    KEY is an option's name, compression.threads, or a section's, compression.
    """
    from . import config as job

    return job.of_explain(manner.values(), wanted)
