"""The recovery kit for a person, a printer and a machine."""

from __future__ import annotations

from pathlib import Path

import click

from ..health import html
from ..offsite import recovery_kit
from ..offsite.recovery_kit import Kit
from ..result import CommandResult
from .common import verb
from .output import Context


def render(made: Kit) -> bytes:
    """Return the page."""
    return html.render("offsite/kit.jinja", {}, made=made)


def write(path: Path, made: Kit) -> Path:
    """Write the page, readable by root alone; raises Failure. Returns its full path."""
    return html.write(path, render(made), "gitlab-mm recovery-kit FILE")


def kit_result(made: Kit, path: Path | None) -> CommandResult:
    """Tell the kit, or where its page is; a machine is never told a secret."""
    fields = {
        "path": str(path) if path else None,
        "places": [
            {
                "name": one.name,
                "path": one.path,
                "newest": one.newest or None,
                "sets": one.sets,
                "recipients": list(one.recipients),
            }
            for one in made.places
        ],
        "key": made.key or None,
        "needed": [{"what": one.what, "why": one.why} for one in made.needed],
        "versions": dict(made.versions),
        "steps": [{"title": one.title, "commands": list(one.commands)} for one in made.steps],
        "told": list(made.told),
    }
    lines = [str(path)] if path else recovery_kit.lines(made)
    return CommandResult(fields, lines, made.warnings, answer=True)


@click.command("kit")  # "command" in the JSON object; COMMANDS has the name that a user types
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option(
    "--with-secrets", is_flag=True, help="The keys as well; then keep it as you keep keys."
)
@verb
def kit(context: Context, file: Path | None, with_secrets: bool) -> CommandResult:
    """Print what is needed to bring Mattermost back on an empty machine.

    Where sets are, which keys and files are needed, versions, and the commands. With FILE it is one
    HTML page, for paper.
    """
    from ..offsite import recovery_kit

    if with_secrets and context.as_json:
        raise click.UsageError("--with-secrets is for paper: without --json.")
    ours = context.settings()
    made = recovery_kit.kit(ours, context.store(), with_secrets=with_secrets)
    return kit_result(made, write(file, made) if file is not None else None)
