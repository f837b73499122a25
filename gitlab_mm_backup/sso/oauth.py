"""GitLab as Mattermost's sign-in provider: its application rows, and its token endpoint."""

from __future__ import annotations

import contextlib
import enum
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from ..errors import Failure, reason
from ..mattermost.site import Site
from ..postgresql.connection import within
from ..postgresql.endpoint import Endpoint
from ..system import namespaces, progress, validation
from ..system.redaction import Secret
from ..version import numbers
from .stored_secret import Form, form_of, store

if TYPE_CHECKING:
    import urllib.request

    import psycopg

APPLICATION_NAME = "GitLab Mattermost"  # reconfigure looks its row up by exactly this name
_TIME_OUT = 10
_CERTIFICATES = ("opt/gitlab/embedded/ssl/certs", "etc/gitlab/trusted-certs")


@dataclass(frozen=True)
class Pair:
    """The credentials of an OAuth client: the application's id and secret."""

    id: str
    secret: Secret


@dataclass(frozen=True)
class Application:
    """A row of GitLab's ``oauth_applications``."""

    row: int
    name: str
    uid: str
    stored: Secret  # a secret too while GitLab stores it as plain text
    redirect_uri: str
    scopes: str


class ProbeResult(enum.Enum):
    """The running GitLab's verdict on a pair."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNKNOWN = "unknown"  # it is down, elsewhere, or answers something else


@dataclass(frozen=True)
class Probe:
    """A verdict and its reason."""

    verdict: ProbeResult
    reason: str


def applications(site: Site, ids: Sequence[str]) -> list[Application] | None:
    """Return the rows with one of ``ids`` or with the name that Omnibus gives, oldest first.

    None where GitLab's database is not on this host.  Raises Failure when it does not answer.
    """
    endpoint = site.gitlab.database
    if endpoint is None:
        return None
    with within(endpoint) as session:
        rows = session.execute(
            "SELECT id, name, uid, secret, redirect_uri, coalesce(scopes, '')"
            " FROM oauth_applications WHERE uid = ANY(%s) OR name = %s ORDER BY id",
            (list(ids), APPLICATION_NAME),
        ).fetchall()
    return [
        Application(row[0], row[1], row[2], Secret(row[3] or ""), row[4] or "", row[5])
        for row in rows
    ]


@contextlib.contextmanager
def new_secret(site: Site, row: Application, secret: Secret) -> Iterator[None]:
    """Give ``row`` a new secret, in its form, when the block succeeds.

    Raises Failure for an unknown form, and when the row has changed.
    """
    form = form_of(row.stored.reveal())
    if form is Form.UNKNOWN:
        raise Failure(
            "The application's secret is stored in an unknown format",
            f"application {row.name!r}",
            "Make a new application instead: gitlab-mm sso repair --register",
        )
    with _transaction(site) as session:
        done = session.execute(
            "UPDATE oauth_applications SET secret = %s, updated_at = now()"
            " WHERE id = %s AND secret = %s",
            (store(secret, form), row.row, row.stored.reveal()),
        )
        if done.rowcount != 1:
            raise Failure("GitLab's application was changed by another program", f"row {row.row}")
        yield


@contextlib.contextmanager
def new_application(site: Site, pair: Pair) -> Iterator[None]:
    """Register ``pair`` as reconfigure does, when the block succeeds.

    The secret gets the form of the newest application; without any, the first form of this GitLab
    version.
    """
    with _transaction(site) as session:
        newest = session.execute(
            "SELECT secret FROM oauth_applications WHERE secret IS NOT NULL"
            " ORDER BY id DESC LIMIT 1"
        ).fetchone()
        form = form_of(newest[0]) if newest else Form.UNKNOWN
        if form is Form.UNKNOWN:
            form = Form.PBKDF2 if numbers(site.gitlab.version) >= (15, 4) else Form.PLAIN
        session.execute(
            "INSERT INTO oauth_applications"
            " (name, uid, secret, redirect_uri, scopes, trusted, created_at, updated_at)"
            " VALUES (%s, %s, %s, %s, '', true, now(), now())",
            (
                APPLICATION_NAME,
                pair.id,
                store(pair.secret, form),
                "\r\n".join(redirect_uris(site)),
            ),
        )
        yield


@contextlib.contextmanager
def _transaction(site: Site) -> Iterator[psycopg.Connection[Any]]:
    endpoint = refuse_without_database(site)
    with within(endpoint) as session, session.transaction():
        yield session


def refuse_without_database(site: Site) -> Endpoint:
    """Return GitLab's database; raises Failure where it is not on this host."""
    if site.gitlab.database is None:
        raise Failure(
            "GitLab's database is not on this host",
            hint="Make the application on GitLab's own host (Admin, Applications), and put its id "
            "and secret into mattermost['gitlab_id'] and ['gitlab_secret'] of gitlab.rb.",
        )
    return site.gitlab.database


