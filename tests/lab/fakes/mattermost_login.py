"""Sign-in through GitLab: the two ends of the authorization-code flow that Mattermost plays."""

from __future__ import annotations

import base64
import json
import secrets
import urllib.error
import urllib.request
from typing import Any, Callable
from urllib.parse import urlencode, urlsplit

from . import mattermost_data as data
from .pool import Connection, Pool
from .web import Request, Response, page, redirect

Config = dict[str, Any]
TOKEN_SECONDS = 30
BAD_TOKEN_RESPONSE = "Bad response from token request"


class SignInRefused(Exception):
    """Sign-in failed; the text is what the page says."""

    def __init__(self, status: int, text: str, detail: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.detail = detail


class Login:
    """Handlers of the sign-in addresses."""

    def __init__(self, config: Config, pool: Pool, log: Callable[..., None]) -> None:
        self._config = config
        self._gitlab = config["GitLabSettings"]
        self._pool = pool
        self._log = log

    def start(self, request: Request) -> Response:
        """`/oauth/gitlab/login`: remember the browser by a cookie and send it to GitLab."""
        if not self._gitlab["Enable"]:
            return page(501, "Mattermost", "GitLab sign-in is not available on this server.")
        cookie, token = data.new_id(), secrets.token_hex(32)
        state = base64.b64encode(json.dumps({"action": "login", "token": token}).encode()).decode()
        with self._pool.transaction() as connection:
            row = {
                "token": token,
                "createat": data.now(),
                "type": "oauth",
                "extra": f":login:{cookie}",
            }
            data.insert(connection, "tokens", row)
        parameters = {
            "response_type": "code",
            "client_id": self._gitlab["Id"],
            "redirect_uri": self._redirect_uri(request),
            "state": state,
        }
        if self._gitlab["Scope"]:
            parameters["scope"] = self._gitlab["Scope"]
        return redirect(f"{self._gitlab['AuthEndpoint']}?{urlencode(parameters)}").cookie(
            "MMOAUTH", cookie, age=TOKEN_SECONDS * 60
        )

    def complete(self, request: Request) -> Response:
        """`/signup/gitlab/complete`: exchange the code, find or make the account, open a session."""
        if request.query.get("error") == "access_denied":
            return error_page("oauth_access_denied")
        if not request.query.get("code"):
            return error_page("oauth_missing_code")
        try:
            with self._pool.transaction() as connection:
                self._check_state(connection, request)
            profile = self._profile(self._token(request))
            with self._pool.transaction() as connection:
                user = account(connection, profile)
                session = data.create_session(connection, user)
        except SignInRefused as refusal:
            self._log("error", str(refusal), path=request.path, details=refusal.detail)
            return page(refusal.status, "Mattermost", str(refusal))
        answer = (
            redirect(host_of(request), 307)
            .cookie("MMOAUTH", "")
            .cookie("MMAUTHTOKEN", session["token"])
        )
        answer.cookie("MMUSERID", user["id"], http_only=False)
        return answer.cookie("MMCSRF", json.loads(session["props"])["csrf"], http_only=False)

    def _redirect_uri(self, request: Request) -> str:
        site = self._config["ServiceSettings"]["SiteURL"] or host_of(request)
        return f"{site}/signup/gitlab/complete"

    def _check_state(self, connection: Connection, request: Request) -> None:
        """The state must be one we gave out, to this browser; it is used up."""
        try:
            token = json.loads(base64.b64decode(request.query.get("state", "")))["token"]
        except (ValueError, KeyError, TypeError) as error:
            raise SignInRefused(400, "Invalid state", repr(error)) from error
        row = data.first(connection, "tokens", token=token, type="oauth")
        if row is None or row["createat"] < data.now() - TOKEN_SECONDS * 60 * 1000:
            raise SignInRefused(400, "Invalid state token")
        connection.execute("DELETE FROM tokens WHERE token = %s", [token])
        if not secrets.compare_digest(
            row["extra"].rpartition(":")[2], request.cookies.get("MMOAUTH", "")
        ):
            raise SignInRefused(400, "Invalid state; missing or wrong cookie")

    def _token(self, request: Request) -> str:
        """Ask GitLab for a token with our credentials."""
        # Here it goes by the host that the browser asked, whatever SiteURL is.
        below = urlsplit(self._config["ServiceSettings"]["SiteURL"]).path
        address = f"{host_of(request)}{below}/signup/gitlab/complete"
        form = {
            "client_id": self._gitlab["Id"],
            "client_secret": self._gitlab["Secret"],
            "code": request.query["code"],
            "grant_type": "authorization_code",
            "redirect_uri": address,
        }
        status, body = fetch(self._gitlab["TokenEndpoint"], form=form)
        token = parsed(body).get("access_token")
        if status != 200 or not token:
            raise SignInRefused(
                500,
                BAD_TOKEN_RESPONSE,
                f"status_code={status} body={body.decode(errors='replace')}",
            )
        return str(token)

    def _profile(self, token: str) -> dict[str, Any]:
        """Ask GitLab whose token it is."""
        status, body = fetch(self._gitlab["UserApiEndpoint"], token=token)
        profile = parsed(body)
        if status != 200 or "id" not in profile:
            raise SignInRefused(500, "Token request to gitlab failed", f"status_code={status}")
        return profile


def host_of(request: Request) -> str:
    """The address of the site as this browser sees it."""
    scheme = "https" if request.headers.get("x-forwarded-proto") == "https" else "http"
    return f"{scheme}://{request.headers.get('host', '')}"


def error_page(kind: str) -> Response:
    """Send the browser to the page of an error."""
    return redirect(f"/error?{urlencode({'service': 'Gitlab', 'type': kind})}", 307)


def account(connection: Connection, profile: dict[str, Any]) -> data.Row:
    """The account of a GitLab user, made at the first sign-in; a local account with the same address stays apart."""
    identifier = str(profile["id"])
    user = data.first(connection, "users", authservice="gitlab", authdata=identifier)
    if user is not None:
        return user
    if data.first(connection, "users", email=profile["email"]) is not None:
        raise SignInRefused(
            400,
            "There is already an account associated with that email address using a sign in method other than gitlab.",
        )
    return data.create_user(
        connection, profile["username"], profile["email"], profile["name"], identifier
    )


def fetch(address: str, form: dict[str, str] | None = None, token: str = "") -> tuple[int, bytes]:
    """Send a request to GitLab; gives status and body, or refuses the sign-in when GitLab cannot be reached."""
    headers = {"Accept": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(address, urlencode(form).encode() if form else None, headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except (OSError, ValueError) as error:
        raise SignInRefused(500, "Token request failed", str(error)) from error


def parsed(body: bytes) -> dict[str, Any]:
    """A JSON object, or nothing."""
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
