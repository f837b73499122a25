"""Builds the fault harness's server: two known states, a set of each, and the means to break things."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.lab.installed_package import install_product
from tests.lab.omnibus import Spec, install
from tests.lab.sandbox import Lab
from tests.system.helpers.faults import FOREIGN_DATABASES, FOREIGN_FOLDER, Fault, Server

HOME = "/var/opt/gitlab/mattermost"
DIST = "/usr/lib/python3/dist-packages"
# One line, as site(1) wants it; it does nothing without a fault in the environment.
LOADER = (
    'import os, sys; "GITLAB_MM_FAULT" in os.environ and (sys.path.append("/lab/src"), '
    '__import__("tests.system.helpers.faults_inside", fromlist="x").arm())\n'
)
# The stand-in, unless the file names the verb that must fail.
GITLAB_CTL = """\
#!/bin/sh
if [ "$(cat /run/fault-gitlab-ctl 2>/dev/null) 2" = "$1 $#" ]; then echo "fail: $2: on purpose"; exit 1; fi
exec /opt/gitlab/bin/gitlab-ctl.whole "$@"
"""
# "exit B": a Mattermost that ends when it has read its settings; "silent B": one that never
# answers. Each on state B alone.
MATTERMOST = f"""\
#!/bin/sh
word=$(cat /opt/fault-mattermost 2>/dev/null)
if [ -n "$word" ] && grep -q "\\"SiteName\\": \\"Site ${{word#* }}\\"" {HOME}/config.json; then
    case "$word" in exit*) sleep 0.5; exit 1 ;; silent*) exec sleep 100000 ;; esac
fi
exec /opt/gitlab/embedded/bin/mattermost.whole "$@"
"""


@contextlib.contextmanager
def server(
    base: Path, deb: Path, after: Callable[[Server], None] = lambda made: None, **options: Any
) -> Iterator[Server]:
    """A lab with both sets made, state B live; ``after`` may make others."""
    with Lab(base=base, disk_size="600m") as lab:
        # The lab's root shows this host's: its state of the product is not the lab's.
        lab.run("rm", "-rf", "/var/lib/gitlab-mm-backup")
        gitlab = install(lab, Spec(**options))
        product = install_product(lab, deb)
        seed = gitlab.seed()
        session = gitlab.sign_in("alice")
        made = Server(lab, gitlab, product, seed, session.token, list(seed.posts), list(seed.files))
        prepare(made)
        channel = seed.channels["coffee"]
        first = json.loads(session.call("POST", "/posts", json=message(channel, "Only in A")))["id"]
        fill_database(made, "a")
        made.posts.append(first)
        record(made, "A")
        change(made, session, first, channel)
        record(made, "B")
        after(made)
        yield made


def message(channel: str, text: str) -> dict[str, Any]:
    """A post for the API."""
    return {"channel_id": channel, "message": text, "file_ids": []}


def prepare(made: Server) -> None:
    """The means to break things, and what looks like ours."""
    lab = made.lab
    lab.write(f"{DIST}/gitlab-mm-faults.pth", LOADER)
    for path, wrapper in (
        ("/opt/gitlab/bin/gitlab-ctl", GITLAB_CTL),
        ("/opt/gitlab/embedded/bin/mattermost", MATTERMOST),
    ):
        lab.run("mv", path, f"{path}.whole")
        lab.write(path, wrapper, mode=0o755)
    # An empty file unsets the variable: the site's name then comes from config.json.
    lab.write("/opt/gitlab/etc/mattermost/env/MM_TEAMSETTINGS_SITENAME", "")
    for name in FOREIGN_DATABASES:
        made.gitlab.sql(f"CREATE DATABASE {name}", "postgres")
    lab.write(f"{FOREIGN_FOLDER}/precious", "not ours\n")


def fill_database(made: Server, mark: str) -> None:
    """Enough random text that a dump is worth cutting short."""
    made.gitlab.sql(
        "INSERT INTO posts SELECT p.* FROM (SELECT to_jsonb(x) AS one FROM posts x LIMIT 1) q,"
        " generate_series(1, 800) n, LATERAL jsonb_populate_record(NULL::posts, one || jsonb_build_object("
        f"'id', substr(md5('{mark}' || n), 1, 26), 'message', (SELECT string_agg(md5(random()::text),"
        " '') FROM generate_series(1, 20) WHERE n > 0))) p"
    )


def record(made: Server, name: str, fault: Fault | None = None) -> None:
    """Name the present state, make its set, and remember all of it."""
    config = json.loads(made.lab.read(f"{made.gitlab.home}/config.json"))
    config["TeamSettings"]["SiteName"] = f"Site {name}"
    made.lab.write(
        f"{made.gitlab.home}/config.json", json.dumps(config), mode=0o600, owner="mattermost"
    )
    made.gitlab.restart_mattermost()
    made.sets[name] = str(made.run("backup", fault=fault).document["path"])
    made.states[name] = made.observe()
    for post, text in made.seed.posts.items():
        assert made.states[name]["api"]["posts"][post] == text


def change(made: Server, session: Any, only_in_a: str, channel: str) -> None:
    """From state A to B: posts and uploads come and go, a plugin and a folder too."""
    made.gitlab.sql(f"DELETE FROM posts WHERE id = '{only_in_a}'")
    made.posts.append(
        json.loads(session.call("POST", "/posts", json=message(channel, "Only in B")))["id"]
    )
    # Small beside the uploads of both: a set of A after one of B must not look emptied.
    file = session.upload("only in B.bin", bytes(range(256)) * 8, "coffee")
    made.files.append(file)
    for state in made.states.values():
        state["api"]["posts"][made.posts[-1]] = None
        state["api"]["files"][file] = None
    data = made.gitlab.spec.data_folder or f"{HOME}/data"
    gone = made.lab.run("find", data, "-name", "report*").stdout.strip()
    made.lab.run("rm", gone)
    made.gitlab.sql("UPDATE fileinfo SET deleteat = updateat + 1 WHERE name LIKE 'report%'")
    made.lab.run("install", "-d", "-o", "mattermost", f"{data}/empty folder")
    big = "head -c 1500000 /dev/urandom > $0/big && chown mattermost $0/big"
    made.lab.run("sh", "-c", big, data)
    fill_database(made, "b")
