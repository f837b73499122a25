"""Oddities of files, made as root inside a lab: `python3 -m tests.fuzz.planting`, a JSON object on standard input.

{"home": Mattermost's home, "oddities": [[kind, tag, values], ...]}. All that an oddity makes has its tag in its name.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Values = Mapping[str, Any]
USER, GROUP = "mattermost", "mattermost"
NOBODY = 0xFFFFFFFF  # no id, in an access control list (acl(5))
ACL_ENTRIES = {"owner": 1, "user": 2, "group": 4, "mask": 0x10, "other": 0x20}


def own(path: Path | str | bytes, user: str = USER, group: str = GROUP) -> None:
    """Give a file to somebody; names or numbers."""
    uid = int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid
    gid = int(group) if group.isdecimal() else pwd.getpwnam(group).pw_gid
    os.chown(path, uid, gid, follow_symlinks=False)


def file(path: Path, content: bytes = b"odd", mode: int = 0o600) -> Path:
    """Write a file of Mattermost's, with the directories that it needs."""
    folder(path.parent)
    path.write_bytes(content)
    path.chmod(mode)
    own(path)
    return path


def folder(path: Path) -> Path:
    """Make a directory of Mattermost's."""
    if not path.exists():
        folder(path.parent)
        path.mkdir()
        own(path)
    return path


def names(home: Path, tag: str, values: Values) -> None:
    """Files with any bytes in their names; each comes as Latin-1 text."""
    place = folder(home / "data" / tag)
    for name in values["names"]:
        raw = name.encode("latin-1")[:255]
        path = os.path.join(os.fsencode(place), raw)
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640)
            os.write(descriptor, raw)
            os.close(descriptor)
            own(path)


def own_names(home: Path, tag: str, values: Values) -> None:
    """Names like those of our own work, and of others'."""
    for name in values["names"]:
        file(home / "data" / tag / name / tag, b"of Mattermost's")


def deep(home: Path, tag: str, values: Values) -> None:
    """A deep tree: longer than PATH_MAX where there are many levels of long names."""
    top = folder(home / "data" / tag)
    before = os.open(".", os.O_RDONLY)
    try:
        os.chdir(top)
        for _ in range(values["levels"]):
            os.mkdir("d" * values["length"])
            os.chdir("d" * values["length"])
            own(".")
        Path("leaf").write_bytes(b"leaf")
        own("leaf")
    finally:
        os.fchdir(before)
        os.close(before)


def modes(home: Path, tag: str, values: Values) -> None:
    """Files and directories of odd modes."""
    for mode in values["modes"]:
        file(home / "data" / tag / f"f{mode:04o}").chmod(mode)
        inner = folder(home / "data" / tag / f"d{mode:04o}")
        file(inner / "inner")
        inner.chmod(mode)


def set_id_folder(home: Path, tag: str, values: Values) -> None:
    """A directory that hands its group on, or that is sticky."""
    inner = folder(home / "data" / tag / "inner")
    file(inner / "file")
    inner.chmod(values["mode"])


def set_id_file(home: Path, tag: str, values: Values) -> None:
    file(home / "data" / tag / "program").chmod(values["mode"])


def owners(home: Path, tag: str, values: Values) -> None:
    """Files and directories of somebody else."""
    for number, (user, group) in enumerate(values["owners"]):
        own(file(home / "data" / tag / f"f{number}"), user, group)
        own(folder(home / "data" / tag / f"d{number}"), user, group)


def hard_links(home: Path, tag: str, values: Values) -> None:
    """One file with several names."""
    first = file(home / "data" / tag / "first", os.urandom(200))
    for place in values["places"]:
        for number in range(values["names"]):
            path = folder(home / place / tag) / f"name{number}"
            os.link(first, path)


def sparse(home: Path, tag: str, values: Values) -> None:
    path = file(home / "data" / tag / "sparse", b"")
    with path.open("r+b") as opened:
        for position in values["positions"]:
            opened.seek(position)
            opened.write(b"data")
        opened.truncate(max(values["positions"]) + values["tail"])


def specials(home: Path, tag: str, values: Values) -> None:
    """A named pipe; sockets come anew with their programs."""
    place = folder(home / values["place"] / tag)
    os.mkfifo(place / "pipe", 0o600)
    own(place / "pipe")


def sockets(home: Path, tag: str, values: Values) -> None:
    place = folder(home / "data" / tag)
    os.chdir(place)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("a.sock")
    os.chdir("/")


def links_inside(home: Path, tag: str, values: Values) -> None:
    """Links that stay in Mattermost's home."""
    place = folder(home / "data" / tag)
    file(place / "inner" / "file")
    targets = {
        "relative": "inner/file",
        "upwards": f"../../data/{tag}/inner",
        "absolute": str(place / "inner/file"),
        "loop": "loop",
        "nowhere": f"nowhere-{tag}",
    }
    for name in values["links"]:
        os.symlink(targets[name], place / name)
        own(place / name)


def links_out(home: Path, tag: str, values: Values) -> None:
    """Links to what lies elsewhere, of root's or of Mattermost's."""
    place, there = folder(home / values["place"]), folder(Path(f"/srv/elsewhere-{tag}"))
    file(there / "inner" / "file", os.urandom(100))
    target = there / "inner" if values["directory"] else there / "inner/file"
    path = place / f"{tag}-out"
    os.symlink(target, path)
    own(path, values["owner"], values["owner"])


