"""Completion for bash, zsh and fish: verbs, options, sets from `gitlab-mm list`, names, and remotes.

The scripts contain verbs and options, so a TAB starts Python only for sets, remotes, and names in a
set, and they work with any version of click. The commands print nothing on stdout unless root calls them.
Files are offered for a set or a remote only where a path is begun: in / there are many.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from string import Template

import tree

HERE = Path(__file__).parent
#: Commands that print names of complete sets, one a line.
SETS = """gitlab-mm list 2>/dev/null | sed -n 's/^\\([0-9]\\{10\\}_[^ ]*\\) .*/\\1/p'\
"""  # an incomplete one has nothing after its name
#: Commands that print names of remotes: as given, or of rclone's remote, or the last word of a path.
PLACES = """echo gitlab
    gitlab-mm config show 2>/dev/null | sed -n 's/^offsite  *//p' |
        grep -o '{"remote": "[^"]*", "name": [^,]*' |
        sed -e 's/.*"name": "\\(.*\\)"/\\1/;t' -e 's/{"remote": "\\([^"]*\\)".*/\\1/' \\
            -e 's:/*$::' -e 's:^/.*/::' -e 's/:.*//' |
        grep -vx gitlab\
"""


def files(programs: list[tree.Command]) -> dict[str, str]:
    """Return every script by its path below /usr/share."""
    found = {}
    for program in programs:
        name = program.typed
        found[f"bash-completion/completions/{name}"] = _fill("bash", program, _bash(program))
        found[f"zsh/vendor-completions/_{name}"] = _fill("zsh", program, _zsh(program))
        found[f"fish/vendor_completions.d/{name}.fish"] = _fill("fish", program, _fish(program))
    return found


def _fill(shell: str, program: tree.Command, parts: dict[str, str]) -> str:
    text = (HERE / f"completion.{shell}").read_text(encoding="utf-8")
    own = {"program": program.typed, "function": re.sub(r"\W", "_", program.typed)}
    own.update(sets=SETS, places=PLACES)
    verbs = [command.typed for command in program.walk() if command is not program]
    patterns = [_quoted(verb) for verb in verbs] or ["''"]
    own["verbs"] = (" " if shell == "fish" else " | ").join(patterns)
    return Template(text).substitute(own, **parts)


def _quoted(text: str) -> str:
    """A word in single quotes, for all three shells."""
    escaped = text.replace("\\", "\\\\") if "'" in text else text
    return "'" + escaped.replace("'", r"'\''") + "'"


def _with_values(program: tree.Command) -> Iterator[tuple[str, tree.Option]]:
    """Each command with each of its options that a value follows."""
    for command in program.walk():
        for option in command.options:
            if option.values != "nothing":
                yield command.typed, option


def _cases(
    program: tree.Command,
    values: Callable[[tree.Option], str],
    verbs: Callable[[tree.Command], str],
) -> dict[str, str]:
    """The branches of two case statements: on an option that wants a value, and on a verb."""
    wanted = (
        f"        {' | '.join(_quoted(f'{typed} {name}') for name in option.names)})\n"
        f"            {values(option)}\n            ;;\n"
        for typed, option in _with_values(program)
    )
    offered = (
        f"        {_quoted(command.typed)})\n{verbs(command)}            ;;\n"
        for command in program.walk()
    )
    return {"values": "".join(wanted), "offers": "".join(offered)}


# In bash and zsh: what an option's value may be; "begun" paths are offered where one is begun.
_VALUES = {
    **{kind: f"names={kind}" for kind in ("teams", "channels", "users")},
    "sets": "sets=yes paths=begun",
    "places": "places=yes paths=begun",
    "paths": "paths=yes",
}


def _bash(program: tree.Command) -> dict[str, str]:
    def values(option: tree.Option) -> str:
        offer = {"choices": f"words={_quoted(' '.join(option.choices))}", "text": ":"}
        return {**offer, **_VALUES}[option.values]

    def verbs(command: tree.Command) -> str:
        options = " ".join(name for option in command.options for name in option.names)
        lines = [f"options={_quoted(options)}"]
        if words := [*(verb.name for verb in command.verbs), *command.words]:
            lines.append(f"words={_quoted(' '.join(words))}")
        if command.takes_sets:
            lines.append(_VALUES["sets"])
        return "".join(f"            {line}\n" for line in lines)

    return _cases(program, values, verbs)


def _zsh(program: tree.Command) -> dict[str, str]:
    def values(option: tree.Option) -> str:
        offer = {"choices": f"offers=({' '.join(option.choices)})", "text": ":"}
        return {**offer, **_VALUES}[option.values]

    def entry(name: str, told: str) -> str:
        return _quoted(f"{name}:{told}")

    def verbs(command: tree.Command) -> str:
        options = (entry(name, option.help) for option in command.options for name in option.names)
        lines = ["options=(", *(f"    {line}" for line in options), ")"]
        if command.verbs:
            offered = (entry(verb.name, verb.summary) for verb in command.verbs)
            lines += ["offers=(", *(f"    {line}" for line in offered), ")"]
        if command.words:
            lines.append(f"known=({' '.join(command.words)})")
        if command.takes_sets:
            lines.append(_VALUES["sets"])
        return "".join(f"            {line}\n" for line in lines)

    return _cases(program, values, verbs)


def _fish(program: tree.Command) -> dict[str, str]:
    function = re.sub(r"\W", "_", program.typed)
    lines: list[str] = []
    for command in program.walk():
        start = f"complete -c {program.typed} -n '__{function}_at {command.typed}'"
        lines += [f"{start} -a {verb.name} -d {_quoted(verb.summary)}" for verb in command.verbs]
        if command.words:
            lines.append(f"{start} -a {_quoted(' '.join(command.words))}")
        if command.takes_sets:
            lines.append(f"{start} -k -a '(__{function}_sets) (__{function}_begun)'")
        lines += [f"{start} {_fish_option(option, function)}" for option in command.options]
    return {"lines": "\n".join(lines)}


def _fish_option(option: tree.Option, function: str) -> str:
    flags = (
        f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names
    )
    value = {
        "nothing": "",
        "choices": f" -x -a {_quoted(' '.join(option.choices))}",
        "sets": f" -x -a '(__{function}_sets) (__{function}_begun)'",
        "places": f" -x -a '(__{function}_places) (__{function}_begun)'",
        "paths": " -r -F",
        **{
            kind: f" -x -a '(__{function}_names {kind})'" for kind in ("teams", "channels", "users")
        },
        "text": " -x",
    }[option.values]
    return f"{' '.join(flags)}{value} -d {_quoted(option.help)}"
