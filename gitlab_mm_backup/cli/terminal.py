"""The terminal while a job runs: a line for each step, and progress bars below."""

from __future__ import annotations

import codecs
import io
import logging
import os
import shutil
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

import click

from ..system import humanize
from ..translation import _

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rich.console import Group
    from rich.progress import Progress, Task, TaskID
    from rich.text import Text

    from ..system.progress import Measure


class _Step(logging.Formatter):
    """Formats a step as time and text, on one line without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        return humanize.plain(super().format(record))


STEP = _Step("%(asctime)s  %(message)s", "%H:%M:%S %Z")
_PLAIN = {ord("…"): "..."}
_BAR = 24  # columns
# Failures at a prompt: English in the log and in --json; the terminal shows their translation.
CANCELLED = "Cancelled; nothing changed"
NO_TERMINAL = "Confirmation needed, but there is no terminal"
RUN_WITH_YES = "Re-run with --yes."


def prepare(*streams: TextIO) -> None:
    """Let ``streams`` accept every text: replace characters that their encoding does not have."""
    codecs.register_error("plain", _plain)
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            ascii_only = stream.isatty() and _in_c_locale(os.environ)
            stream.reconfigure(encoding="ascii" if ascii_only else None, errors="plain")


def _in_c_locale(environment: Mapping[str, str]) -> bool:
    """Return whether the user's locale is C: Python writes UTF-8 then, the terminal expects ASCII.

    Python sets LC_CTYPE to C.UTF-8 itself in a C locale (PEP 538).
    """
    c = ("", "C", "POSIX")
    wanted, kind, usual = (environment.get(name, "") for name in ("LC_ALL", "LC_CTYPE", "LANG"))
    return wanted in c and (wanted != "" or (kind in (*c, "C.UTF-8") and usual in c))


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that cannot be encoded by ASCII; an error handler of codecs."""
    assert isinstance(error, UnicodeEncodeError)
    bad = error.object[error.start : error.end].translate(_PLAIN)
    return bad.encode("ascii", "backslashreplace").decode(), error.end


def in_unicode(stream: TextIO) -> bool:
    """Return whether the encoding of ``stream`` is Unicode."""
    return (stream.encoding or "").lower().replace("-", "").startswith("utf")


def agreed(question: str) -> bool:
    """Ask until the answer is yes or no, in English or the operator's language; the default is no."""
    yes, no = ("y", "yes", _("yes")), ("", "n", "no", _("no"))
    while True:
        given = str(click.prompt(f"{question} [y/N]", default="", show_default=False, err=True))
        answer = given.strip().lower()
        if answer in yes or answer in no:
            return answer in yes
        click.echo(_("Please answer y (yes) or n (no)."), err=True)


class Lines(logging.Handler):
    """Prints a line for each logged step."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self.setFormatter(STEP)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(self.format(record))


@dataclass
class _Row:
    """A bar on the screen."""

    screen: Screen
    task: TaskID
    done: Measure | None

    def advance(self, amount: int) -> None:
        self.screen.progress.advance(self.task, amount)

    def end(self) -> None:
        self.screen.drop(self)


class Screen(logging.Handler):
    """Prints the logged steps; shows the current one with a spinner, and progress bars below."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console  # imported here: it takes a tenth of a second
        from rich.live import Live
        from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
        from rich.spinner import Spinner

        class Amount(ProgressColumn):
            max_refresh = 0.5

            def render(self, task: Task) -> Text:
                return _amount(task)

        super().__init__()
        self.setFormatter(STEP)
        console = Console(file=stream)
        self.progress: Progress = Progress(
            TextColumn("  {task.description:10}", markup=False),
            BarColumn(_BAR),
            Amount(),
            console=console,
            auto_refresh=False,
        )
        self._wheel = Spinner("dots" if in_unicode(stream) else "line")
        self._rows: list[_Row] = []
        self._rows_lock = threading.Lock()
        self._live = Live(self, console=console, refresh_per_second=8, transient=True)

    def emit(self, record: logging.LogRecord) -> None:
        from rich.text import Text

        self._live.console.print(Text(self.format(record), style="dim"), soft_wrap=True)
        step = Text(humanize.plain(record.getMessage()))
        step.truncate(self._live.console.width - 6, overflow="ellipsis")
        self._wheel.update(text=step)
        self._live.start()

    def start(self, what: str, total: int | None, done: Measure | None) -> _Row:
        """Show a progress bar; see progress.Start."""
        row = _Row(self, self.progress.add_task(what, total=total), done)
        with self._rows_lock:
            self._rows.append(row)
        self._live.start()
        return row

    def drop(self, row: _Row) -> None:
        with self._rows_lock:
            self._rows.remove(row)
        self.progress.remove_task(row.task)

    def pause(self) -> None:
        """Stop drawing until the next step or bar."""
        self._live.stop()

    def close(self) -> None:
        self._live.stop()
        super().close()

    def __rich__(self) -> Group:
        """Update the bars, and return spinner and bars."""
        from rich.console import Group

        with self._rows_lock:
            for row in self._rows:
                if row.done is not None:
                    self.progress.update(row.task, completed=row.done())
        for task in self.progress.tasks:
            if task.total is not None and task.completed > task.total:
                task.total = None  # more than expected: the total is unknown now
        return Group(self._wheel, self.progress)


def _amount(task: Task) -> Text:
    """Return the bytes done, the total, and the remaining time at the average speed."""
    from rich.text import Text

    told = humanize.size(task.completed)
    if task.total is not None:
        told += f" of {humanize.size(task.total)}"
        if task.time_remaining:
            told += f", {humanize.duration(task.time_remaining)} left"
    return Text(told, no_wrap=True)


def colours() -> bool:
    """Return whether the user wants colours (no-color.org)."""
    return not os.environ.get("NO_COLOR")


def columns() -> int | None:
    """Return the width of the terminal; None where stdout is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def watched() -> bool:
    """Return whether stderr is a terminal that can move its cursor."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb")