def redirect_uris(site: Site) -> tuple[str, str]:
    """Return the two redirect URIs that Omnibus registers."""
    url = site.settings.text("ServiceSettings", "SiteURL").rstrip("/")
    return f"{url}/signup/gitlab/complete", f"{url}/login/gitlab/complete"


@progress.waiting("GitLab")
def probe(site: Site, pair: Pair) -> Probe:
    """Ask the running GitLab whether it accepts ``pair``, without a user.

    A token request with an invalid code: by RFC 6749 section 5.2 the answer is invalid_client for
    wrong credentials and invalid_grant for a wrong code, which GitLab checks only afterwards.
    """
    import urllib.error
    import urllib.request

    endpoint = site.settings.text("GitLabSettings", "TokenEndpoint")
    if not endpoint.startswith(("http://", "https://")):
        return Probe(ProbeResult.UNKNOWN, "Mattermost has no TokenEndpoint")
    form = {
        "client_id": pair.id,
        "client_secret": pair.secret.reveal(),
        "code": "gitlab-mm-backup-probe",
        "grant_type": "authorization_code",
        "redirect_uri": redirect_uris(site)[0],
    }
    request = urllib.request.Request(endpoint, urlencode(form).encode())
    try:
        opener = _opener(site, endpoint)
        with namespaces.at_site(lambda: opener.open(request, timeout=_TIME_OUT)) as answer:
            return Probe(ProbeResult.UNKNOWN, f"GitLab answers {answer.status} to a test request")
    except urllib.error.HTTPError as error:
        return _judge(error.code, error.read(65536))
    except (urllib.error.URLError, OSError, ValueError) as error:
        return Probe(ProbeResult.UNKNOWN, f"GitLab cannot be asked: {reason(error)}")


def _judge(status: int, body: bytes) -> Probe:
    try:
        error = validation.from_json(body).get("error")
    except (ValueError, AttributeError):
        error = None
    if error == "invalid_grant":
        return Probe(ProbeResult.ACCEPTED, "GitLab accepts the id and secret")
    if error == "invalid_client":
        return Probe(ProbeResult.REFUSED, "GitLab refuses the id and secret (invalid_client)")
    return Probe(
        ProbeResult.UNKNOWN, f"GitLab answers {status} {error or 'without an OAuth error'}"
    )


def _opener(site: Site, endpoint: str) -> urllib.request.OpenerDirector:
    """Verify TLS by Omnibus's certificates; follow no redirect, since the request has a secret."""
    import urllib.request

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            return None

    direct = urllib.request.ProxyHandler({})
    if endpoint.startswith("http://"):  # the host's certificates take 30 ms to load
        return urllib.request.build_opener(direct, Stay())
    context = ssl.create_default_context()
    for folder in _CERTIFICATES:
        for path in sorted((site.root / folder).glob("*")):
            if path.is_file() and path.suffix in (".crt", ".pem", ".cer"):
                try:
                    context.load_verify_locations(path)
                except (ssl.SSLError, OSError):
                    continue  # GitLab's folder may hold readme files and keys too
    return urllib.request.build_opener(direct, urllib.request.HTTPSHandler(context=context), Stay())
