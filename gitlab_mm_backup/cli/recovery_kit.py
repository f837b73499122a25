"""gitlab-mm recovery-kit: the kit as text, as an HTML page and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..health import html
from ..offsite import recovery_kit
from ..result import CommandResult
from .common import verb

if TYPE_CHECKING:
    from ..offsite.recovery_kit import Kit
    from .output import Context


def render(made: Kit) -> bytes:
    """Return the page."""
    return html.render("offsite/kit.jinja", {}, made=made)


def write(path: Path, made: Kit) -> Path:
    """Write the page, readable only by root; return its full path. Raises Failure."""
    return html.write(path, render(made), "gitlab-mm recovery-kit FILE")


def kit_result(made: Kit, path: Path | None) -> CommandResult:
    """Return the kit, or the path of its page; the JSON fields contain no secrets."""
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
    "--with-secrets",
    is_flag=True,
    help="Include secrets. Store the output as securely as a password.",
)
@verb
def kit(context: Context, file: Path | None, with_secrets: bool) -> CommandResult:
    """Show what is needed to restore Mattermost on an empty machine.

    It lists the places of the sets, the required keys and files, versions, and the commands. With
    FILE, it is written as an HTML page for printing.
    """
    from ..offsite import recovery_kit

    if with_secrets and context.as_json:
        raise click.UsageError("--with-secrets and --json exclude each other.")
    ours = context.settings()
    made = recovery_kit.kit(ours, context.store(), with_secrets=with_secrets)
    return kit_result(made, write(file, made) if file is not None else None)
