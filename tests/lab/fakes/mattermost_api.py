"""The part of Mattermost's API (version 4) that the lab uses."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any, Callable

import psycopg

from . import mattermost_data as data
from . import mattermost_files, mattermost_roles, mattermost_websocket
from .generation import version_tuple
from .mattermost_json import failure, one, shown
from .pool import Connection, Pool
from .web import Request, Response, json_response

Config = dict[str, Any]
Row = data.Row
Action = Callable[..., Response]
PAGE = 60
# Settings that browsers get before a login, those that the lab asks for.
OPEN_SETTINGS = (
    ("TeamSettings", "SiteName", "SiteName"),
    ("TeamSettings", "EnableOpenServer", "EnableOpenServer"),
    ("TeamSettings", "EnableUserCreation", "EnableUserCreation"),
    ("EmailSettings", "EnableSignInWithEmail", "EnableSignInWithEmail"),
    ("ServiceSettings", "WebsocketPort", "WebsocketPort"),
    ("ServiceSettings", "WebsocketSecurePort", "WebsocketSecurePort"),
    ("GitLabSettings", "Enable", "EnableSignUpWithGitLab"),
)


def ping_fields(version: tuple[int, ...]) -> list[str]:
    """The fields of a ping that are no states."""
    systems = ["Android", "Ios", *(["Desktop"] if version < (6,) else [])]
    fields = [f"{system}{which}Version" for system in systems for which in ("Latest", "Min")]
    return fields + (["ActiveSearchBackend"] if version >= (9,) else [])


class Api:
    """Handlers; those made by `signed_in` get the connection and the session's user."""

    def __init__(self, config: Config, version: str, pool: Pool, root: Path) -> None:
        self._config = config
        self._version = version
        self._pool = pool
        self._root = root

    def routes(self) -> list[tuple[str, str, Callable[..., Response]]]:
        """Method, path and handler."""
        team, channel, file = (
            rf"(?P<{name}>[a-z0-9]{{26}})" for name in ("team", "channel", "file")
        )
        free = [
            ("GET", "/system/ping", self.ping),
            ("GET", "/config/client", self.client_config),
            ("POST", "/users/login", self.log_in),
            ("GET", "/websocket", self.websocket),
        ]
        guarded: list[tuple[str, str, Action]] = [
            ("GET", "/users/me", self.me),
            ("POST", "/users/logout", self.log_out),
            ("POST", "/users", self.create_user),
            ("POST", "/teams", self.create_team),
            ("GET", "/teams/name/(?P<name>[^/]+)", self.team_by_name),
            ("GET", "/users/me/teams", self.my_teams),
            ("POST", f"/teams/{team}/members", self.join_team),
            ("GET", f"/users/me/teams/{team}/channels", self.my_channels),
            ("POST", "/channels", self.create_channel),
            ("POST", f"/channels/{channel}/members", self.join_channel),
            ("POST", "/posts", self.create_post),
            ("GET", r"/posts/(?P<post>[a-z0-9]{26})", self.post),
            ("GET", f"/channels/{channel}/posts", self.posts),
            ("POST", "/files", self.upload),
            ("GET", f"/files/{file}(?P<kind>|/thumbnail|/preview)", self.download),
            ("GET", f"/files/{file}/info", self.file_info),
            ("GET", f"/files/{file}/link", self.file_link),
            ("POST", "/users/(?P<who>[a-z0-9]{26})/image", self.set_picture),
            ("POST", "/emoji", self.create_emoji),
        ]
        routes = free + [(method, path, self.signed_in(action)) for method, path, action in guarded]
        return [(method, f"/api/v4{path}", handler) for method, path, handler in routes]

    def signed_in(self, action: Action) -> Callable[..., Response]:
        """A handler that only answers to a session, with errors as the API gives them."""

        def handler(request: Request, **parameters: str) -> Response:
            try:
                with self._pool.transaction() as connection:
                    cookie = request.cookies.get("MMAUTHTOKEN", "")
                    user = data.session_user(connection, request.bearer or cookie)
                    forged = not request.bearer and not self._same_page(request, connection)
                    if user is None or forged:
                        return failure(
                            401,
                            "api.context.session_expired",
                            "Invalid or expired session, please login again.",
                        )
                    return action(request, connection, user, **parameters)
            except psycopg.errors.UniqueViolation as error:
                return failure(400, "store.exists", str(error))
            except psycopg.Error as error:
                return failure(500, "store.sql", str(error))

        return handler

    def _same_page(self, request: Request, connection: Connection) -> bool:
        """Whether what comes with a browser's cookie is from Mattermost's own page (Handler.checkCSRFToken)."""
        session = data.first(connection, "sessions", token=request.cookies.get("MMAUTHTOKEN", ""))
        if request.method == "GET" or session is None:
            return True
        props = (
            session["props"] if isinstance(session["props"], dict) else json.loads(session["props"])
        )
        return (
            request.headers.get("x-csrf-token", "") == props.get("csrf", "")
            or request.headers.get("x-requested-with") == "XMLHttpRequest"
        )

    def websocket(self, request: Request) -> Response:
        """The connection by which the server tells browsers what is new."""
        settings = self._config["ServiceSettings"]
        return mattermost_websocket.connect(request, settings, self._version)

    def _forbidden(
        self, connection: Connection, user: Row, permission: str, **place: str
    ) -> Response | None:
        if mattermost_roles.grants(connection, self._version, user, permission, **place):
            return None
        text = "You do not have the appropriate permissions."
        return failure(403, "api.context.permissions", text)

    def ping(self, request: Request) -> Response:
        """Health; with get_server_status also of the database and of the folder for uploads."""
        answer = dict.fromkeys(ping_fields(version_tuple(self._version)), "")
        if "ActiveSearchBackend" in answer:
            answer["ActiveSearchBackend"] = "database"
        # The states came with 5.14 (mattermost pull request 11267); before, the question is passed over.
        if request.query.get("get_server_status") != "true" or version_tuple(self._version) < (
            5,
            14,
        ):
            return json_response({**answer, "status": "OK"})
        database, files = self._database_answers(), self._folder_is_writable()
        states = {True: "OK", False: "UNHEALTHY"}
        answer.update(
            database_status=states[database],
            filestore_status=states[files],
            status=states[database and files],
        )
        return json_response(answer, 200 if database and files else 500)

    def client_config(self, request: Request) -> Response:
        """What every browser may know; it has to ask for the old form, the only one there is."""
        version = version_tuple(self._version)
        if request.query.get("format") != "old" and version < (11,):
            return failure(
                400 if "format" in request.query else 501,
                "api.config.client.old_format",
                "New format not supported.",
            )
        with self._pool.transaction() as connection:
            row = data.first(connection, "systems", name="DiagnosticId")
        answer = {"Version": self._version, "DiagnosticId": row["value"] if row else ""}
        for section, key, name in OPEN_SETTINGS:
            value = self._config[section][key]
            answer[name] = str(value).lower() if isinstance(value, bool) else str(value)
        if version >= (11,):  # only with a licence for it
            del answer["EnableSignUpWithGitLab"]
        # From 4.10 to 6 it has no address before a login (config/client.go).
        if not (4, 10) <= version < (7,):
            answer["SiteURL"] = self._config["ServiceSettings"]["SiteURL"].rstrip("/")
        return json_response(answer)

    def log_in(self, request: Request) -> Response:
        """Sign in with a password; the session's token is in a header. An account of another service has no token."""
        asked = request.json()
        refused = failure(
            401, "api.user.login.invalid_credentials_email_username", "Wrong password."
        )
        if not self._config["EmailSettings"]["EnableSignInWithEmail"]:
            return refused
        with self._pool.transaction() as connection:
            user = data.first(connection, "users", username=asked["login_id"])
            if user is None or user["authservice"] or user["deleteat"]:
                return refused
            if not data.password_fits(asked["password"], user["password"]):
                return refused
            token = data.create_session(connection, user)["token"]
            answer = self.me(request, connection, user)
        answer.headers.append(("Token", token))
        return answer

    def log_out(self, request: Request, connection: Connection, user: Row) -> Response:
        """End the session."""
        connection.execute("DELETE FROM sessions WHERE token = %s", [request.bearer])
        return json_response({"status": "OK"})

    def file_link(self, request: Request, connection: Connection, user: Row, file: str) -> Response:
        """The address under which everybody may fetch an upload, where that is switched on."""
        if not self._config["FileSettings"]["EnablePublicLink"]:
            return failure(501, "api.file.get_public_link.disabled", "Public links are disabled.")
        site = self._config["ServiceSettings"]["SiteURL"]
        return json_response({"link": f"{site}/files/{file}/public?h={self._link_hash(file)}"})

    def public_file(self, request: Request, file: str) -> Response:
        """An upload for whoever has its link, which the salt in config.json makes."""
        allowed = self._config["FileSettings"]["EnablePublicLink"]
        if not allowed or request.query.get("h") != self._link_hash(file):
            return failure(400, "api.file.get_file.public_invalid", "The public link is not valid.")
        with self._pool.transaction() as connection:
            return self.download(request, connection, {}, file, "")

    def _link_hash(self, file: str) -> str:
        salt = self._config["FileSettings"]["PublicLinkSalt"]
        digest = hashlib.sha256(f"{salt}{file}".encode()).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def me(self, request: Request, connection: Connection, user: Row) -> Response:
        """The session's user."""
        names = {
            "id": "id",
            "username": "username",
            "email": "email",
            "roles": "roles",
            "auth_service": "authservice",
        }
        return json_response({name: user[column] for name, column in names.items()})

    def create_user(self, request: Request, connection: Connection, user: Row) -> Response:
        """Make a local account."""
        asked = request.json()
        least = self._config["PasswordSettings"]["MinimumLength"]
        if len(asked["password"]) < least:
            refused = "model.user.is_valid.pwd_min_length.app_error"
            return failure(400, refused, f"Your password must contain at least {least} characters.")
        row = data.create_user(
            connection, asked["username"], asked["email"], "", password=asked["password"]
        )
        return json_response({"id": row["id"], "username": row["username"]}, 201)

    def team_by_name(
        self, request: Request, connection: Connection, user: Row, name: str
    ) -> Response:
        """One team."""
        return one(data.first(connection, "teams", name=name))

    def create_team(self, request: Request, connection: Connection, user: Row) -> Response:
        """Make a team."""
        asked = request.json()
        if refused := self._forbidden(connection, user, "create_team"):
            return refused
        if asked.get("type") not in ("O", "I"):
            return failure(400, "model.team.is_valid.type.app_error", "Invalid type.")
        return json_response(
            shown(data.create_team(connection, user, asked["name"], asked["display_name"])), 201
        )

    def my_teams(self, request: Request, connection: Connection, user: Row) -> Response:
        """Teams that the user belongs to."""
        rows = connection.execute(
            "SELECT t.* FROM teams t JOIN teammembers m ON m.teamid = t.id WHERE m.userid = %s ORDER BY t.name",
            [user["id"]],
        )
        return json_response([shown(row) for row in rows])

    def join_team(self, request: Request, connection: Connection, user: Row, team: str) -> Response:
        """Add a user to a team."""
        return json_response(
            shown(data.join_team(connection, team, request.json()["user_id"])), 201
        )

    def my_channels(
        self, request: Request, connection: Connection, user: Row, team: str
    ) -> Response:
        """Channels of a team that the user belongs to."""
        rows = connection.execute(
            "SELECT c.* FROM channels c JOIN channelmembers m ON m.channelid = c.id"
            " WHERE c.teamid = %s AND m.userid = %s ORDER BY c.name",
            [team, user["id"]],
        )
        return json_response([shown(row) for row in rows])

    def create_channel(self, request: Request, connection: Connection, user: Row) -> Response:
        """Make a public channel and join it."""
        asked = request.json()
        if refused := self._forbidden(
            connection, user, "create_public_channel", team=asked["team_id"]
        ):
            return refused
        if asked.get("type") not in ("O", "P"):
            return failure(400, "model.channel.is_valid.type.app_error", "Invalid type.")
        channel = data.create_channel(
            connection, user, asked["team_id"], asked["name"], asked["display_name"]
        )
        data.join_channel(connection, channel["id"], user["id"])
        return json_response(shown(channel), 201)

    def join_channel(
        self, request: Request, connection: Connection, user: Row, channel: str
    ) -> Response:
        """Add a user to a channel."""
        return json_response(
            shown(data.join_channel(connection, channel, request.json()["user_id"])), 201
        )

    def create_post(self, request: Request, connection: Connection, user: Row) -> Response:
        """Post a message to a channel of the user."""
        asked = request.json()
        if (
            data.first(
                connection, "channelmembers", channelid=asked["channel_id"], userid=user["id"]
            )
            is None
        ):
            return failure(
                403, "api.context.permissions", "You do not have the appropriate permissions."
            )
        if refused := self._forbidden(connection, user, "create_post", channel=asked["channel_id"]):
            return refused
        files = asked.get("file_ids") or []
        return json_response(
            shown(
                data.create_post(
                    connection,
                    user["id"],
                    asked["channel_id"],
                    asked["message"],
                    files,
                    asked.get("root_id") or "",
                )
            ),
            201,
        )

    def post(self, request: Request, connection: Connection, user: Row, post: str) -> Response:
        """One message."""
        return one(data.first(connection, "posts", id=post))

    def posts(self, request: Request, connection: Connection, user: Row, channel: str) -> Response:
        """Messages of a channel, newest first, in pages."""
        size = min(int(request.query.get("per_page", PAGE)), 200)
        rows = connection.execute(
            "SELECT * FROM posts WHERE channelid = %s AND deleteat = 0 ORDER BY createat DESC, id LIMIT %s OFFSET %s",
            [channel, size, size * int(request.query.get("page", 0))],
        ).fetchall()
        return json_response(
            {"order": [row["id"] for row in rows], "posts": {row["id"]: shown(row) for row in rows}}
        )

    def upload(self, request: Request, connection: Connection, user: Row) -> Response:
        """Keep uploaded files of a channel."""
        parts = request.parts()
        channel = next(content.decode() for name, _, content in parts if name == "channel_id")
        if refused := self._forbidden(connection, user, "upload_file", channel=channel):
            return refused
        files = [(file_name, content) for _, file_name, content in parts if file_name]
        rows = [
            mattermost_files.store_file(
                connection,
                self._root,
                user["id"],
                channel,
                name,
                content,
                version_tuple(self._version),
            )
            for name, content in files
        ]
        return json_response({"file_infos": [shown(row) for row in rows], "client_ids": []}, 201)

    def download(
        self, request: Request, connection: Connection, user: Row, file: str, kind: str
    ) -> Response:
        """An upload's bytes, or those of its thumbnail or preview."""
        row = data.first(connection, "fileinfo", id=file)
        path = (
            row
            and row[{"": "path", "/thumbnail": "thumbnailpath", "/preview": "previewpath"}[kind]]
        )
        if not row or not path:
            return one(None)
        try:
            content = (self._root / path).read_bytes()
        except OSError as error:
            return failure(404, "api.file.read_file", str(error))
        return Response(200, content, row["mimetype"] if kind == "" else "image/jpeg")

    def file_info(self, request: Request, connection: Connection, user: Row, file: str) -> Response:
        """An upload's row."""
        return one(data.first(connection, "fileinfo", id=file))

    def set_picture(
        self, request: Request, connection: Connection, user: Row, who: str
    ) -> Response:
        """Keep the picture of an account."""
        _, _, content = request.parts()[0]
        mattermost_files.write_file(self._root / f"users/{who}/profile.png", content)
        return json_response({"status": "OK"})

    def create_emoji(self, request: Request, connection: Connection, user: Row) -> Response:
        """Make an emoji."""
        parts = {name: content for name, _, content in request.parts()}
        name, picture = json.loads(parts["emoji"])["name"], parts["image"]
        row = mattermost_files.store_emoji(connection, self._root, user["id"], name, picture)
        return json_response(shown(row), 201)

    def _database_answers(self) -> bool:
        try:
            with self._pool.transaction() as connection:
                connection.execute("SELECT 1")
        except psycopg.Error:
            return False
        return True

    def _folder_is_writable(self) -> bool:
        probe = self._root / f"testfile{data.new_id()}"
        try:
            mattermost_files.write_file(probe, b"")
            probe.unlink()
        except OSError:
            return False
        return True
