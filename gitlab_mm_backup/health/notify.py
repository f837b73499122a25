"""Notices: telling people and other programs how a run ended, without ever being in its way."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from ..config.settings import Notice
from ..errors import Failure
from ..system import environment, process
from ..system.private_files import InMemory
from ..system.process import Command
from ..system.redaction import Secret

log = logging.getLogger(__name__)

_SECONDS = 20  # for each notice; nobody waits longer for another program
_SENDMAIL = "/usr/sbin/sendmail"
START = "start"  # what a ping is told when a job begins; at its end success or fail


@dataclass(frozen=True)
class Message:
    """What is told; neither text may hold a secret."""

    title: str
    text: str
    state: str  # START, success or fail


def wanted(when: str, exit_code: int, was_good: bool | None) -> bool:
    """Tell whether policy ``when`` wants a run told that ended so.

    ``was_good`` is how the run before of the same job ended, None where there was none.
    """
    good = exit_code in (0, 4)
    if not good or when == "always":
        return True
    if when == "warning":
        return exit_code == 4
    return when == "recovery" and was_good is False


def send(notices: Iterable[Notice], message: Message) -> dict[str, str]:
    """Send ``message`` by every notice; return what went wrong, by a name for each that failed."""
    problems = {}
    for number, notice in enumerate(notices, 1):
        if notice.kind != "ping" and message.state == START:
            continue
        try:
            SENDERS[notice.kind](notice.to, message)
        except Exception as error:  # whatever a service answers, the job has its own end
            problems[name(number, notice)] = _without(notice.to, error)
    return problems


def name(number: int, notice: Notice) -> str:
    """Return what a notice is called: by its place in config.yml, never by its address."""
    return f"{number} ({notice.kind})"


def _without(to: Secret, error: Exception) -> str:
    """Return what went wrong, without the address, which may hold a password."""
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
    """Tell a dead man's switch how a job ended."""
    address = ping_address(to.reveal(), message)
    if address:
        _http(address, message.text.encode(), {})


def ping_address(given: str, message: Message) -> str:
    """Return where to tell it; "" where a service does not want to know.

    healthchecks.io has a path for each: /start, nothing, /fail; its query stays behind that.  The
    push monitors of Uptime Kuma have status and msg in the query, and no word for a beginning.
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
        raise ValueError("an http or https address is wanted")
    request = urllib.request.Request(url, body, dict(headers), method="POST")
    proxies = environment.proxies()
    if urllib.request.proxy_bypass_environment(request.host, proxies):  # type: ignore[attr-defined]
        proxies = {}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))
    with opener.open(request, timeout=_SECONDS) as answer:
        answer.read(1 << 16)


def _mail(to: Secret, message: Message) -> None:
    """Hand a mail to the local MTA, which takes it from there (sendmail(8), -t)."""
    mail = EmailMessage()
    mail["To"], mail["Subject"] = to.reveal(), message.title
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834
    mail.set_content(message.text)
    _run([_SENDMAIL, "-t", "-i"], mail.as_bytes())


def _apprise(to: Secret, message: Message) -> None:
    """Have apprise(1) send it; the address goes by a file that exists in memory alone."""
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
