"""Forges sets: copies of good ones with other contents and right checksums.

As a program, inside a lab: argv is the set's copy and a JSON request {"add": a tar member to add
to files.tar.zst, "contents": texts for members of it by their path, null to take one out, "drop":
bytes that the manifest names too few, "manifest": values to change, "rows" by their table}.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

from tests.lab.omnibus import Omnibus
from tests.lab.sandbox import PYTHON, Lab
from tests.system.helpers.faults import Server

PROGRAMS = "/opt/gitlab/embedded/bin/"
AS_POSTGRES = f"{PROGRAMS}chpst -u gitlab-psql {PROGRAMS}"
SOCKET = "-h /var/opt/gitlab/postgresql"
VICTIM = f"COMMENT ON TABLE public.posts IS '{'x' * 300}';".encode()


def forged(server: Server, **request: Any) -> str:
    """A copy of the other state's set with what `request` says; gives its path."""
    return forge(server.lab, server.sets[server.other], **request)


def forge(lab: Lab, good: str, **request: Any) -> str:
    """A copy of the set at `good` with what `request` says; gives its path."""
    path = copied(lab, good)
    resum(lab, path, **request)
    return path


def resum(lab: Lab, path: str, **request: Any) -> None:
    """Change a copy as `request` says, and make its checksums fit whatever it holds."""
    module = ("-m", "tests.system.helpers.faults_forge")
    lab.run(PYTHON, *module, path, json.dumps(request), cwd="/lab/src")


def forged_sql(server: Server, statement: str) -> str:
    """A copy of that set whose dump runs `statement` among its own."""
    path, lab = copied(server.lab, server.sets[server.other]), server.lab
    dump = dumped_again(server.gitlab, path, f"COMMENT ON TABLE posts IS '{'x' * 300}'")
    assert dump.count(VICTIM) == 1
    hostile = dump.replace(VICTIM, statement.encode().ljust(len(VICTIM)))
    lab.run_bytes("sh", "-c", f"zstd -q -f -o {path}/database.dump.zst", input=hostile)
    resum(lab, path)
    return path


def with_sql(gitlab: Omnibus, good: str, statement: str, **request: Any) -> str:
    """A copy of the set at `good`, of a database in which `statement` was run; the manifest does not know."""
    path = copied(gitlab.lab, good)
    dump = dumped_again(gitlab, path, statement)
    gitlab.lab.run_bytes("sh", "-c", f"zstd -q -f -o {path}/database.dump.zst", input=dump)
    resum(gitlab.lab, path, **request)
    return path


def dumped_again(gitlab: Omnibus, path: str, statement: str) -> bytes:
    """The dump of a set after `statement`."""
    gitlab.sql("CREATE DATABASE scratch OWNER gitlab_mattermost", "postgres")
    load = f"zstd -dc {path}/database.dump.zst | {AS_POSTGRES}pg_restore {SOCKET} -d scratch"
    gitlab.lab.run("sh", "-ec", load)
    gitlab.sql(statement, "scratch")
    dump = gitlab.lab.run_bytes("sh", "-c", f"{AS_POSTGRES}pg_dump {SOCKET} -Fc -Z0 scratch").stdout
    gitlab.sql("DROP DATABASE scratch", "postgres")
    return dump


def copied(lab: Lab, good: str) -> str:
    """A copy of the set at `good`; gives its path."""
    lab.run("sh", "-ec", f"rm -rf /root/forged; mkdir /root/forged; cp -a {good} /root/forged")
    return f"/root/forged/{good.rpartition('/')[2]}"


def main(path: Path, request: dict[str, Any]) -> None:
    """Change the set at `path`, and make its checksums fit."""
    sys.path.insert(0, "/usr/lib/python3/dist-packages")
    from gitlab_mm_backup.store import manifest

    found = manifest.parse((path / "manifest.json").read_bytes(), "the good set")
    files = found.files
    if "contents" in request:
        count, size = _exchange(path / "files.tar.zst", request["contents"])
        files = dataclasses.replace(files, files=files.files + count, bytes=files.bytes + size)
    if "add" in request:
        member = tarfile.TarInfo()
        for name, value in request["add"].items():
            setattr(member, name, value.encode() if name == "type" else value)
        _add(path / "files.tar.zst", member)
        count = int(member.isreg())
        files = dataclasses.replace(
            files, files=files.files + count, bytes=files.bytes + count * member.size
        )
    files = dataclasses.replace(files, bytes=files.bytes - request.get("drop", 0))
    parts = {
        name: dataclasses.replace(part, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        for name, part in found.parts.items()
        if name != "index"  # as in a set from before there was one: it would be found first
        for data in [(path / part.file).read_bytes()]
    }
    values = dict(request.get("manifest", {}))
    server = values.pop("server", found.database.server)
    rows = {**found.database.rows, **values.pop("rows", {})}
    database = dataclasses.replace(found.database, server=server, rows=rows)
    made = dataclasses.replace(found, files=files, parts=parts, database=database, **values)
    (path / "manifest.json").write_bytes(manifest.to_bytes(made))
    (path / "SHA256SUMS").write_bytes(manifest.sums(made))
    (path / "signature.json").unlink()  # which would give it away before anything is looked at


def _exchange(archive: Path, contents: dict[str, str | None]) -> tuple[int, int]:
    """Give members other contents, or take them out; gives by how many files and bytes it grew."""
    whole, files, size = io.BytesIO(), 0, 0
    with (
        tarfile.open(fileobj=_unpacked(archive)) as old,
        tarfile.open(fileobj=whole, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in old:
            body = old.extractfile(member)
            if f"/{member.name}" in contents:
                text = contents[f"/{member.name}"]
                if text is None:
                    files, size = files - 1, size - member.size
                    continue
                size += len(text) - member.size
                member.size, body = len(text), io.BytesIO(text.encode())
            new.addfile(member, body)
    _pack(archive, whole)
    return files, size


def _add(archive: Path, member: tarfile.TarInfo) -> None:
    whole = _unpacked(archive)
    with tarfile.open(fileobj=whole, mode="a") as tar:
        body = io.BytesIO(b"#" * member.size) if member.isreg() else None
        tar.addfile(member, body)
    _pack(archive, whole)


def _unpacked(archive: Path) -> io.BytesIO:
    done = subprocess.run(["zstd", "-dc", archive], check=True, capture_output=True)
    return io.BytesIO(done.stdout)


def _pack(archive: Path, whole: io.BytesIO) -> None:
    done = subprocess.run(["zstd", "-qc"], input=whole.getvalue(), check=True, capture_output=True)
    archive.write_bytes(done.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
