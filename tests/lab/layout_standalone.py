"""Installs a standalone "Mattermost" and its PostgreSQL on the host it runs on: what package, guide and admin leave.

Runs inside a lab with systemd, as root: `python3 -m tests.lab.layout_standalone` with a JSON object on stdin (the
fields of standalone.Spec). Afterwards PostgreSQL runs, and Mattermost is enabled but not started.
"""

from __future__ import annotations

import compileall
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.lab.fakes import go_json, paths

HERE = Path(__file__).resolve().parent
CODE = Path("/usr/lib/lab-mattermost")
CLUSTER = "chat"
ENTRY = """\
#!/usr/bin/python3 -I
import sys
sys.path.insert(0, "{code}")
from fakes.mattermost import main
sys.exit(main())
"""
# The unit of Mattermost's guide for its tarball; its package ships the like.
UNIT = """\
[Unit]
Description=Mattermost
After=network.target

[Service]
Type=notify
ExecStart={folder}/bin/mattermost
TimeoutStartSec=3600
KillMode=mixed
Restart=always
RestartSec=10
WorkingDirectory={folder}
User={account}
Group={account}
LimitNOFILE=49152
{more}
[Install]
WantedBy=multi-user.target
"""
ROLE = """\
CREATE ROLE "{role}" LOGIN {rights} PASSWORD '{password}';
CREATE DATABASE "{database}" OWNER "{role}";
"""
Spec = dict[str, Any]


def run(*argv: str, **named: Any) -> None:
    """Run a program that must succeed."""
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, **named)


def install_program(spec: Spec, folder: Path) -> None:
    """The tree of the package: programs, the web app's folder, defaults."""
    for name in ("fakes", "fixtures"):
        shutil.copytree(HERE / name, CODE / name)
    for path in [CODE, *CODE.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    compileall.compile_dir(str(CODE / "fakes"), quiet=2)
    paths.write(CODE / "mattermost-version", spec["version"])
    paths.write(folder / "bin/mattermost", ENTRY.format(code=CODE), 0o755)
    for name in ("client/plugins", "data", "logs", "plugins", "prepackaged_plugins"):
        (folder / name).mkdir(parents=True)
    paths.write(folder / "client/root.html", "<html></html>")
    paths.write(folder / "config/README.md", "# Configuration\n")
    defaults = (HERE / "fixtures/config-5.37.json").read_text()
    paths.write(folder / "config/config.defaults.json", defaults)


def write_config(spec: Spec, folder: Path) -> None:
    """config.json as the admin has it: the defaults, with the database and the address."""
    config = json.loads((folder / "config/config.defaults.json").read_text())
    config["SqlSettings"]["DataSource"] = spec["data_source"]
    config["ServiceSettings"].update(ListenAddress=spec["listen"], SiteURL=spec["site_url"])
    paths.write(folder / "config/config.json", go_json.dumps(config), 0o600)


def make_database(spec: Spec) -> None:
    """A cluster of Debian's, with a role that has a password."""
    version = max(Path("/usr/lib/postgresql").iterdir(), key=lambda path: int(path.name)).name
    run("pg_createcluster", "--port", str(spec["port"]), version, CLUSTER)
    settings = Path(f"/etc/postgresql/{version}/{CLUSTER}/postgresql.conf")
    with settings.open("a") as file:
        file.write("fsync = off\nfull_page_writes = off\nmax_connections = 60\n")
    run("pg_ctlcluster", version, CLUSTER, "start")
    psql = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "psql", "-Xq")
    run(*psql, "-p", str(spec["port"]), input=ROLE.format(**spec).encode(), cwd="/")


def main() -> int:
    """Install everything."""
    spec = json.load(sys.stdin)
    folder, account = Path(spec["folder"]), spec["account"]
    uid = ("--system", "--no-create-home", "--user-group", "--uid", str(spec["uid"]))
    run("useradd", *uid, account)
    install_program(spec, folder)
    write_config(spec, folder)
    run("chown", "-R", f"{account}:{account}", str(folder))
    run("chmod", "-R", "g+w", str(folder))
    unit = UNIT.format(folder=folder, account=account, more=spec["unit"])
    paths.write(Path(spec["unit_folder"]) / "mattermost.service", unit)
    make_database(spec)
    run("systemctl", "daemon-reload")
    run("systemctl", "enable", "mattermost", stderr=subprocess.DEVNULL)
    return 0


if __name__ == "__main__":
    sys.exit(main())
