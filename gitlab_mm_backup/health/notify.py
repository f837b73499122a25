"""Send the result of each run: to Mattermost, by mail, to a dead man's switch, by apprise."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from ..config import identity
from ..config.settings import Notification, Settings
from ..errors import ExitCode, Failure, reason
from ..result import CommandResult
from ..store.inventory import Store
from ..system import environment, humanize, process, redaction
from ..system import log as system_log
from ..system.private_files import InMemory
from ..system.process import Command
from ..system.redaction import Secret
from . import metrics, publish
from .metrics import JobRun

_SECONDS = 20  # for each notification
_SENDMAIL = "/usr/sbin/sendmail"
START = "start"  # the state of a ping when a job begins; success or fail at its end


@dataclass(frozen=True)
class Message:
    """The text of a notification; it may not contain a secret."""

    title: str
    text: str
    state: str  # START, success or fail


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
        if notification.type != "ping" and message.state == START:
            continue
        try:
            SENDERS[notification.type](notification.to, message)
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
    told = str(error) if isinstance(error, Failure) else str(getattr(cause, "strerror", None) or "")
    return told[:200] if told and to.reveal() not in told else "it cannot be sent"


def _mattermost(to: Secret, message: Message) -> None:
    """Post to an incoming webhook (Mattermost's documentation, "Incoming webhooks")."""
    text = f"**{message.title}**\n```text\n{message.text.replace('```', '')}\n```"
    _http(to.reveal(), json.dumps({"text": text}).encode(), {"Content-Type": "application/json"})


def _ping(to: Secret, message: Message) -> None:
    """Send the state of a job to a dead man's switch."""
    address = ping_address(to.reveal(), message)
    if address:
        _http(address, message.text.encode(), {})


def ping_address(given: str, message: Message) -> str:
    """Return the URL for the state of ``message``; "" if the service has none.

    healthchecks.io has a path for each state: /start, none, /fail; its query stays behind the path.
    Push monitors of Uptime Kuma have status and msg in the query, and no state for a start.
    """
    address = urlsplit(given)
    query = parse_qsl(address.query, keep_blank_values=True)
    if "status" not in dict(query):
        end = "" if message.state == "success" else f"/{message.state}"
        return urlunsplit(address._replace(path=address.path.rstrip("/") + end))
    if message.state == START:
        return ""
    told = {"status": "up" if message.state == "success" else "down", "msg": message.title}
    changed = [(name, told.get(name, value)) for name, value in query]
    return urlunsplit(address._replace(query=urlencode(changed)))


def _http(url: str, body: bytes, headers: Mapping[str, str]) -> None:
    import urllib.request

    if not url.startswith(("http://", "https://")):
        raise ValueError("the address must begin with http:// or https://")
    request = urllib.request.Request(url, body, dict(headers), method="POST")
    proxies = environment.proxies()
    if urllib.request.proxy_bypass_environment(request.host, proxies):  # type: ignore[attr-defined]
        proxies = {}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))
    with opener.open(request, timeout=_SECONDS) as answer:
        answer.read(1 << 16)


def _mail(to: Secret, message: Message) -> None:
    """Pass a mail to the local MTA (sendmail(8), -t)."""
    mail = EmailMessage()
    mail["To"], mail["Subject"] = to.reveal(), message.title
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834
    mail.set_content(message.text)
    _run([_SENDMAIL, "-t", "-i"], mail.as_bytes())


def _apprise(to: Secret, message: Message) -> None:
    """Send it through apprise(1); the address is passed in a file in memory."""
    config = InMemory(Secret(f"{to.reveal()}\n"))
    _run(["apprise", "--title", message.title, "--config", config], message.text.encode())


def _run(argv: list[Any], text: bytes) -> None:
    import tempfile

    with tempfile.TemporaryFile() as told:
        told.write(text)
        told.seek(0)
        process.run(Command(argv), stdin=told, timeout=_SECONDS)


SENDERS: Mapping[str, Callable[[Secret, Message], None]] = {
    "mattermost": _mattermost,
    "mail": _mail,
    "ping": _ping,
    "apprise": _apprise,
}

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
    _guard(lambda: publish.after_job(load(), find))
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
        if notification.type == "ping" or wanted(notification.on, int(ended.code), was_good)
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
    told = "\n".join(humanize.shown(redaction.without_rows(line)) for line in lines if line)
    title = humanize.plain(f"gitlab-mm {ended.command} {verdict} on {host}")
    return Message(title, told, "success" if good else "fail")
