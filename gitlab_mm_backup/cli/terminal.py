"""The terminal: a line for each step of a job with progress bars below, and questions."""

from __future__ import annotations

import codecs
import contextlib
import io
import logging
import os
import re
import shutil
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

import click

from ..errors import ExitCode, Failure, Interrupted
from ..system import humanize
from ..system.progress import PATIENCE, Unit
from ..system.redaction import Secret
from ..translation import _, local

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

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
    """Prints the logged steps; shows the current one with a spinner, and progress bars below.

    ``what`` stands in place of a step before the first one. Each that takes longer than PATIENCE is
    shown with its seconds so far.
    """

    def __init__(self, stream: TextIO, what: str) -> None:
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
        self._draw_lock = threading.RLock()
        self._held = False
        self._timer: threading.Timer | None = None
        self._begin_step(what)

    def emit(self, record: logging.LogRecord) -> None:
        from rich.text import Text

        self._live.console.print(Text(self.format(record), style="dim"), soft_wrap=True)
        self._begin_step(humanize.plain(record.getMessage()))
        self._draw()

    def start(self, what: str, total: int | None, done: Measure | None, unit: Unit) -> _Row:
        """Show a progress bar; see progress.Start."""
        row = _Row(self, self.progress.add_task(what, total=total, unit=unit), done)
        with self._rows_lock:
            self._rows.append(row)
        self._draw()
        return row

    def drop(self, row: _Row) -> None:
        with self._rows_lock:
            self._rows.remove(row)
        self.progress.remove_task(row.task)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Draw nothing for the block, in which the operator is asked."""
        self._hold()
        try:
            yield
        finally:
            self._held = False
            self._begin_step(self._step)

    def close(self) -> None:
        self._hold()
        super().close()

    def _begin_step(self, step: str) -> None:
        """Count the seconds of a step from now on; it is drawn at the latest after PATIENCE."""
        self._step, self._since = step, time.monotonic()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(PATIENCE, self._draw)
        self._timer.daemon = True
        self._timer.start()

    def _draw(self) -> None:
        with self._draw_lock:
            if not self._held:
                self._live.start()

    def _hold(self) -> None:
        with self._draw_lock:
            self._held = True
            self._live.stop()

    def __rich__(self) -> Group:
        """Update step and bars, and return both."""
        from rich.console import Group

        self._wheel.update(text=self._step_so_far())
        with self._rows_lock:
            for row in self._rows:
                if row.done is not None:
                    self.progress.update(row.task, completed=row.done())
        for task in self.progress.tasks:
            if task.total is not None and task.completed > task.total:
                task.total = None  # more than expected: the total is unknown now
        return Group(self._wheel, self.progress)

    def _step_so_far(self) -> Text:
        from rich.text import Text

        taken = time.monotonic() - self._since
        so_far = f"  {humanize.duration(taken)}" if taken >= PATIENCE else ""
        text = Text(self._step)
        text.truncate(self._live.console.width - 6 - len(so_far), overflow="ellipsis")
        return text.append(so_far)


def _amount(task: Task) -> Text:
    """Return how much is done, the total, and the remaining time at the average speed."""
    from rich.text import Text

    unit: Unit = task.fields["unit"]
    told = _UNITS[unit](task.completed)
    if task.total is not None:
        told += f" of {_UNITS[unit](task.total)}"
        if task.time_remaining:
            told += f", {humanize.duration(task.time_remaining)} left"
    return Text(told, no_wrap=True)


_UNITS: Mapping[Unit, Callable[[float], str]] = {
    Unit.BYTES: humanize.size,
    Unit.THINGS: lambda count: humanize.grouped(int(count)),
    Unit.SECONDS: humanize.duration,
}


def colours() -> bool:
    """Return whether the user wants colours (no-color.org)."""
    return not os.environ.get("NO_COLOR")


def columns() -> int | None:
    """Return the width of the terminal; None where stdout is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def watched() -> bool:
    """Return whether stderr is a terminal that can move its cursor."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


_RESULTS = {
    **dict.fromkeys(("passed", "intact", "authentic"), "green"),
    **dict.fromkeys(("failed", "FAILED", "damaged", "forged"), "red"),
    **dict.fromkeys(("warning", "skipped", "remove"), "yellow"),
}
_RESULT = re.compile(rf"(?<![^ ])(?:{'|'.join(_RESULTS)})(?=[ ,;:]|$)")


def toned(line: str, word: str, colour: str) -> str:
    """Return a line with its first ``word`` in colour; ``say`` removes the colour if unwanted."""
    if not word:
        return line
    painted = click.style(word, fg=colour, bold=True)
    return re.sub(rf"(?<![^ ]){re.escape(word)}(?=[ ,;:]|$)", painted, line, count=1)


def tone_of(line: str) -> tuple[str, str]:
    """Return the first word of a result in a line and its colour, which all commands share."""
    found = _RESULT.search(line)
    return (found[0], _RESULTS[found[0]]) if found else ("", "")


def say(line: str, err: bool = False, tone: tuple[str, str] = ("", ""), colour: str = "") -> None:
    """Print a line, with control characters in names and messages escaped; what is red is bold."""
    told = toned(humanize.shown(line), *tone)
    if colour:
        told = click.style(told, fg=colour, bold=colour == "red" or None)
    # Without file=, click would write UTF-8 to an ASCII terminal.
    stream = sys.stderr if err else sys.stdout
    click.echo(told, file=stream, color=None if colours() else False)


def interactive() -> bool:
    """Return whether an operator can be asked."""
    return sys.stdin.isatty()


def ask(told: Sequence[str], loud: Sequence[str], question: str, *, done: str = "") -> None:
    """Print the lines ``told``, then ``loud`` in red, and ask; raise Failure unless confirmed.

    ``done`` is what the command has changed already, "" for nothing.
    """
    if not interactive():
        raise Failure(NO_TERMINAL, "", RUN_WITH_YES, ExitCode.USAGE)
    with _asking(done):
        for line in told:
            say(local(line), err=True)
        for line in loud:
            say(local(line), err=True, colour="red")
        if not _agreed(question):
            raise _cancelled(done)


def _agreed(question: str) -> bool:
    """Ask until the answer is yes or no, in English or the operator's language; the default is no."""
    yes, no = ("y", "yes", _("yes")), ("", "n", "no", _("no"))
    while True:
        given = str(click.prompt(f"{question} [y/N]", default="", show_default=False, err=True))
        answer = given.strip().lower()
        if answer in yes or answer in no:
            return answer in yes
        click.echo(_("Please answer y (yes) or n (no)."), err=True)


