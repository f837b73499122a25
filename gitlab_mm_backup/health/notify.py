"""Send the result of each run by the notifications in config.yml, and write the metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from ..config import identity
from ..config.notification_channels import CHANNELS, START, Message
from ..config.settings import Notification, Settings
from ..errors import ExitCode, Failure, reason
from ..result import CommandResult
from ..store.inventory import Store
from ..system import humanize, redaction
from ..system import log as system_log
from ..system.redaction import Secret
from . import metrics, publish
from .metrics import JobRun


def wanted(when: str, exit_code: int, was_good: bool | None) -> bool:
    """Return whether the policy ``when`` (option ``on``) includes a run with this exit code.

    ``was_good`` is whether the previous run of the same job succeeded, None if there was none.
    """
    good = exit_code in (0, 4)
    if not good or when == "always":
        return True
    if when == "warning":
        return exit_code == 4
    return when == "recovery" and was_good is False


def send(notifications: Iterable[Notification], message: Message) -> dict[str, str]:
    """Send ``message`` by each notification; return the problems by the names of those that failed."""
    problems = {}
    for number, notification in enumerate(notifications, 1):
        channel = CHANNELS[notification.type]
        if message.state == START and not channel.every_run:
            continue
        try:
            channel.send(notification.to, message)
        except Exception as error:  # whatever a service answers, the job's result stands
            problems[name(number, notification)] = _without(notification.to, error)
    return problems


def name(number: int, notification: Notification) -> str:
    """Return the name of a notification: its number in config.yml and its type, no address."""
    return f"{number} ({notification.type})"


def _without(to: Secret, error: Exception) -> str:
    """Return the problem in words, without the address, which may contain a password."""
    import urllib.error

    if isinstance(error, urllib.error.HTTPError):
        return f"the service answers with HTTP status {error.code}"
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    text = str(error) if isinstance(error, Failure) else str(getattr(cause, "strerror", None) or "")
    return text[:200] if text and to.reveal() not in text else "it cannot be sent"


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FinishedRun:
    """The end of one run of a command."""

    command: str
    began: datetime
    seconds: float
    outcome: CommandResult
    error: Failure | None

    @property
    def code(self) -> ExitCode:
        return self.error.exit_code if self.error else self.outcome.exit_code

    @property
    def idle(self) -> bool:
        """Whether it had nothing to do, as most hourly runs of cron, or only answered a question."""
        told = self.outcome.fields
        nothing = told.get("set", self) is None and not told.get("rehearsals")
        return self.error is None and (self.outcome.answer or nothing)


def begin(command: str, ours: Settings) -> None:
    """Send the start of a job to each ping."""
    title = f"gitlab-mm {command} begins on {identity.full_hostname()}"
    _tell(ours.notifications, Message(title, title, START))


def follow(ended: FinishedRun, load: Callable[[], Settings], find: Callable[[], Store]) -> None:
    """Record how a run ended, write the metrics and send the notifications.

    Bad settings, a full disk or an unavailable service are logged, and do not change the result.
    """
    if ended.idle:
        return
    before: JobRun | None = None
    try:
        before, _ = metrics.note_run(ended.command, ended.began, ended.seconds, int(ended.code))
    except OSError as error:
        log.warning("The result of this run could not be recorded: %s", error.strerror)
    # A rehearsal leaves what is live alone: it asks no live service either.
    _guard(lambda: publish.after_job(load(), find, live=ended.command != "rehearse"))
    _guard(lambda: _send(ended, before, load()))


def _guard(act: Callable[[], None]) -> None:
    try:
        act()
    except (Failure, OSError) as error:
        log.warning("%s", redaction.without_rows(reason(error)))
    except Exception as error:  # so that the next step runs too
        for line in system_log.bug_trace(error):
            log.error("%s", line)


def _send(ended: FinishedRun, before: JobRun | None, ours: Settings) -> None:
    was_good = before.good if before else None
    chosen = [
        notification
        for notification in ours.notifications
        if CHANNELS[notification.type].every_run
        or wanted(notification.on, int(ended.code), was_good)
    ]
    _tell(chosen, message(ended, recovered=was_good is False))


def _tell(chosen: Sequence[Notification], message: Message) -> None:
    for name, problem in send(chosen, message).items():
        log.warning("Notification %s was not sent: %s", name, problem)


def message(ended: FinishedRun, *, recovered: bool = False) -> Message:
    """Return the notification of a run, without rows that PostgreSQL quotes in errors."""
    good = ended.code in (ExitCode.DONE, ExitCode.WARNINGS)
    verdict = "failed" if not good else "has warnings" if ended.code else "is done"
    if good and recovered:
        verdict += " again, after a failure"
    host = identity.full_hostname()
    lines = [
        f"gitlab-mm {ended.command}: {ended.code.meaning}, after {humanize.duration(ended.seconds)}"
    ]
    if ended.error is not None:
        lines += [str(ended.error), ended.error.hint]
    lines += ended.outcome.warnings or ([] if ended.error else ended.outcome.lines)
    lines.append(f"More: journalctl -t gitlab-mm GITLAB_MM_RUN={system_log.run_id()}")
    text = "\n".join(humanize.shown(redaction.without_rows(line)) for line in lines if line)
    title = humanize.plain(f"gitlab-mm {ended.command} {verdict} on {host}")
    return Message(title, text, "success" if good else "fail")
