"""Convert accounts with GitLab sign-in to email and password, and back.

Mattermost itself mails new passwords ("I forgot my password"). A mapping file, written first,
records the changes for an exact undo.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..clock import utc
from ..errors import ExitCode, Failure, reason
from ..mattermost import listener, service
from ..mattermost.site import Site
from ..postgresql import connection
from ..system import validation
from ..system.files import STATE, replace_file
from ..system.redaction import Secret

if TYPE_CHECKING:
    import psycopg

_FORMAT = 1
_ADMINISTRATOR = "system_admin"
_PEOPLE = (
    "SELECT id, username, email, roles, deleteat, coalesce(authdata, ''), updateat FROM users"
    " WHERE authservice = 'gitlab' ORDER BY username"
)
# Mattermost wants '' and NULL here, never the other way round (model.User.IsValid).
_CONVERT = (
    "UPDATE users SET authservice = '', authdata = NULL, updateat = %s"
    " WHERE id = ANY(%s) AND authservice = 'gitlab'"
)
_RETURN = "UPDATE users SET authservice = 'gitlab', authdata = %s, updateat = %s{} WHERE id = %s"


@dataclass(frozen=True)
class Person:
    """An account that signs in through GitLab."""

    id: str
    username: str
    email: str
    roles: str
    deleteat: int  # milliseconds since 1970, 0 while it is active
    authdata: str  # GitLab's id of the user
    updateat: int  # milliseconds since 1970

    @property
    def administrator(self) -> bool:
        return _ADMINISTRATOR in self.roles.split()


@dataclass(frozen=True)
class Changed:
    """The result of a conversion, of its dry run, or of an undo."""

    people: list[Person]
    mapping: Path | None = None
    administrator: str = ""  # who was proven able to sign in without GitLab
    local_administrators: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def preview(site: Site) -> Changed:
    """Return the affected accounts, and the possible administrators; changes nothing."""
    with connection.within(site.database) as session:
        people = _people(session)
        return Changed(
            people,
            local_administrators=_local_administrators(session),
            warnings=_doubts(site, people),
        )


def convert(site: Site, administrator: str, password: Secret) -> Changed:
    """Convert all accounts with GitLab sign-in to email and password.

    Raises Failure, with nothing changed, unless ``administrator`` can sign in with ``password``.
    """
    _refuse_without_email(site)
    prove_administrator(site, administrator, password)
    now = int(time.time() * 1000)
    with connection.within(site.database) as session, session.transaction():
        people = _people(session, " FOR UPDATE")
        if not people:
            return Changed([], administrator=administrator)
        mapping = _write_mapping(site, people, now)
        try:
            done = session.execute(_CONVERT, (now, [person.id for person in people]))
            if done.rowcount != len(people):
                raise Failure(
                    "The accounts were changed by another program", f"{done.rowcount} were found"
                )
        except BaseException:
            mapping.unlink(missing_ok=True)  # nothing is changed, so there is nothing to undo
            raise
    warnings = _doubts(site, people) + service.restarted(site)
    return Changed(people, mapping, administrator, warnings=warnings)


def undo(site: Site, mapping: Path) -> Changed:
    """Convert the accounts in ``mapping`` back; one that has changed is skipped with a warning.

    A new password is removed: Mattermost refuses an account with both.
    """
    after, wanted = _read_mapping(mapping)
    back, warnings = [], []
    with connection.within(site.database) as session, session.transaction():
        found = _as_they_are(session, wanted)
        taken = _taken_elsewhere(session, wanted)
        for person in wanted:
            problem = _obstacle(person, found.get(person.id), taken)
            if problem:
                warnings.append(f"{person.username} is skipped: {problem}")
            elif found[person.id][0] == "":
                _give_back(session, person, untouched=found[person.id][2] == after)
                back.append(person)
    if back:
        warnings += service.restarted(site)
    return Changed(back, mapping, warnings=warnings)


def prove_administrator(site: Site, name: str, password: Secret) -> None:
    """Raise Failure unless ``name`` is an administrator and can sign in with ``password``.

    Tried at Mattermost itself: the stored password may be an unknown one.
    """
    body = json.dumps({"login_id": name, "password": password.reveal()}).encode()
    there, users = listener.of(site.settings), "/api/v4/users"
    try:
        headers = {"Content-Type": "application/json"}
        answer = there.ask(f"{users}/login", body, headers, timeout=30)
        if answer.status != 200:
            raise _unproven(name, f"Mattermost answers {answer.status} to the sign-in")
        token, user = answer.headers.get("token", ""), validation.from_json(answer.body)
        there.ask(f"{users}/logout", b"", {"Authorization": f"Bearer {token}"}, timeout=30)
    except (OSError, ValueError) as error:
        raise Failure("Mattermost does not answer", reason(error), "Start it first.") from None
    roles = str(user.get("roles", "")).split() if isinstance(user, dict) else []
    if _ADMINISTRATOR not in roles:
        raise _unproven(name, "the account is not a system administrator")
    if user.get("auth_service"):
        raise _unproven(name, "it signs in through another service")


def _unproven(name: str, why: str) -> Failure:
    return Failure(
        f"{name} could not be confirmed as an administrator who can sign in without GitLab",
        why,
        "Name an administrator with a password of its own and without MFA (--admin). To make one: mmctl user "
        "create --local --system-admin, or in the System Console.",
    )


def _refuse_without_email(site: Site) -> None:
    if not site.settings.flag("EmailSettings", "EnableSignInWithEmail"):
        raise Failure(
            "Sign-in with email and password is off in Mattermost",
            "EmailSettings.EnableSignInWithEmail is off",
            "Turn it on in the System Console (Authentication, Email), then try again.",
        )


def _doubts(site: Site, people: Iterable[Person]) -> list[str]:
    lines = []
    if not site.settings.text("EmailSettings", "SMTPServer"):
        lines.append("Mattermost has no mail server, so it cannot send password resets")
    without = [
        person.username for person in people if "@" not in person.email and not person.deleteat
    ]
    if without:
        lines.append(f"No email address, so no password reset: {', '.join(without)}")
    return lines


def _people(session: psycopg.Connection[Any], lock: str = "") -> list[Person]:
    rows = session.execute(_PEOPLE + lock).fetchall()
    return [Person(*row) for row in rows]


def _local_administrators(session: psycopg.Connection[Any]) -> list[str]:
    rows = session.execute(
        "SELECT username FROM users WHERE coalesce(authservice, '') = '' AND password <> ''"
        " AND deleteat = 0 AND %s = ANY(string_to_array(roles, ' ')) ORDER BY 1",
        (_ADMINISTRATOR,),
    ).fetchall()
    return [str(row[0]) for row in rows]


def _write_mapping(site: Site, people: Iterable[Person], after: int) -> Path:
    """Write the mapping for an undo, before any change: for root only, synced to disk."""
    moment = datetime.now(timezone.utc)
    path = STATE / f"accounts-{moment:%Y%m%dT%H%M%SZ}.json"
    document = {
        "format": _FORMAT,
        "made": utc(moment),
        "site": site.settings.text("ServiceSettings", "SiteURL"),
        "updateat": after,
        "accounts": [vars(person) for person in people],
    }
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(path, (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise Failure(f"{path} cannot be written", str(error.strerror)) from error
    return path


def _person(value: Any) -> Person:
    checks = dict.fromkeys(("id", "username", "email", "roles", "authdata"), validation.text)
    return Person(
        **validation.members(
            value, {**checks, "deleteat": validation.count, "updateat": validation.count}
        )
    )


def _read_mapping(path: Path) -> tuple[int, list[Person]]:
    try:
        document = validation.from_json(path.read_bytes())
        if document["format"] != _FORMAT:
            raise ValueError(f"format {document['format']} is not known")
        return validation.count(document["updateat"]), [
            _person(account) for account in document["accounts"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Failure(
            f"{path} cannot be read",
            reason(error),
            "Give the file that the conversion named.",
            ExitCode.USAGE,
        ) from None


def _as_they_are(
    session: psycopg.Connection[Any], wanted: Iterable[Person]
) -> dict[str, tuple[str, str | None, int]]:
    rows = session.execute(
        "SELECT id, coalesce(authservice, ''), authdata, updateat FROM users"
        " WHERE id = ANY(%s) FOR UPDATE",
        ([person.id for person in wanted],),
    ).fetchall()
    return {row[0]: (row[1], row[2], row[3]) for row in rows}


def _taken_elsewhere(session: psycopg.Connection[Any], wanted: Iterable[Person]) -> dict[str, str]:
    """Return other accounts that now have a GitLab id of ``wanted``."""
    ids = {person.authdata: person.id for person in wanted}
    rows = session.execute(
        "SELECT authdata, id, username FROM users WHERE authdata = ANY(%s)", (list(ids),)
    ).fetchall()
    return {row[0]: row[2] for row in rows if ids[row[0]] != row[1]}


def _obstacle(
    person: Person, found: tuple[str, str | None, int] | None, taken: Mapping[str, str]
) -> str:
    if found is None:
        return "the account no longer exists"
    if person.authdata in taken:
        return f"{taken[person.authdata]} now signs in as that GitLab user"
    if found[0] not in ("", "gitlab") or found[1] not in (None, "", person.authdata):
        return "it now signs in another way"
    return ""


def _give_back(session: psycopg.Connection[Any], person: Person, *, untouched: bool) -> None:
    """Restore one row; exactly, where nothing has changed it since."""
    moment = person.updateat if untouched else int(time.time() * 1000)
    statement = _RETURN.format("" if untouched else ", password = ''")
    session.execute(statement, (person.authdata, moment, person.id))
