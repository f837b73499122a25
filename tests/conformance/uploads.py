"""Where files are kept."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.conformance.subject import Server, Subject
from tests.lab.fakes.seed import picture
from tests.lab.omnibus import Session

NAMES = ("plain name.txt", 'it\'s "quoted" & <odd> überblick 日本語.txt')


def session(subject: Subject, name: str = "root") -> Session:
    """Somebody who is signed in to the usual server; the first one administers it."""
    assert subject.usual.config
    if name not in subject.sessions:
        if name != "root":
            session(subject)
        subject.sessions[name] = subject.gitlab.sign_in(name)
    return subject.sessions[name]


def _row(subject: Subject, file: str) -> dict[str, Any]:
    (row,) = subject.sql(f"SELECT row_to_json(f) FROM fileinfo f WHERE id = '{file}'")
    return dict(json.loads(row))


def upload_layout(subject: Subject) -> None:
    """date/teams/noteam/channels/CHANNEL/users/USER/FILE/NAME, and the row has this path."""
    who = session(subject)
    for name in NAMES:
        file = who.upload(name, b"content")
        row = _row(subject, file)
        place = f"teams/noteam/channels/{who.channel_id()}/users/{who.user_id}/{file}/{name}"
        assert re.fullmatch(r"\d{8}/" + re.escape(place), row["path"]), row["path"]
        path = subject.lab.path(f"{subject.usual.data}/{row['path']}")
        assert path.read_bytes() == b"content"
        assert (row["name"], row["previewpath"], row["thumbnailpath"]) == (name, "", "")
        assert (row["creatorid"], row["postid"], row["size"]) == (who.user_id, "", 7)


def upload_previews(subject: Subject) -> None:
    """A picture has a preview and a thumbnail beside it, named after it and its type."""
    who = session(subject)
    row = _row(subject, who.upload("dia.gram (1).png", picture()))
    folder, _, name = row["path"].rpartition("/")
    kind = "jpg" if subject.numbers < (6,) else "png"
    assert row["previewpath"] == f"{folder}/dia.gram (1)_preview.{kind}"
    assert row["thumbnailpath"] == f"{folder}/dia.gram (1)_thumb.{kind}"
    found = {path.name for path in subject.lab.path(f"{subject.usual.data}/{folder}").iterdir()}
    assert found == {
        name,
        *(row[key].rpartition("/")[2] for key in ("previewpath", "thumbnailpath")),
    }
    assert (row["width"], row["height"], row["haspreviewimage"]) == (64, 48, True)


def upload_modes(subject: Subject) -> None:
    """Directories are for the account and its group, files for the account."""
    who = session(subject)
    path = subject.lab.path(
        f"{subject.usual.data}/{_row(subject, who.upload('m.txt', b''))['path']}"
    )
    assert path.stat().st_mode & 0o777 == 0o600
    assert {folder.stat().st_mode & 0o777 for folder in list(path.parents)[:8]} == {0o750}


def upload_belongs_to_its_post(subject: Subject) -> None:
    """The row names the post, and the post the file; from 9.x on the row names the channel too."""
    who = session(subject)
    file = who.upload("of a post.txt", b"x")
    post = who.post("look", files=[file])
    row = _row(subject, file)
    assert row["postid"] == post
    assert subject.sql(f"SELECT fileids FROM posts WHERE id = '{post}'") == [f'["{file}"]']
    assert row.get("channelid", who.channel_id()) == who.channel_id()


def pictures_of_people_and_emoji(subject: Subject) -> None:
    """users/USER/profile.png, and emoji/EMOJI/image."""
    who, server = session(subject), subject.usual
    _send(server, who, f"/users/{who.user_id}/image", "image=@-;filename=face.png")
    assert subject.lab.path(f"{server.data}/users/{who.user_id}/profile.png").is_file()
    emoji = json.dumps({"creator_id": who.user_id, "name": f"lab_{subject.name}"})
    made = _send(
        server, who, "/emoji", "image=@-;filename=e.png", "--form-string", f"emoji={emoji}"
    )
    assert subject.lab.path(f"{server.data}/emoji/{made['id']}/image").is_file()
    assert subject.sql("SELECT creatorid, deleteat FROM emoji") == [f"{who.user_id}|0"]


def _send(server: Server, who: Session, path: str, form: str, *more: str) -> dict[str, str]:
    """POST a picture as a form."""
    token = ("--header", f"Authorization: Bearer {who.token}")
    place = f"{server.place}/picture.png"
    server.subject.lab.write(place, picture())
    form = form.replace("@-", f"@{place}")
    answer = server.get(f"/api/v4{path}", *token, "--form", form, *more)
    assert answer.status in (200, 201), answer
    return answer.document
