"""A set's Mattermost for one person to look around in, for a limited time; nothing is kept.

It runs as in a rehearsal. The scratch database gets a session for an account, and a gate on this
host's loopback lets in who has that session.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import re
import secrets
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from .. import clock
from ..checks import Result
from ..config.settings import Settings as Ours
from ..errors import ExitCode, Failure, Interrupted
from ..mattermost import gate
from ..mattermost.gate import Gate, Visit
from ..mattermost.site import Site
from ..postgresql import connection
from ..postgresql.endpoint import Endpoint
from ..store.check_records import Depth
from ..store.sets import BackupSet
from ..system import humanize, namespaces
from ..system.process import Finished
from ..system.redaction import Secret
from . import boot, job
from . import checks as rehearsal_checks
from .boot import Booted
from .job import RehearsalRun, Unpacked

if TYPE_CHECKING:
    import psycopg

    Session = psycopg.Connection[Any]

log = logging.getLogger(__name__)

_ADMIN = "system_admin"
_LETTERS = "ybndrfg8ejkmcpqxot1uwisza345h769"  # of ids and tokens: NewId of Mattermost
_ID = re.compile(r"[a-z0-9]{26}")  # goes into the header of a response
_GLANCE = 0.2  # seconds between two looks
_OUTPUT = 1  # the descriptor of stdout
# Permissions whose names begin so, or end in _view, change nothing (model/permission.go).
_READING = re.compile(r"(?:sysconsole_)?(?:read|view|list|get|download)_\w+|\w+_view")
_BOTS = "SELECT pg_catalog.to_regclass('bots') IS NOT NULL"  # since Mattermost 5.10
_ROLES = "SELECT pg_catalog.to_regclass('roles') IS NOT NULL"  # since Mattermost 4.9
_PEOPLE = """
    SELECT u.id, u.username, u.roles, u.deleteat <> 0, {bot} FROM users u
    WHERE {condition} ORDER BY u.createat, u.id"""
# A row of any version: columns that it lacks are passed over.
_ADD_SESSION = "INSERT INTO sessions SELECT * FROM jsonb_populate_record(NULL::sessions, %s::jsonb)"


@dataclass(frozen=True)
class Wish:
    """How to open a set."""

    user: str  # name or id; "" for the oldest system administrator
    port: int  # of the loopback
    time: timedelta  # until it closes
    search: bool  # build the search indexes


@dataclass(frozen=True)
class Opened:
    """A set that is open."""

    address: Secret  # works once
    user: str
    until: datetime
    remarks: list[str]  # what is not as people may expect
    seconds: float  # to load, unpack and start


@dataclass(frozen=True)
class Closed:
    """A set that was open."""

    opened: Opened
    reason: str  # the name of a signal, time limit, or output closed


@dataclass
class _Opening:
    """A set that is being opened, and what has become of it."""

    run: RehearsalRun
    wish: Wish
    listener: socket.socket
    ready: Callable[[Opened], object]
    over: threading.Event = field(default_factory=threading.Event)
    opened: Opened | None = None
    reason: str = ""


@dataclass(frozen=True)
class Person:
    """An account that signs in."""

    id: str
    name: str
    roles: str


def open_set(
    set_: BackupSet, site: Site, wish: Wish, ours: Ours, ready: Callable[[Opened], object]
) -> Closed:
    """Start Mattermost from ``set_``, call ``ready``, and close it when its time is over.

    A signal after ``ready`` closes it too. The site is not changed, and no data leaves this host.
    Raises Failure if it cannot be opened, or where Mattermost ends by itself.
    """
    if why := boot.refusal(site, set_.manifest.mattermost):
        hint = "gitlab-mm ls, find and extract need no Mattermost."
        raise Failure(f"Set {set_.name} cannot be opened on this host", why, hint)
    depth = Depth.FULL if wish.search else Depth.USUAL
    with (
        gate.bound(wish.port) as listener,
        job.begun(set_, site, depth, ours, "opening a set") as run,
    ):
        run.kept = rehearsal_checks.kept(set_)
        run.note(*rehearsal_checks.origin(set_))
        _refuse_damaged(run)
        opening = _Opening(run, wish, listener, ready)
        guard = functools.partial(run.warden.guard, functools.partial(_show, opening))
        try:
            namespaces.without_network(
                functools.partial(guard, opening.over.set), cancel=opening.over.set
            )
        except Interrupted as interrupted:
            if opening.opened is None:
                raise
            opening.reason = interrupted.signal_name
    assert opening.opened is not None
    return Closed(opening.opened, opening.reason)


def _refuse_damaged(run: RehearsalRun, unpacked: Unpacked | Failure | None = None) -> None:
    """Raise Failure for a failed check of the set."""
    found = [check for check in run.checks if check.result is Result.FAILED]
    details = [f"{check.name}: {check.detail}" for check in found]
    if isinstance(unpacked, Failure):
        details.append(f"files: {unpacked}")
    if details:
        raise Failure(
            f"Set {run.set.name} cannot be opened",
            "; ".join(details),
            "gitlab-mm list shows others.",
        )


def _show(opening: _Opening) -> None:
    """Restore, start and serve; runs without network."""
    run, wish = opening.run, opening.wish
    assert run.kept is not None
    with contextlib.ExitStack() as held:
        endpoint, unpacked = held.enter_context(job.restored(run))
        _refuse_damaged(run, unpacked)
        person, cookies, remarks = _prepare(endpoint, wish.user)
        if run.kept.uploads_elsewhere:
            remarks.append("Uploads cannot be shown: they are in object storage, not in the set.")
        log.info("Starting Mattermost, without network")
        with run.deadlines.step(job.STARTING):
            booted, ended = held.enter_context(_started(opening, endpoint, unpacked))
        run.deadlines.finish()
        key, until = Secret(secrets.token_urlsafe(24)), clock.now() + wish.time
        visit = Visit(key, cookies, _banner(run.set), boot.inside(run.kept.below))
        threading.Thread(target=Gate(opening.listener, visit).serve, daemon=True).start()
        address = Secret(f"{_origin(wish)}/{key.reveal()}")
        log.info("Open for %s until %s", humanize.plain(person.name), _local(until))
        seconds = run.seconds + booted.seconds
        opening.opened = Opened(address, person.name, until, remarks, seconds)
        opening.ready(opening.opened)
        opening.reason = _wait(opening, ended)


def _started(
    opening: _Opening, endpoint: Endpoint, unpacked: Unpacked | Failure | None
) -> AbstractContextManager[tuple[Booted, Callable[[], Finished | None]]]:
    run = opening.run
    assert run.kept is not None and isinstance(unpacked, Unpacked)
    return boot.started(
        run.site,
        run.kept.environment,
        unpacked.home,
        unpacked.data,
        run.place.socket,
        endpoint,
        run.kept.below,
        overrides(_origin(opening.wish), run.kept.below),
    )


def _origin(wish: Wish) -> str:
    return f"http://{gate.HOST}:{wish.port}"


def _wait(opening: _Opening, ended: Callable[[], Finished | None]) -> str:
    """Return why it is to be closed; "" where a signal or a failure elsewhere says it."""
    end = time.monotonic() + opening.wish.time.total_seconds()
    output = select.poll()
    output.register(_OUTPUT, 0)  # POLLHUP and POLLERR: its terminal or reader is gone (poll(2))
    while not opening.over.wait(_GLANCE):
        finished = ended()
        if finished is not None:
            raise boot.ended_early(finished)
        if output.poll(0):
            return "output closed"
        if time.monotonic() > end:
            return "time limit"
    return ""


def _banner(set_: BackupSet) -> str:
    return f"State of {_local(set_.manifest.made)}, from a backup. Nothing you change is kept."


def _local(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M %Z")


def overrides(origin: str, below: str) -> dict[str, str | Secret]:
    """Return variables for an opened Mattermost at ``origin``, besides those of boot.overrides."""
    names = [
        *("ALLOWCOOKIESFORSUBDOMAINS", "ENABLEINCOMINGWEBHOOKS", "ENABLEOAUTHSERVICEPROVIDER"),
        *("ENFORCEMULTIFACTORAUTHENTICATION", "TLSSTRICTTRANSPORT"),
    ]
    return {
        **{f"MM_SERVICESETTINGS_{name}": "false" for name in names},
        "MM_RATELIMITSETTINGS_ENABLE": "false",  # all requests come from one address
        "MM_SERVICESETTINGS_SITEURL": f"{origin}{below}",
        "MM_SERVICESETTINGS_ALLOWCORSFROM": origin,
        "MM_SERVICESETTINGS_WEBSOCKETURL": "",
    }


def _prepare(endpoint: Endpoint, wanted: str) -> tuple[Person, dict[str, Secret], list[str]]:
    """Sign an account in and take the others' rights to write; return it, cookies and remarks."""
    with connection.within(endpoint) as session:
        person = find_person(session, wanted)
        cookies = sign_in(session, person)
        if take_permissions(session):
            return person, cookies, []
    return person, cookies, ["Messages can be written: this Mattermost has no permissions to take."]


