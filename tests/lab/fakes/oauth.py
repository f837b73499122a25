"""OAuth applications as GitLab stores them: three forms of a secret, and how Omnibus finds or makes its row.

Sources: gitlabhq's doorkeeper initializer and lib/gitlab/doorkeeper_secret_storing, omnibus-gitlab's authorizer helper.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .pool import Connection

APPLICATION_NAME = "GitLab Mattermost"
PBKDF2_ROUNDS = 20000

Credentials = tuple[str, str]


def redirect_uris(site_url: str) -> str:
    """The two lines that Omnibus registers, with CR LF between them."""
    return f"{site_url}/signup/gitlab/complete\r\n{site_url}/login/gitlab/complete"


@functools.cache  # PBKDF2 takes 20 ms, and each sign-in asks for the same secret
def stored(secret: str, form: str) -> str:
    """How GitLab stores a secret; form is plain, pbkdf2 or sha512."""
    if form == "plain":
        return secret
    if form == "sha512":
        return hashlib.sha512(secret.encode()).hexdigest()
    digest = hashlib.pbkdf2_hmac("sha512", secret.encode(), b"", PBKDF2_ROUNDS)
    checksum = base64.b64encode(digest, altchars=b"./").decode().rstrip("=")
    return f"$pbkdf2-sha512${PBKDF2_ROUNDS}$${checksum}"


def matches(secret: str, value: str) -> bool:
    """Whether a secret belongs to a stored value, whichever form that value has."""
    return any(
        hmac.compare_digest(stored(secret, form).encode(), value.encode())
        for form in ("sha512", "pbkdf2", "plain")
    )


def connect(socket_directory: str, port: int, database: str) -> Connection:
    """Connect as GitLab's role; only the OS users git and gitlab-psql may (the latter as itself)."""
    import psycopg  # here: it takes a while, and reconfigure and gitlab-ctl do without
    from psycopg.rows import dict_row

    return psycopg.connect(
        host=socket_directory,
        port=port,
        dbname=database,
        user="gitlab",
        row_factory=dict_row,
        autocommit=True,
    )


def find(connection: Connection, uid: str) -> dict[str, Any] | None:
    """The application with this id."""
    return connection.execute("SELECT * FROM oauth_applications WHERE uid = %s", [uid]).fetchone()


def find_by_address(connection: Connection, addresses: str) -> dict[str, Any] | None:
    """Omnibus's application for these redirect addresses: name and text must be exactly its own."""
    return connection.execute(
        "SELECT * FROM oauth_applications WHERE name = %s AND redirect_uri = %s ORDER BY id LIMIT 1",
        [APPLICATION_NAME, addresses],
    ).fetchone()


def create(connection: Connection, addresses: str, credentials: Credentials, form: str) -> None:
    """Make the row; a second row with the same uid raises psycopg.errors.UniqueViolation."""
    connection.execute(
        "INSERT INTO oauth_applications (name, uid, secret, redirect_uri, scopes, created_at, updated_at)"
        " VALUES (%s, %s, %s, %s, '', now(), now())",
        [APPLICATION_NAME, credentials[0], stored(credentials[1], form), addresses],
    )


def register_ours(
    connection: Connection, addresses: str, credentials: Credentials, form: str
) -> None:
    """Since 15.4: look for our own pair under this name and address, else create it with that pair."""
    row = find_by_address(connection, addresses)
    if row is None or row["uid"] != credentials[0] or not matches(credentials[1], row["secret"]):
        create(connection, addresses, credentials, form)


def register_theirs(
    connection: Connection, addresses: str, made: Credentials, form: str
) -> Credentials:
    """Before 15.4: take the first row of this name and address (its secret as stored!), else let GitLab make one."""
    row = find_by_address(connection, addresses)
    if row is not None:
        return str(row["uid"]), str(row["secret"])
    create(connection, addresses, made, form)
    return made
