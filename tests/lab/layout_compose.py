"""Makes of a host the images of a compose project: Mattermost's server and PostgreSQL in one tree.

Runs inside a lab, as root: `python3 -m tests.lab.layout_compose` with the fields of compose.Spec on stdin. The server
is at /mattermost for the account 2000, as in its image; PostgreSQL is Debian's. Volumes are left empty.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from tests.lab.layout_standalone import install_program

FOLDER = Path("/mattermost")
VOLUMES = ("config", "data", "logs", "plugins", "client/plugins")


def main() -> int:
    """Install everything."""
    spec = json.load(sys.stdin)
    subprocess.run(["groupadd", "--gid", "2000", "mattermost"], check=True)
    account = ("--no-create-home", "--uid", "2000", "--gid", "2000", "mattermost")
    subprocess.run(["useradd", *account], check=True)
    install_program(spec, FOLDER)
    for name in VOLUMES:
        shutil.rmtree(FOLDER / name)
        (FOLDER / name).mkdir()
    subprocess.run(["chown", "-R", "mattermost:mattermost", str(FOLDER)], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
