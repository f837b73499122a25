"""The result of a command, for a person and for a machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import ExitCode, Failure


@dataclass(frozen=True)
class CommandResult:
    """The result of one command.

    ``fields`` are its own keys in the JSON object, ``lines`` the text for a person.  A command that
    answers a question (``answer``) prints the lines without a terminal too.
    """

    fields: Mapping[str, Any]
    lines: list[str]
    warnings: list[str] = field(default_factory=list)
    code: ExitCode = ExitCode.DONE
    answer: bool = False
    lasting: bool = False  # write the lines of this answer to the system's log too
    lenient: bool = False  # warnings do not change the exit code
    tones: Sequence[tuple[str, str]] = ()  # for each line, a word in it and its colour
    status: int | None = None  # exit status by the rules of another program, such as Nagios
    error: Failure | None = None  # the command failed, and has fields all the same

    @property
    def exit_code(self) -> ExitCode:
        if self.error is not None:
            return self.error.exit_code
        if self.code is ExitCode.DONE and self.warnings and not self.lenient:
            return ExitCode.WARNINGS
        return self.code
