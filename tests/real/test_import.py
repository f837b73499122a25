"""What `extract --bulk-import` writes, loaded by the real server's own importer into an empty database."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

from tests.lab.omnibus import Session
from tests.lab.real_mattermost import EMPTY
from tests.lab.sandbox import wait_until
from tests.real.house import House

FOLDER = "/srv/import"
PINNED_FROM = (6,)  # the importer of 5.37 leaves pins out
PASSWORD = "Passw0rd!Passw0rd!"


def test_an_empty_server_loads_what_was_extracted(house: House) -> None:
    house.product("backup")
    channel = ("--channel", "engineering/releases")
    answer = house.product("extract", *channel, "--bulk-import", "--to", FOLDER)
    assert answer.code == 0, answer
    before = posts(house.alice, house)
    admin = emptied(house)
    counts = [loaded(house, admin) for _ in range(2)]
    assert counts[0] == counts[1], "loading twice adds nothing"
    team = admin.get("/teams/name/engineering")
    house.seed.channels["releases"] = admin.get(f"/teams/{team['id']}/channels/name/releases")["id"]
    assert posts(admin, house) == before


def posts(session: Session, house: House) -> list[tuple[Any, ...]]:
    """The channel's messages of people, by date, with what hangs on them, and without ids."""
    channel = house.seed.channels["releases"]
    found = session.get(f"/channels/{channel}/posts?per_page=200")["posts"].values()
    people = [post for post in found if not post["type"]]
    return sorted(described(session, post, house) for post in people)


def described(session: Session, post: dict[str, Any], house: House) -> tuple[Any, ...]:
    files = [
        hashlib.sha256(session.download(file)).hexdigest() for file in post.get("file_ids") or ()
    ]
    meta = post.get("metadata") or {}
    emoji = sorted(reaction["emoji_name"] for reaction in meta.get("reactions") or ())
    author = session.get(f"/users/{post['user_id']}")["username"]
    pinned = post["is_pinned"] and house.version >= PINNED_FROM
    return post["create_at"], post["message"], author, bool(post["root_id"]), pinned, files, emoji


def emptied(house: House) -> Session:
    """Give the server an empty database; its first account, which has a password, administers it."""
    house.stop()
    house.gitlab.sql(EMPTY)
    house.start()
    guest = Session(house.gitlab.spec.site_url, house.gitlab.ask, "", "", "")
    account = {"username": "first", "email": "first@example.test", "password": PASSWORD}
    guest.call("POST", "/users", json=account)
    return house.gitlab.log_in("first", PASSWORD)


def loaded(house: House, admin: Session) -> list[str]:
    """Load the extract by the server's importer; gives the number of rows, and the uploads' names."""
    if house.version < (6,):
        words = ("--apply", "--import-path", f"{FOLDER}/data", f"{FOLDER}/import.jsonl")
        house.lab.run("chmod", "-R", "a+rX", FOLDER)
        by_hand(house, "import", "bulk", *words)
    else:
        by_job(house, admin)
    # The server itself makes bots, some time after its start.
    people = "users WHERE id NOT IN (SELECT userid FROM bots)"
    tables = ("posts", people, "reactions", "emoji")
    counts = [f"SELECT '{name.split()[0]} ' || count(*) FROM {name}" for name in tables]
    files = "SELECT name FROM fileinfo WHERE postid <> ''"
    return sorted(house.gitlab.sql(" UNION ALL ".join([*counts, files])))


def by_job(house: House, admin: Session) -> None:
    """As mmctl does it: upload a zip, and wait for the job that imports it."""
    content = zipped(house.lab.path(FOLDER))
    wanted = {"filename": "import.zip", "file_size": len(content), "type": "import"}
    upload = json.loads(admin.call("POST", "/uploads", json=wanted))["id"]
    raw = base64.b64encode(content).decode()
    admin.call("POST", f"/uploads/{upload}", raw=raw)
    data = {"import_file": f"{upload}_import.zip"}
    job = json.loads(admin.call("POST", "/jobs", json={"type": "import_process", "data": data}))

    def ended() -> dict[str, Any] | None:
        now = dict(admin.get(f"/jobs/{job['id']}"))
        return now if now["status"] in ("success", "error", "canceled", "warning") else None

    last = wait_until(ended, 120, "the import")
    assert last and last["status"] == "success", last


def zipped(folder: Path) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.name == "import.jsonl" or "data" in path.relative_to(folder).parts:
                archive.write(path, path.relative_to(folder))
    return content.getvalue()


def by_hand(house: House, *words: str) -> None:
    """Run the server's program as its account, with its settings and environment."""
    service = "/opt/gitlab/embedded/service/mattermost"
    command = (
        *("/opt/gitlab/embedded/bin/chpst", "-e", house.gitlab.env_folder),
        "-u",
        "mattermost",
    )
    program = (
        "/opt/gitlab/embedded/bin/mattermost",
        *words,
        "-c",
        f"{house.gitlab.home}/config.json",
    )
    house.lab.run(*command, *program, cwd=service, timeout=300)
