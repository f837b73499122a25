"""Stands in for GitLab as an OAuth provider, over the real tables of gitlabhq_production.

A browser is signed in to GitLab when it sends the cookie `_gitlab_session` with a user name in it, and that user
is taken to have allowed the application before. Codes and tokens are kept in memory.
"""

from __future__ import annotations

import base64
import secrets
import sys
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from . import oauth
from .pool import Pool
from .web import GITLAB, Request, Response, Routes, json_response, page, redirect, serve

CODE_SECONDS = 600
INVALID_CLIENT = (
    "Client authentication failed due to unknown client, no client authentication included,"
    " or unsupported authentication method."
)
INVALID_GRANT = (
    "The provided authorization grant is invalid, expired, revoked, does not match the redirection URI used in the"
    " authorization request, or was issued to another client."
)
INVALID_REDIRECT = "The redirect URI included is not valid."
Row = dict[str, Any]


@dataclass(frozen=True)
class Grant:
    """What a code stands for."""

    uid: str
    redirect_uri: str
    user: int
    until: float


class GitLab:
    """The application."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._grants: dict[str, Grant] = {}
        self._tokens: dict[str, int] = {}
        self.routes = Routes(
            ("GET", "/-/health", lambda request: page(200, "GitLab OK")),
            ("GET", "/users/sign_in", lambda request: page(200, "Sign in · GitLab")),
            ("GET", "/oauth/authorize", self.authorize),
            ("POST", "/oauth/token", self.token),
            ("GET", "/api/v4/user", self.user),
        )

    def authorize(self, request: Request) -> Response:
        """Give the signed-in user's browser a code, or an error page."""
        query = request.query
        with self._pool.transaction() as connection:
            application = oauth.find(connection, query.get("client_id", ""))
            user = connection.execute(
                "SELECT * FROM users WHERE username = %s AND state = 'active'",
                [request.cookies.get("_gitlab_session", "")],
            ).fetchone()
        if user is None:
            return redirect("/users/sign_in")
        if application is None:
            return page(401, "An error has occurred", INVALID_CLIENT)
        if query.get("redirect_uri") not in str(application["redirect_uri"]).split():
            return page(400, "An error has occurred", INVALID_REDIRECT)
        if query.get("response_type") != "code":
            return page(
                400,
                "An error has occurred",
                "The authorization server does not support this response type.",
            )
        code = secrets.token_hex(32)
        self._grants[code] = Grant(
            application["uid"], query["redirect_uri"], user["id"], time.monotonic() + CODE_SECONDS
        )
        return redirect(
            f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query.get('state', '')})}"
        )

    def token(self, request: Request) -> Response:
        """Exchange a code, once. The client is checked before the code."""
        form = {**request.form, **basic_credentials(request)}
        with self._pool.transaction() as connection:
            application = oauth.find(connection, form.get("client_id", ""))
        if application is None or not oauth.matches(
            form.get("client_secret", ""), application["secret"]
        ):
            return failure(401, "invalid_client", INVALID_CLIENT)
        if form.get("grant_type") != "authorization_code":
            return failure(
                400, "unsupported_grant_type", "The authorization grant type is not supported."
            )
        grant = self._grants.pop(form.get("code", ""), None)
        if not usable(grant, form):
            return failure(400, "invalid_grant", INVALID_GRANT)
        assert grant is not None
        token = secrets.token_hex(32)
        self._tokens[token] = grant.user
        return json_response(
            {
                "access_token": token,
                "token_type": "Bearer",
                "expires_in": 7200,
                "scope": "api",
                "created_at": int(time.time()),
            }
        )

    def user(self, request: Request) -> Response:
        """The profile of a token's owner."""
        identifier = self._tokens.get(request.bearer)
        if identifier is None:
            return json_response({"message": "401 Unauthorized"}, 401)
        with self._pool.transaction() as connection:
            row = connection.execute("SELECT * FROM users WHERE id = %s", [identifier]).fetchone()
        assert row is not None
        return json_response(
            {name: row[name] for name in ("id", "username", "name", "email", "state")}
        )


def usable(grant: Grant | None, form: dict[str, str]) -> bool:
    """Whether a code is of this client, for this address, and fresh."""
    if grant is None or grant.until < time.monotonic():
        return False
    return (grant.uid, grant.redirect_uri) == (form.get("client_id"), form.get("redirect_uri"))


def basic_credentials(request: Request) -> dict[str, str]:
    """Client credentials of an Authorization header, which win over the form's."""
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return {}
    uid, _, secret = base64.b64decode(value).decode().partition(":")
    return {"client_id": uid, "client_secret": secret}


def failure(status: int, error: str, description: str) -> Response:
    """An OAuth error."""
    return json_response({"error": error, "error_description": description}, status)


def main() -> int:
    """Serve on GITLAB: `gitlab SOCKET_DIRECTORY PORT DATABASE`."""
    directory, port, database = sys.argv[1:4]
    place = f"postgresql:///{quote(database)}?host={quote(directory)}&port={port}&user=gitlab"
    application = GitLab(Pool(place))
    serve(
        GITLAB, application.routes, lambda line: print(line, file=sys.stderr, flush=True)
    ).serve_forever()
    return 0
