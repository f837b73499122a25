"""Somebody who is signed in to the lab's Mattermost, as tests see them."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Callable

TOWN_SQUARE = "town-square"
DEFAULT_TEAM = "everyone"


class SignInFailed(Exception):
    """The browser did not come back with a session; the text is what the last page said."""

    def __init__(self, status: int, url: str, text: str) -> None:
        super().__init__(f"{status} at {url}: {text}")
        self.status, self.url, self.text = status, url, text


class ApiError(Exception):
    """Mattermost's API answered with an error."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"{status}: {body.decode('utf-8', 'replace')}")
        self.status = status


@dataclass
class Session:
    """Somebody who is signed in to Mattermost."""

    site: str
    ask: Callable[..., dict[str, Any]]
    username: str
    token: str
    user_id: str
    _channels: dict[str, str] = field(default_factory=dict)

    def call(self, method: str, path: str, **request: Any) -> bytes:
        """An API call below /api/v4, with `json=` or `file=`; raises ApiError."""
        answer = self.ask(
            action="call", site=self.site, token=self.token, method=method, path=path, **request
        )
        body = base64.b64decode(answer["body"])
        if answer["status"] not in (200, 201):
            raise ApiError(answer["status"], body)
        return body

    def get(self, path: str) -> Any:
        """The JSON document at a path."""
        return json.loads(self.call("GET", path))

    def me(self) -> dict[str, Any]:
        """This user's account."""
        return dict(self.get("/users/me"))

    def channel_id(self, name: str = TOWN_SQUARE) -> str:
        """Id of one of the user's channels, by name; who has no team yet joins (or makes) the team `everyone`."""
        if name not in self._channels:
            teams = self.get("/users/me/teams") or [self._join_default_team()]
            for team in teams:
                for channel in self.get(f"/users/me/teams/{team['id']}/channels"):
                    self._channels.setdefault(channel["name"], channel["id"])
        return self._channels[name]

    def post(self, text: str, channel: str = TOWN_SQUARE, files: Sequence[str] = ()) -> str:
        """Post a message; gives its id."""
        message = {"channel_id": self.channel_id(channel), "message": text, "file_ids": list(files)}
        return str(json.loads(self.call("POST", "/posts", json=message))["id"])

    def read_post(self, identifier: str) -> str:
        """Text of a message."""
        return str(self.get(f"/posts/{identifier}")["message"])

    def posts(self, channel: str = TOWN_SQUARE) -> list[str]:
        """Texts of a channel's messages, oldest first."""
        page = self.get(f"/channels/{self.channel_id(channel)}/posts?per_page=200")
        return [page["posts"][identifier]["message"] for identifier in reversed(page["order"])]

    def upload(self, name: str, content: bytes, channel: str = TOWN_SQUARE) -> str:
        """Upload a file; gives its id."""
        file = {
            "name": name,
            "content": base64.b64encode(content).decode("ascii"),
            "channel": self.channel_id(channel),
        }
        return str(json.loads(self.call("POST", "/files", file=file))["file_infos"][0]["id"])

    def download(self, identifier: str, kind: str = "") -> bytes:
        """Bytes of an upload; kind is "", "thumbnail" or "preview"."""
        return self.call("GET", f"/files/{identifier}" + (f"/{kind}" if kind else ""))

    def _join_default_team(self) -> dict[str, Any]:
        try:
            team = dict(self.get(f"/teams/name/{DEFAULT_TEAM}"))
        except ApiError:
            document = {"name": DEFAULT_TEAM, "display_name": "Everyone", "type": "O"}
            return dict(json.loads(self.call("POST", "/teams", json=document)))
        member = {"team_id": team["id"], "user_id": self.user_id}
        self.call("POST", f"/teams/{team['id']}/members", json=member)
        return team


def logged_in(ask: Callable[..., dict[str, Any]], site: str, name: str, password: str) -> Session:
    """Sign in with a name and a password; raises SignInFailed."""
    answer = ask(action="log_in", site=site, name=name, password=password)
    if "token" not in answer:
        raise SignInFailed(answer["status"], site, answer["error"])
    return Session(site, ask, name, answer["token"], answer["user_id"])
