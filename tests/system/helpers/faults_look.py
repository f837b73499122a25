"""Runs inside the fault harness's labs: prints, as JSON, what is live and what lies about."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.lab.fakes import attributes, client, paths, postgresql, state


def observe(request: dict[str, Any]) -> dict[str, Any]:
    """What Mattermost serves, and what lies about."""
    package = paths.load_package()
    settings = attributes.effective(package, attributes.collect(package))
    server, name = (
        postgresql.Server(settings["postgresql"]),
        settings["mattermost"]["database_name"],
    )
    databases = server.sql("SELECT datname, datallowconn FROM pg_database ORDER BY 1")
    there = any(line.startswith(f"{name}|t") for line in databases)
    return {
        "runs": _runs(),
        "api": _served(request) if request["serves"] else None,
        "tables": state.tables(server, name) if there else {},
        "owners": state.owners(server, name) if there else {},
        "files": {
            str(path): {} if path.name.startswith(".gitlab-mm-") else state.describe(path)
            for place in state.folders(settings["mattermost"])
            for path in state.walk(place)
        },
        "host": _host_files(),
        "left": {"databases": databases, **_left()},
    }


def _runs() -> bool:
    done = subprocess.run(
        ["sv", "status", "mattermost"], check=False, capture_output=True, text=True
    )
    return done.stdout.startswith("run:")


def _served(request: dict[str, Any]) -> dict[str, Any]:
    """Each post and file through the API: its text, the digest of its bytes, None where it is not there."""
    site, token = request["site"], request["token"]
    late = client.wait({"urls": [f"{site}/api/v4/system/ping"], "seconds": request["seconds"]})[
        "late"
    ]
    if late:
        return {"late": late}

    def get(path: str) -> bytes | None:
        status, body = client.send(site, token, "GET", path)
        if status not in (200, 404):
            return f"{status} {body!r}".encode()
        return body if status == 200 else None

    name = json.loads(client.send(site, token, "GET", "/config/client")[1] or b"{}").get("SiteName")
    posts = {post: get(f"/posts/{post}") for post in request["posts"]}
    files = {file: get(f"/files/{file}") for file in request["files"]}
    return {
        "site name": name,  # from the settings that the process started with
        "posts": {
            post: body and (json.loads(body)["message"] if body.startswith(b"{") else repr(body))
            for post, body in posts.items()
        },
        "files": {
            file: body if body is None else hashlib.sha256(body).hexdigest()
            for file, body in files.items()
        },
    }


def _host_files() -> dict[str, str]:
    """What a restore must put back too, or leave: GitLab's settings, and Mattermost's environment."""
    folders = (Path("/etc/gitlab"), Path("/opt/gitlab/etc/mattermost/env"))
    paths = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def _left() -> dict[str, Any]:
    """Work folders, processes, lock, journal, the `down` file."""
    places = ("/opt", "/var", "/etc", "/srv")
    find = ["find", *places, "(", "-name", ".gitlab-mm-*", "-o", "-name", ".incomplete-*"]
    find += ["-o", "-path", "/var/lib/gitlab-mm-backup/*", ")", "-prune"]
    folders = subprocess.run(find, check=True, capture_output=True, text=True).stdout.split("\n")
    # Of verifications too, and of the newest runs, if their disk had room: these are to stay.
    history = [f"/var/lib/gitlab-mm-backup/{name}" for name in ("rehearsals.jsonl", "runs.json")]
    return {
        "folders": sorted(folder for folder in folders if folder not in ("", *history)),
        "processes": sorted(_processes()),
        "down": Path("/opt/gitlab/sv/mattermost/down").exists(),
    }


OURS = ("gitlab-mm", "pg_dump", "pg_restore", "zstd", "tar", "setpriv")


def _processes() -> Iterator[str]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in (1, os.getpid()):
            continue
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z" and any(Path(word).name.startswith(OURS) for word in words[:2]):
            yield " ".join(words).strip()


if __name__ == "__main__":
    json.dump(observe(json.load(sys.stdin)), sys.stdout)