def pick(told: str, choices: Sequence[str]) -> int:
    """Ask the operator to pick one of ``choices``; return its index.  Needs a terminal."""
    with _asking():
        say(local(told), err=True)
        for place, choice in enumerate(choices, 1):
            say(f"  {place}. {local(choice)}", err=True)
        number: int = click.prompt(_("Which one?"), type=click.IntRange(1, len(choices)), err=True)
    return number - 1


def ask_password(name: str) -> Secret:
    """Ask for a password without echo; without a terminal, read the first line of stdin."""
    if not interactive():
        return Secret(sys.stdin.readline().rstrip("\n"))
    with _asking():
        return Secret(click.prompt(f"Password of {name}", hide_input=True, err=True))


@contextlib.contextmanager
def undrawn() -> Iterator[None]:
    """Draw no progress during the block, which prints or asks."""
    with contextlib.ExitStack() as held:
        for screen in logging.getLogger("gitlab_mm_backup").handlers:
            if isinstance(screen, Screen):
                held.enter_context(screen.held())
        yield


@contextlib.contextmanager
def _asking(done: str = "") -> Iterator[None]:
    """Draw nothing while the operator is asked; raise Failure after Ctrl-C or the end of input."""
    with undrawn():
        try:
            yield
        except (click.Abort, Interrupted):
            click.echo(err=True)  # the cursor stands behind the question
            raise _cancelled(done) from None


def _cancelled(done: str) -> Failure:
    if not done:
        return Failure(CANCELLED, exit_code=ExitCode.USAGE)
    return Failure("Cancelled", done, exit_code=ExitCode.USAGE)
