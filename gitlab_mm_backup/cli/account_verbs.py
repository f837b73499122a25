"""The command line's part about accounts."""

from __future__ import annotations

from pathlib import Path

import click

from ..errors import ExitCode, Failure
from ..result import Outcome
from .common import verb
from .manner import Manner


@click.group()
def accounts() -> None:
    """Accounts that sign in through GitLab: make them ones with e-mail and password."""


@accounts.command()
@click.option("--from", "before", type=click.Choice(["gitlab"]), help="How they sign in now.")
@click.option("--to", "after", type=click.Choice(["email"]), help="How they are to sign in.")
@click.option(
    "--admin",
    metavar="NAME",
    help="An administrator with a password of its own, who must be able to sign in first; the "
    "password is asked for, or read from the first line of standard input.",
)
@click.option("--dry-run", is_flag=True, help="Only tell who is affected.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--undo",
    "mapping",
    type=click.Path(path_type=Path),
    help="Take a conversion back from the file that it named.",
)
@verb
def convert(
    manner: Manner,
    before: str | None,
    after: str | None,
    admin: str | None,
    dry_run: bool,
    yes: bool,
    mapping: Path | None,
) -> Outcome:
    """Keep people able to sign in where GitLab sign-in ends; --undo FILE takes it back.

    Everybody affected then asks Mattermost itself for a new password: "Forgot your password?".
    """
    from ..mattermost import detect
    from ..sso import accounts as job
    from ..system.lock import only_run
    from . import accounts_outcomes as outcomes
    from . import output

    if mapping is None and not (before and after):
        raise click.UsageError("Give --from gitlab --to email, or --undo FILE.")
    with only_run():
        site = detect.find()
        if mapping is not None:
            return outcomes.of_undo(job.undo(site, mapping))
        preview = job.preview(site)
        if dry_run or not preview.people:
            return outcomes.of_preview(preview)
        if admin is None:
            raise Failure(
                "No administrator is named who can sign in without GitLab",
                f"there are: {', '.join(preview.local_administrators) or 'none'}",
                "Give --admin NAME; to make one: mmctl user create --local --system-admin",
                ExitCode.USAGE,
            )
        password = output.ask_password(admin)
        if not yes:
            output.ask(*outcomes.question(preview), "accounts are changed")
        return outcomes.of_convert(job.convert(site, admin, password))
