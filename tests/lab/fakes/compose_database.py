"""What PostgreSQL's image starts: a real server on its volume, which may be empty.

As docker-entrypoint.sh of that image, with its variables POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB. The user is
a superuser; other containers need the password, and only this one's loopback does not.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ACCOUNT = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups")
RULES = "local all all trust\nhost all all 127.0.0.1/32 trust\nhost all all all scram-sha-256\n"
SETTINGS = "listen_addresses = '*'\nfsync = off\nunix_socket_directories = '/var/run/postgresql'\n"


def programs() -> Path:
    """The newest server of the image."""
    return max(Path("/usr/lib/postgresql").iterdir(), key=lambda path: int(path.name)) / "bin"


def make(data: Path) -> None:
    """Make the cluster and its database."""
    user, name = os.environ["POSTGRES_USER"], os.environ["POSTGRES_DB"]
    word = Path("/run/password")
    word.write_text(os.environ["POSTGRES_PASSWORD"])
    word.chmod(0o644)
    made = ("--username", user, f"--pwfile={word}", "--auth-host=scram-sha-256", "--encoding=UTF8")
    run(str(programs() / "initdb"), "--pgdata", str(data), "--locale=C.UTF-8", *made)
    (data / "pg_hba.conf").write_text(os.environ.get("LAB_RULES") or RULES)
    with (data / "postgresql.conf").open("a") as file:
        file.write(SETTINGS)
    run(str(programs() / "pg_ctl"), "--pgdata", str(data), "--wait", "start", "-l", "/dev/null")
    run(str(programs() / "createdb"), "--username", user, "--host", "/var/run/postgresql", name)
    run(str(programs() / "pg_ctl"), "--pgdata", str(data), "--wait", "stop")


def run(*argv: str) -> None:
    """Run a program of PostgreSQL as its account."""
    subprocess.run([*ACCOUNT, *argv], check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    """Fill an empty volume, then become the server."""
    data = Path(os.environ["PGDATA"])
    for folder in (data, Path("/var/run/postgresql")):
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["chown", "postgres:postgres", str(folder)], check=True)
    data.chmod(0o700)
    (data / "postmaster.pid").unlink(missing_ok=True)
    if not (data / "PG_VERSION").exists():
        make(data)
    argv = [*ACCOUNT, str(programs() / "postgres"), "-D", str(data)]
    os.execv("/usr/bin/setpriv", argv)


if __name__ == "__main__":
    sys.exit(main())
