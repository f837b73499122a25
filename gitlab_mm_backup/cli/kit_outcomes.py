"""The recovery kit for a person, a printer and a machine."""

from __future__ import annotations

from pathlib import Path

from ..health import html
from ..offsite import recovery_kit
from ..offsite.recovery_kit import Kit
from ..result import Outcome


def render(made: Kit) -> bytes:
    """Return the page."""
    return html.render("offsite/kit.jinja", {}, made=made)


def write(path: Path, made: Kit) -> Path:
    """Write the page, readable by root alone; raises Failure. Returns its full path."""
    return html.write(path, render(made), "gitlab-mm kit FILE")


def of_kit(made: Kit, path: Path | None) -> Outcome:
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
    return Outcome(fields, lines, made.warnings, answer=True)
