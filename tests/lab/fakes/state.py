"""Everything of Mattermost that a backup must bring back, as one JSON object on stdout, for comparing before and after.

{"tables": {name: [rows, digest]}, "owners": {relation, type or database: role},
"files": {path: {kind, owner, group, mode, content}}}, where content is a SHA-256, a link's target, or "".
Runs as root inside the lab.
"""

from __future__ import annotations

import grp
import hashlib
import json
import pwd
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import attributes, paths, postgresql

LIST_TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'm')"
OWNERS = """
SELECT relkind::text || ' ' || relname, relowner::regrole FROM pg_class WHERE relnamespace = 'public'::regnamespace
UNION ALL SELECT 'type ' || typname, typowner::regrole FROM pg_type
  WHERE typnamespace = 'public'::regnamespace AND typtype = 'e'
UNION ALL SELECT 'database', datdba::regrole FROM pg_database WHERE datname = current_database()
"""
DIGEST = """
SELECT '{table}', count(*), md5(coalesce(string_agg(t::text, E'\\n' ORDER BY t::text COLLATE "C"), '')) FROM "{table}" t
"""


def tables(server: postgresql.Server, database: str) -> dict[str, list[Any]]:
    """Row count and digest of every table and materialized view."""
    names = server.sql(LIST_TABLES, database)
    if not names:
        return {}
    lines = server.sql(" UNION ALL ".join(DIGEST.format(table=name) for name in names), database)
    rows = [line.split("|") for line in lines]
    return {name: [int(count), digest] for name, count, digest in rows}


def owners(server: postgresql.Server, database: str) -> dict[str, str]:
    """Who owns what."""
    return dict(line.split("|") for line in server.sql(OWNERS, database))


def walk(place: Path) -> Iterator[Path]:
    """A folder and everything below it, links not followed."""
    yield place
    if place.is_dir() and not place.is_symlink():
        for entry in sorted(place.iterdir()):
            yield from walk(entry)


def describe(path: Path) -> dict[str, str]:
    """What must survive of one file."""
    facts = path.lstat()
    kind, content = "other", ""
    if stat.S_ISLNK(facts.st_mode):
        kind, content = "link", str(path.readlink())
    elif stat.S_ISDIR(facts.st_mode):
        kind = "folder"
    elif stat.S_ISREG(facts.st_mode):
        kind, content = "file", hashlib.sha256(path.read_bytes()).hexdigest()
    return {
        "kind": kind,
        "owner": name_of(facts.st_uid, pwd.getpwuid),
        "group": name_of(facts.st_gid, grp.getgrgid),
        "mode": f"{stat.S_IMODE(facts.st_mode):04o}",
        "content": content,
    }


def name_of(number: int, database: Any) -> str:
    """Name of a user or group; the number when there is none."""
    try:
        return str(database(number)[0])
    except KeyError:
        return str(number)


def folders(mattermost: dict[str, Any]) -> list[Path]:
    """Mattermost's folders, none inside another one."""
    listed = [
        Path(mattermost[key])
        for key in ("home", "file_directory", "plugin_directory", "plugin_client_directory")
    ]
    found = [place for place in listed if place.exists()]
    found += [place.resolve() for place in found if place.is_symlink()]
    data = Path(mattermost["home"]) / "data"
    if data.is_symlink():
        found.append(data.resolve())
    return sorted({place for place in found if not any(other in place.parents for other in found)})


def main() -> int:
    """Print the state."""
    package = paths.load_package()
    settings = attributes.effective(package, attributes.collect(package))
    server, database = (
        postgresql.Server(settings["postgresql"]),
        settings["mattermost"]["database_name"],
    )
    state = {
        "tables": tables(server, database),
        "owners": owners(server, database),
        "files": {
            str(path): describe(path)
            for place in folders(settings["mattermost"])
            for path in walk(place)
        },
    }
    json.dump(state, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
