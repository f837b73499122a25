"""The command line as plain data: programs, verbs, their options and arguments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import click

from gitlab_mm_backup.cli import main as cli_main
from gitlab_mm_backup.cli.common import HELP_OPTIONS

#: Where one program is a verb of another: the words that do the same.
SAME = {"gitlab-mm-backup": "gitlab-mm backup", "gitlab-mm-restore": "gitlab-mm restore"}

#: Options that take a name of a set, and the kinds of the names.
_NAMES = {"--team": "teams", "--channel": "channels", "--user": "users"}


@dataclass(frozen=True)
class Option:
    """An option; `values` says what follows it: nothing, choices, text, paths, sets, places or names.

    The names are teams, channels or users of a set.
    """

    names: tuple[str, ...]
    metavar: str
    help: str
    values: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Command:
    """A program or a verb of it, as it is typed: "gitlab-mm sso repair"."""

    typed: str
    text: str
    usage: str
    options: tuple[Option, ...]
    takes_sets: bool
    words: tuple[str, ...] = ()  # that its arguments may be, as far as they are known
    verbs: tuple[Command, ...] = ()
    hidden_verbs: tuple[Command, ...] = ()  # with a manual page, but not in --help or completion
    json_name: str = ""  # "command" of its JSON object

    @property
    def name(self) -> str:
        """The last word of what is typed."""
        return self.typed.rpartition(" ")[2]

    @property
    def summary(self) -> str:
        """The first sentence, without its full stop."""
        return self.text.partition("\n\n")[0].replace("\n", " ").rstrip(".")

    def walk(self) -> Iterator[Command]:
        """This command and all below it."""
        yield self
        for verb in self.verbs:
            yield from verb.walk()


def programs() -> list[Command]:
    """Every program of the package, the one with all verbs first."""
    main = _read(cli_main.group, "gitlab-mm", None)
    alone = ((name, cli_main.command(words.split()[1])) for name, words in SAME.items())
    return [main, *(_read(command, name, None) for name, command in alone)]


def _read(command: click.Command, typed: str, parent: click.Context | None) -> Command:
    name = typed.rpartition(" ")[2]
    context = click.Context(command, info_name=name, parent=parent, help_option_names=HELP_OPTIONS)
    parameters = command.get_params(context)
    group = cli_main.commands_of(command) if isinstance(command, click.Group) else {}
    verbs = {name: _read(verb, f"{typed} {name}", context) for name, verb in group.items()}
    arguments = [parameter for parameter in parameters if isinstance(parameter, click.Argument)]
    options = [
        parameter
        for parameter in parameters
        if isinstance(parameter, click.Option) and not parameter.hidden
    ]
    text = "\n\n".join(filter(None, (command.help, command.epilog if parent else "")))
    return Command(
        typed,
        text,
        " ".join(command.collect_usage_pieces(context)),
        tuple(_option(option, context) for option in options),
        any("SET" in (argument.metavar or "") for argument in arguments),
        tuple(word for argument in arguments for word in _words(argument, context)),
        tuple(verb for name, verb in verbs.items() if not group[name].hidden),
        tuple(verb for name, verb in verbs.items() if group[name].hidden),
        f"{_json_name(parent)} {command.name}".strip() if parent else "",
    )


def _words(argument: click.Argument, context: click.Context) -> list[str]:
    """What click itself would offer for an argument, without files; one that may be absent is a set."""
    offered = argument.shell_complete(context, "")
    latest = ["latest"] if argument.metavar == "[SET]" else []
    return latest + [str(item.value) for item in offered if item.type == "plain"]


def _json_name(context: click.Context | None) -> str:
    """Return the "command" of a group's JSON objects; "" for the program itself."""
    inner = context is not None and context.parent is not None
    return str(context.command.name) if context and inner else ""


def _option(option: click.Option, context: click.Context) -> Option:
    record = option.get_help_record(context)
    assert record is not None
    # "-o, --output FILE"; a choice's metavar may contain blanks and commas.
    names = re.findall(r"(?:^|, )(-[^\s,]+)", record[0])
    metavar = record[0].removeprefix(", ".join(names)).strip()
    values, choices = _values(option)
    return Option(tuple(names), metavar, record[1], values, choices)


def _values(option: click.Option) -> tuple[str, tuple[str, ...]]:
    if option.is_flag or option.count:
        return "nothing", ()
    if isinstance(option.type, click.Choice):
        return "choices", tuple(str(choice) for choice in option.type.choices)
    if "SET" in (option.metavar or ""):
        return "sets", ()
    if option.metavar == "REMOTE":
        return "places", ()
    if option.metavar in ("NAME", "TEAM/CHANNEL") and option.opts[0] in _NAMES:
        return _NAMES[option.opts[0]], ()
    if isinstance(option.type, (click.Path, click.File)):
        return "paths", ()
    return "text", ()