def links_to_nothing(home: Path, tag: str, values: Values) -> None:
    """Links out that lead nowhere, or into a package."""
    place = folder(home / "data" / tag)
    for number, target in enumerate(values["targets"]):
        os.symlink(target, place / f"link{number}")
        own(place / f"link{number}")


def acls(home: Path, tag: str, values: Values) -> None:
    """Access control lists of a file or a directory."""
    path = home / "data" / tag
    folder(path)
    file(path / "file")
    uid = pwd.getpwnam(values["user"]).pw_uid
    rights = (("owner", 7, NOBODY), ("user", 6, uid), ("group", 5, NOBODY), ("mask", 7, NOBODY))
    raw = struct.pack("<I", 2)
    for name, permissions, identifier in (*rights, ("other", 0, NOBODY)):
        raw += struct.pack("<HHI", ACL_ENTRIES[name], permissions, identifier)
    for name in values["lists"]:
        target = path if name == "default" else path / "file"
        os.setxattr(target, f"system.posix_acl_{name}", raw)


def attributes(home: Path, tag: str, values: Values) -> None:
    """Extended attributes."""
    path = file(home / "data" / tag / "file")
    for name, value in values["attributes"].items():
        os.setxattr(path, name, value.encode("latin-1"))


def times(home: Path, tag: str, values: Values) -> None:
    """Times of any year."""
    for number, nanoseconds in enumerate(values["times"]):
        path = file(home / "data" / tag / f"f{number}")
        os.utime(path, ns=(nanoseconds, nanoseconds))


def sizes(home: Path, tag: str, values: Values) -> None:
    """Empty files and directories, and large ones."""
    folder(home / "data" / tag / "empty")
    for size in values["sizes"]:
        file(
            home / "data" / tag / f"s{size}",
            os.urandom(1024) * (size // 1024) + b"x" * (size % 1024),
        )


def moved(home: Path, tag: str, values: Values) -> None:
    """A directory that somebody moved to a larger disk, with a link of root's in its place."""
    source, disk = home / values["folder"], Path("/srv/disk") / tag
    disk.parent.mkdir(parents=True, exist_ok=True)
    folder(source)
    shutil.move(str(source), str(disk))
    os.symlink(disk, source)


def at_home(home: Path, tag: str, values: Values) -> None:
    """Somebody's own files beside Mattermost's."""
    file(home / f"{tag}.sh", b"#!/bin/sh\n", 0o755)
    own(file(home / tag / "notes"), "root", "root")
    own(home / tag, "root", "root")


def config_json(home: Path, tag: str, values: Values) -> None:
    """What people write into config.json."""
    path = home / "config.json"
    text = path.read_text(encoding="utf-8")
    head, brace, rest = text.partition("{")
    extra = {
        "section": f'"{tag}Settings": {{"Plugin": [1, {{"a": null}}]}},',
        "number": f'"{tag}": 123456789012345678901234567890.5e10,',
        "surrogate": f'"{tag}": "\\ud800",',
        "case": f'"TEAMSETTINGS": {{"CustomDescriptionText": "{tag}"}},',
        "twice": f'"TeamSettings": {{"CustomBrandText": "{tag}"}},',
        "spaces": f'\r\n\t"{tag}"  :  "\\u00e9\\/"\t,\r\n',
        "deep": f'"{tag}": {"[" * 60}{"]" * 60},',
    }
    text = head + brace + "".join(extra[name] for name in values["changes"]) + rest
    raw = text.encode("utf-8")
    if values["order mark"]:
        raw = b"\xef\xbb\xbf" + raw
    facts = path.stat()
    path.write_bytes(raw)
    path.chmod(stat.S_IMODE(facts.st_mode))


def config_place(home: Path, tag: str, values: Values) -> None:
    """config.json of another owner and mode."""
    own(home / "config.json", values["owner"], values["owner"])
    (home / "config.json").chmod(values["mode"])


def missing_upload(home: Path, tag: str, values: Values) -> None:
    """A disk that lost an upload."""
    uploads = sorted(path for path in (home / "data").glob("2*/**/*") if path.is_file())
    uploads[0].unlink()


def config_link(home: Path, tag: str, values: Values) -> None:
    """config.json elsewhere, with a link in its place."""
    path, there = home / "config.json", Path(f"/srv/config-{tag}.json")
    shutil.move(str(path), there)
    own(there)
    os.symlink(there, path)
    own(path, values["owner"], values["owner"])


def many(home: Path, tag: str, values: Values) -> None:
    """Many small files."""
    for number in range(values["count"]):
        file(home / "data" / tag / f"{number % 20}" / f"{number}", str(number).encode())


Plant = Callable[[Path, str, Values], None]
PLANTS: dict[str, Plant] = {
    plant.__name__: plant
    for plant in (
        *(names, own_names, deep, modes, set_id_folder, set_id_file, owners, hard_links, sparse),
        *(specials, sockets, links_inside, links_out, links_to_nothing, acls, attributes, times),
        *(sizes, moved, at_home, config_json, config_place, many),
        *(missing_upload, config_link),
    )
}


def main() -> None:
    """Make what standard input asks for; what was moved comes last, for the rest goes into it."""
    asked = json.load(sys.stdin)
    for kind, tag, values in sorted(asked["oddities"], key=lambda oddity: oddity[0] == "moved"):
        PLANTS[kind](Path(asked["home"]), tag, values)
    subprocess.run(["sync", "-f", asked["home"]], check=True)


if __name__ == "__main__":
    main()