def find_person(session: Session, wanted: str) -> Person:
    """Return the account of a name or id, or the oldest system administrator.

    Raises Failure where there is none, or it cannot sign in.
    """
    name = wanted[1:] if wanted.startswith("@") else wanted
    condition = "lower(u.username) = lower(%(name)s) OR u.id = %(name)s"
    if not wanted:
        condition = "u.deleteat = 0 AND %(name)s = ANY (string_to_array(u.roles, ' '))"
    (bots,) = session.execute(_BOTS).fetchone() or (False,)
    bot = "EXISTS (SELECT 1 FROM bots b WHERE b.userid = u.id)" if bots else "false"
    query = _PEOPLE.format(bot=bot, condition=condition)
    found = session.execute(query, {"name": name or _ADMIN}).fetchall()
    shown = humanize.plain(name)
    if wanted and not found:
        hint = "gitlab-mm ls SET lists the users of a set."
        raise Failure(f"The set has no user {shown}", "", hint, ExitCode.USAGE)
    for id_, username, roles, deactivated, is_bot in found:
        if not deactivated and not is_bot and _ID.fullmatch(id_):
            return Person(id_, username, roles or "")
    if not wanted:
        raise Failure(
            "The set has no active system administrator", "", "Give an account: --as USER."
        )
    _, _, _, deactivated, is_bot = found[0]
    why = "is deactivated" if deactivated else "is a bot" if is_bot else "has no valid id"
    hint = "Give another account: --as USER."
    raise Failure(f"{shown} cannot sign in", f"the account {why}", hint, ExitCode.USAGE)


