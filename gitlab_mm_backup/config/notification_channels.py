"""The ways to send a notification: Mattermost, mail, a dead man's switch, apprise."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from ..system import environment, process, progress
from ..system.private_files import InMemory
from ..system.process import Command
from ..system.redaction import Secret

_SECONDS = 20  # for each notification
_SENDMAIL = "/usr/sbin/sendmail"
START = "start"  # the state of a ping when a job begins; success or fail at its end


@dataclass(frozen=True)
class Message:
    """The text of a notification; it may not contain a secret."""

    title: str
    text: str
    state: str  # START, success or fail


@dataclass(frozen=True)
class Channel:
    """A way to send a notification.

    ``send`` gets the address and raises any exception if the service does not take the message.
    """

    address: str  # what the address is, in the description of the option
    send: Callable[[Secret, Message], None]
    every_run: bool = False  # gets each start and end, whatever the option ``on`` says


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
    fields = {"status": "up" if message.state == "success" else "down", "msg": message.title}
    changed = [(name, fields.get(name, value)) for name, value in query]
    return urlunsplit(address._replace(query=urlencode(changed)))


@progress.waiting("webhook")
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
    from email.message import EmailMessage

    mail = EmailMessage()
    mail["To"], mail["Subject"] = to.reveal(), message.title
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834
    mail.set_content(message.text)
    _run([_SENDMAIL, "-t", "-i"], mail.as_bytes())


def _apprise(to: Secret, message: Message) -> None:
    """Send it through apprise(1); the address is passed in a file in memory."""
    config = InMemory(Secret(f"{to.reveal()}\n"))
    _run(["apprise", "--title", message.title, "--config", config], message.text.encode())


def _run(argv: Sequence[str | InMemory], text: bytes) -> None:
    import tempfile

    with tempfile.TemporaryFile() as told:
        told.write(text)
        told.seek(0)
        process.run(Command(argv), stdin=told, timeout=_SECONDS)


# By the name that is their ``type`` in config.yml.
CHANNELS: Mapping[str, Channel] = {
    "mattermost": Channel("an incoming webhook", _mattermost),
    "mail": Channel("an address, through this host's own sendmail", _mail),
    "ping": Channel("a dead man's switch", _ping, every_run=True),
    "apprise": Channel("any service that Debian's apprise knows", _apprise),
}
