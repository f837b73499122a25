"""The command line: its programs, and the module of each command.

A module is imported when its command is called, so that a command starts without the others.
"""

from __future__ import annotations

import importlib

import click

from ..errors import ExitCode
from . import common

# name -> module of this folder and the command's function there
COMMANDS = {
    "accounts": ("sso", "accounts"),
    "backup": ("backup", "backup"),
    "config": ("config", "config"),
    "doctor": ("health", "doctor"),
    "gate": ("health", "gate"),
    "host": ("hosts", "host"),
    "list": ("sets", "list_sets"),
    "notify": ("health", "notify"),
    "offsite": ("offsite", "offsite"),
    "place": ("hosts", "place"),
    "prune": ("sets", "prune"),
    "recovery-kit": ("recovery_kit", "kit"),
    "rehearse": ("rehearse", "rehearse"),
    "report": ("health", "report"),
    "restore": ("restore", "restore"),
    "sso": ("sso", "sso"),
    "status": ("health", "status"),
    "verify": ("sets", "verify"),
}
ALIASES = {"kit": "recovery-kit"}  # old names of commands; not in --help
_EXIT_CODES = "Exit codes: " + "; ".join(f"{int(code)} {code.meaning}" for code in ExitCode) + "."


def command(name: str) -> click.Command:
    """Return the command of that name; raise KeyError if there is none."""
    module, function = COMMANDS[name]
    found: click.Command = getattr(importlib.import_module(f"{__package__}.{module}"), function)
    return found


def commands_of(group: click.Group) -> dict[str, click.Command]:
    """Import all commands of a group, and return them by the names a user types."""
    context = click.Context(group)
    found = ((name, group.get_command(context, name)) for name in group.list_commands(context))
    return {name: command for name, command in found if command is not None}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*COMMANDS, *self.commands])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = ALIASES.get(cmd_name, cmd_name)
        return command(name) if name in COMMANDS else super().get_command(ctx, name)


@click.group(cls=_Commands, epilog=_EXIT_CODES)
@click.version_option(package_name="gitlab-mm-backup", prog_name="gitlab-mm")
def group() -> None:
    """Backup, restore and migration for the Mattermost bundled with Omnibus GitLab."""


def main() -> None:
    """Entry point of gitlab-mm."""
    common.enter(group, "gitlab-mm")


def main_backup() -> None:
    """Entry point of gitlab-mm-backup."""
    common.enter(command("backup"), "gitlab-mm-backup")


def main_gate() -> None:
    """Entry point of apt's hook."""
    common.enter(command("gate"), "gitlab-mm gate")


def main_restore() -> None:
    """Entry point of gitlab-mm-restore."""
    common.enter(command("restore"), "gitlab-mm-restore")