def sign_in(session: Session, person: Person) -> dict[str, Secret]:
    """Replace all sessions by one for ``person``; return its cookies."""
    token, csrf = Secret(_new_id()), Secret(_new_id())
    now = int(time.time() * 1000)
    guest = "system_guest" in person.roles.split()
    row = {
        **dict.fromkeys(("createat", "lastactivityat"), now),
        "id": _new_id(),
        "token": token.reveal(),
        "expiresat": 0,  # it ends with the server: never, by IsExpired of model/session.go
        "userid": person.id,
        "deviceid": "",
        "roles": person.roles,
        "isoauth": False,
        "expirednotify": False,
        "props": {"csrf": csrf.reveal(), "is_guest": str(guest).lower()},
    }
    session.execute("DELETE FROM sessions")
    session.execute(_ADD_SESSION, (json.dumps(row),))
    return {
        gate.SESSION_COOKIE: token,
        gate.USER_COOKIE: Secret(person.id),
        gate.CSRF_COOKIE: csrf,
    }


def _new_id() -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(26))


def take_permissions(session: Session) -> bool:
    """Leave all roles but the system administrator's only permissions to read.

    Return False where the version has its permissions in the program.
    """
    (has_roles,) = session.execute(_ROLES).fetchone() or (False,)
    if not has_roles:
        return False
    rows = session.execute("SELECT id, permissions FROM roles WHERE name <> %s", (_ADMIN,))
    for id_, permissions in rows.fetchall():
        session.execute(
            "UPDATE roles SET permissions = %s WHERE id = %s", (readable(permissions or ""), id_)
        )
    return True


def readable(permissions: str) -> str:
    """Return those of ``permissions``, words in a text, that change nothing."""
    return " ".join(word for word in permissions.split() if _READING.fullmatch(word))
