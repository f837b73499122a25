"""Forges sets: copies of good ones with other contents and right checksums.

As a program, inside a lab: argv is the set's copy and a JSON request {"add": a tar member to add
to files.tar.zst, "drop": bytes that the manifest names too few, "manifest": values to change}.
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

from tests.lab.sandbox import PYTHON
from tests.system.faults import Server

PROGRAMS = "/opt/gitlab/embedded/bin/"
AS_POSTGRES = f"{PROGRAMS}chpst -u gitlab-psql {PROGRAMS}"
SOCKET = "-h /var/opt/gitlab/postgresql"
VICTIM = f"COMMENT ON TABLE public.posts IS '{'x' * 300}';".encode()


def forged(server: Server, **request: Any) -> str:
    """A copy of the other state's set with what `request` says; gives its path."""
    path = _copied(server)
    server.lab.run(
        PYTHON, "-m", "tests.system.faults_forge", path, json.dumps(request), cwd="/lab/src"
    )
    return path


def forged_sql(server: Server, statement: str) -> str:
    """A copy of that set whose dump runs `statement` among its own."""
    path, lab = _copied(server), server.lab
    server.gitlab.sql("CREATE DATABASE scratch OWNER gitlab_mattermost", "postgres")
    load = f"zstd -dc {path}/database.dump.zst | {AS_POSTGRES}pg_restore {SOCKET} -d scratch"
    lab.run("sh", "-ec", load)
    server.gitlab.sql(f"COMMENT ON TABLE posts IS '{'x' * 300}'", "scratch")
    dump = lab.run_bytes("sh", "-c", f"{AS_POSTGRES}pg_dump {SOCKET} -Fc -Z0 scratch").stdout
    server.gitlab.sql("DROP DATABASE scratch", "postgres")
    assert dump.count(VICTIM) == 1
    hostile = dump.replace(VICTIM, statement.encode().ljust(len(VICTIM)))
    lab.run_bytes("sh", "-c", f"zstd -q -f -o {path}/database.dump.zst", input=hostile)
    lab.run(PYTHON, "-m", "tests.system.faults_forge", path, "{}", cwd="/lab/src")
    return path


def _copied(server: Server) -> str:
    good = server.sets[server.other]
    server.lab.run(
        "sh", "-ec", f"rm -rf /root/forged; mkdir /root/forged; cp -a {good} /root/forged"
    )
    return f"/root/forged/{good.rpartition('/')[2]}"


def main(path: Path, request: dict[str, Any]) -> None:
    """Change the set at `path`, and make its checksums fit."""
    sys.path.insert(0, "/usr/lib/python3/dist-packages")
    from gitlab_mm_backup import manifest as ours

    found = ours.parse((path / "manifest.json").read_bytes(), "the good set")
    files = found.files
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
        for data in [(path / part.file).read_bytes()]
    }
    values = dict(request.get("manifest", {}))
    server = values.pop("server", found.database.server)
    database = dataclasses.replace(found.database, server=server)
    made = dataclasses.replace(found, files=files, parts=parts, database=database, **values)
    (path / "manifest.json").write_bytes(ours.to_bytes(made))
    (path / "SHA256SUMS").write_bytes(ours.sums(made))


def _add(archive: Path, member: tarfile.TarInfo) -> None:
    plain = subprocess.run(["zstd", "-dc", archive], check=True, capture_output=True).stdout
    whole = io.BytesIO(plain)
    with tarfile.open(fileobj=whole, mode="a") as tar:
        body = io.BytesIO(b"#" * member.size) if member.isreg() else None
        tar.addfile(member, body)
    packed = subprocess.run(
        ["zstd", "-q", "-c"], input=whole.getvalue(), check=True, capture_output=True
    )
    archive.write_bytes(packed.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
