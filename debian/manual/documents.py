"""What the package says of itself, as files: config.yml as it is shipped, its JSON Schema, the help."""

from __future__ import annotations

import json
from typing import Any

import click

from gitlab_mm_backup.cli import main
from gitlab_mm_backup.cli.common import HELP_OPTIONS
from gitlab_mm_backup.config import option_text
from gitlab_mm_backup.config.schema import OPTIONS

FOLDER = "gitlab-mm-backup"


def files() -> dict[str, str]:
    """Return every file's text by its path below /usr/share; debian/rules moves config.yml and kept-help."""
    return {
        f"{FOLDER}/config.yml": option_text.sample(OPTIONS),
        f"{FOLDER}/config.schema.json": _json(option_text.schema(OPTIONS)),
        f"{FOLDER}/kept-help": _help(),
    }


def _help() -> str:
    """Return what gitlab-mm --help prints where there are 80 columns, of which click leaves two."""
    context = click.Context(main.group, info_name="gitlab-mm", terminal_width=78, **HELP_OPTIONS)
    return main.group.get_help(context) + "\n"


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
