"""The command line: its programs, and the module of each command.

A module is imported when its command is called, so that a command starts without the others.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import click

from ..errors import ExitCode
from . import common

# In the order of use: name -> module of this folder, the command's function there, and its line in
# --help ("": hidden).
COMMANDS = {
    "backup": ("backup", "backup", "Back up Mattermost while it runs, then prune old sets."),
    "list": ("listing", "list_sets", "List the sets, newest first."),
    "info": ("sets", "info", "Show what one set holds, and what is known of it."),
    "ls": ("contents", "ls", "List the teams, channels, users and uploads of a set."),
    "find": (
        "contents",
        "find",
        "Find uploads by name and messages by text, in one set or in all.",
    ),
    "extract": ("extract", "extract", "Write uploads of a set to a directory, by original names."),
    "diff": ("contents", "diff", "Compare a set with another one, or with the live Mattermost."),
    "recover": ("extract", "recover", "Put one thing of a set back into the live Mattermost."),
    "restore": (
        "restore",
        "restore",
        "Restore a set: messages, uploads, settings and GitLab sign-in.",
    ),
    "verify": ("sets", "verify", "Read a set completely and compare it with its manifest."),
    "rehearse": (
        "rehearse",
        "rehearse",
        "Test a set: restore it into a temporary PostgreSQL and directory; start Mattermost there.",
    ),
    "open": (
        "rehearse",
        "open_set",
        "Start Mattermost from a set, to look around in it; nothing is kept.",
    ),
    "status": (
        "health",
        "status",
        "Show the current state: last set, rehearsal, sign-in, next run, disk space.",
    ),
    "doctor": (
        "health",
        "doctor",
        "Check whether this host is ready to back up and restore, or to upgrade GitLab.",
    ),
    "report": ("health", "report", "Write an HTML restore-test report for auditors."),
    "sso": ("sso", "sso", "Check and repair sign-in through GitLab."),
    "accounts": ("sso", "accounts", "Convert GitLab accounts to email and password."),
    "prune": (
        "sets",
        "prune",
        "Remove this host's sets that no retention rule in config.yml keeps; never the newest.",
    ),
    "delete": ("sets", "delete", "Remove one set, after a question. Its copies elsewhere stay."),
    "pin": ("sets", "pin", "Keep a set and its copies, whatever the retention rules say."),
    "unpin": ("sets", "unpin", "Leave a pinned set to the retention rules again."),
    "offsite": (
        "offsite",
        "offsite",
        "Copy finished sets to the off-site remotes, check the copies, and prune them.",
    ),
    "recovery-kit": (
        "offsite",
        "kit",
        "Show what is needed to restore Mattermost on an empty machine.",
    ),
    "config": (
        "config",
        "config",
        "Settings: show effective settings and their source, check the file, explain an option.",
    ),
    "notify": ("health", "notify", "Test the notifications in config.yml."),
    "host": ("hosts", "host", "Show which host this is, and the hosts whose sets are here."),
    "place": ("hosts", "place", "Places of sets and copies; each is recognised by a mark file."),
    "gate": ("health", "gate", ""),
    "names": ("contents", "names", ""),
}
ALIASES = {"kit": "recovery-kit"}  # old names of commands; not in --help
_EXIT_CODES = "Exit codes: " + "; ".join(f"{int(code)} {code.meaning}" for code in ExitCode) + "."


def command(name: str) -> click.Command:
    """Return the command of that name; raise KeyError if there is none."""
    module, function, _ = COMMANDS[name]
    found: click.Command = getattr(importlib.import_module(f"{__package__}.{module}"), function)
    return found


def commands_of(group: click.Group) -> dict[str, click.Command]:
    """Import all commands of a group, and return them by the names a user types."""
    context = click.Context(group)
    found = ((name, group.get_command(context, name)) for name in group.list_commands(context))
    return {name: command for name, command in found if command is not None}


class _Commands(common.Group):
    """Commands of the table; none is imported for the list of all."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        lines = [(name, text) for name, (_, _, text) in COMMANDS.items() if text]
        with formatter.section("Commands"):
            formatter.write_dl(lines)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take help and version as the first word for the options --help and --version."""
        if args[:1] == ["help"]:
            args = [*args[1:], "--help"]
        elif args[:1] == ["version"]:
            args = ["--version"]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *self.commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = ALIASES.get(cmd_name, cmd_name)
        return command(name) if name in COMMANDS else super().get_command(ctx, name)


@click.group(cls=_Commands, epilog=_EXIT_CODES)
@click.option(
    "-V",
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=common.print_version,
    help="Show the version and exit.",
)
@common.common_options
@click.pass_context
def group(
    context: click.Context,
    as_json: bool,
    config: Path | None,
    verbose: bool,
    quiet: bool,
    container: str | None,
) -> None:
    """Backup, restore and migration for the Mattermost bundled with Omnibus GitLab."""
    context.obj = common.Typed(as_json, config, verbose, quiet, container)


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
