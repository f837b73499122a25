"""Fills a running Mattermost with people, rooms, messages and uploads, and its home with what plugins leave.

Reads {"site", "gitlab", "users"} on stdin, runs inside the lab as root, prints
{"team", "channels": {name: id}, "posts": {id: text}, "files": {id: {"name", "sha256"}}}.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

from . import attributes, client, mattermost_config, paths

MESSAGES = (
    "Good morning!",
    "Deployed release 18.11 to **staging** #release",
    "Größe, naïve café, Ελληνικά, 日本語, 🦊 and a\u2028line separator",
    "quotes \"double\" and 'single', <b>&amp;</b> & backslash \\ and a tab\t.",
    "two\nlines\r\nand a third",
    "https://gitlab.example.test/group/project/-/issues/7?a=b&c=d",
)
UPLOADS = {
    "report 2026.txt": b"plain text\r\nwith a CR LF and no end",
    'it\'s a "quoted" name.txt': b"quotes\n",
    "fish & chips <menu>.md": b"# menu\n",
    "überblick 日本語 🦊.pdf": b"%PDF-1.4\n" + bytes(range(256)) * 8,
    "-rf --no-preserve-root": b"a name like options\n",
    "back\\slash $(touch x) `id` %20.txt": b"shell\n",
    "empty.txt": b"",
}
PLUGIN = "com.github.manland.mattermost-plugin-gitlab"


class Failed(Exception):
    """The API said no."""


class Caller:
    """One signed-in person."""

    def __init__(self, request: dict[str, Any], username: str) -> None:
        self.site = request["site"]
        answer = client.sign_in(
            {"site": self.site, "gitlab": request["gitlab"], "username": username}
        )
        if "token" not in answer:
            raise Failed(f"{username} cannot sign in: {answer}")
        self.token, self.user = answer["token"], answer["user_id"]

    def post(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        """POST JSON; gives the created thing."""
        return self._checked(
            *client.send(
                self.site,
                self.token,
                "POST",
                path,
                json.dumps(document).encode(),
                "application/json",
            )
        )

    def upload(self, channel: str, name: str, content: bytes) -> dict[str, Any]:
        """Upload a file; gives its fileinfo."""
        body, kind = client.multipart(name, content, channel)
        infos = self._checked(*client.send(self.site, self.token, "POST", "/files", body, kind))[
            "file_infos"
        ]
        return dict(infos[0])

    @staticmethod
    def _checked(status: int, body: bytes) -> dict[str, Any]:
        if status != 201:
            raise Failed(f"{status}: {body.decode(errors='replace')}")
        return dict(json.loads(body))


def picture(width: int = 64, height: int = 48) -> bytes:
    """A small PNG."""
    rows = b"".join(b"\0" + bytes((x * y) % 256 for x in range(width * 3)) for y in range(height))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def fill(request: dict[str, Any]) -> dict[str, Any]:
    """Everything that goes through the API."""
    people = [Caller(request, name) for name in request["users"]]
    boss, titled = people[0], {"display_name": "Engineering & Co", "type": "O"}
    team = boss.post("/teams", {"name": "engineering", **titled})
    boss.post(
        "/users",
        {"username": "local", "email": "local@example.test", "password": "Passw0rd!Passw0rd!"},
    )
    for person in people[1:]:
        member = {"team_id": team["id"], "user_id": person.user}
        boss.post(f"/teams/{team['id']}/members", member)
    channels = {}
    for name, title in (("releases", "Releases"), ("coffee", "Kaffeeküche ☕")):
        titled = {"display_name": title, "type": "O"}
        channel = boss.post("/channels", {"team_id": team["id"], "name": name, **titled})
        channels[name] = channel["id"]
        for person in people[1:]:
            boss.post(f"/channels/{channel['id']}/members", {"user_id": person.user})
    posts, files = {}, {}
    for number, text in enumerate(MESSAGES * 2):
        channel = list(channels.values())[number % 2]
        posts[
            people[number % len(people)].post("/posts", {"channel_id": channel, "message": text})[
                "id"
            ]
        ] = text
    for number, (name, content) in enumerate({**UPLOADS, "diagram (1).png": picture()}.items()):
        person, channel = people[number % len(people)], channels["releases"]
        info = person.upload(channel, name, content)
        files[info["id"]] = {"name": info["name"], "sha256": hashlib.sha256(content).hexdigest()}
        post = person.post(
            "/posts", {"channel_id": channel, "message": name, "file_ids": [info["id"]]}
        )
        posts[post["id"]] = name
    return {"team": team["id"], "channels": channels, "posts": posts, "files": files}


def fill_home(mattermost: dict[str, Any]) -> None:
    """A plugin with a program, its bundle for browsers, its secrets in config.json, and a SAML certificate."""
    home, plugin = Path(mattermost["home"]), Path(mattermost["plugin_directory"]) / PLUGIN
    files = {
        plugin / "plugin.json": (json.dumps({"id": PLUGIN, "version": "1.10.0"}), 0o644),
        plugin / "server/dist/plugin-linux-amd64": ("#!/bin/sh\nexit 0\n", 0o755),
        Path(mattermost["plugin_client_directory"]) / PLUGIN / "main.js": ("// bundle\n", 0o644),
        home / "saml-idp.crt": (
            "-----BEGIN CERTIFICATE-----\nbGFi\n-----END CERTIFICATE-----\n",
            0o600,
        ),
    }
    for path, (text, mode) in files.items():
        paths.write(path, text, mode, "mattermost", "mattermost")
        for folder in path.parents:
            if folder in (home, *home.parents) or folder == plugin.parent:
                break
            shutil.chown(folder, "mattermost", "mattermost")
    path = home / "config.json"
    config = json.loads(path.read_text())
    config["PluginSettings"]["Plugins"][PLUGIN] = {
        "encryptionkey": "k" * 32,
        "webhooksecret": "<w&s>" * 6,
    }
    mattermost_config.save(path, config)


def main() -> int:
    """Fill, and say what is there now."""
    request, package = json.load(sys.stdin), paths.load_package()
    result = fill(request)
    fill_home(attributes.effective(package, attributes.collect(package))["mattermost"])
    json.dump(result, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
