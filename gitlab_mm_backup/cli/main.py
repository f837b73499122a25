"""The command line: its programs, and where each command is.

A command's module is imported when it is called for: who asks for one does not wait for the others.
"""

from __future__ import annotations

import importlib

import click

from ..errors import ExitCode
from . import common

# name -> module of this folder, and what the command is called there
COMMANDS = {
    "accounts": ("sso", "accounts"),
    "backup": ("backup", "backup"),
    "config": ("config", "config"),
    "doctor": ("health", "doctor"),
    "gate": ("health", "gate"),
    "host": ("hosts", "host"),
    "kit": ("recovery_kit", "kit"),
    "list": ("sets", "list_sets"),
    "notify": ("health", "notify"),
    "offsite": ("offsite", "offsite"),
    "place": ("hosts", "place"),
    "prune": ("sets", "prune"),
    "rehearse": ("rehearse", "rehearse"),
    "report": ("health", "report"),
    "restore": ("restore", "restore"),
    "sso": ("sso", "sso"),
    "status": ("health", "status"),
    "verify": ("sets", "verify"),
}
_EXIT_CODES = "Exit codes: " + "; ".join(f"{int(code)} {code.meaning}" for code in ExitCode) + "."


def command(name: str) -> click.Command:
    """Return the command of that name; raises KeyError where there is none."""
    module, function = COMMANDS[name]
    found: click.Command = getattr(importlib.import_module(f"{__package__}.{module}"), function)
    return found


def commands_of(group: click.Group) -> dict[str, click.Command]:
    """Return all commands of a group by name, each imported."""
    context = click.Context(group)
    found = ((name, group.get_command(context, name)) for name in group.list_commands(context))
    return {name: command for name, command in found if command is not None}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*COMMANDS, *self.commands])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return command(cmd_name) if cmd_name in COMMANDS else super().get_command(ctx, cmd_name)


@click.group(cls=_Commands, epilog=_EXIT_CODES)
@click.version_option(package_name="gitlab-mm-backup", prog_name="gitlab-mm")
def group() -> None:
    """Backup, restore and way out for the Mattermost bundled with Omnibus GitLab."""


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
