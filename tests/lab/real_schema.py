"""The schema of real servers, as PostgreSQL's pg_dump writes it: make schema MATTERMOST=DIR.

    python -m tests.lab.real_schema /srv/mattermost-9.11 /srv/mattermost-10.9

writes tests/lab/fixtures/schema-9.11.sql and so on: unit tests hold the product's lists and the stand-in against them.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from tests.lab.base import build_base
from tests.lab.fakes.generation import version_tuple
from tests.lab.real_mattermost import RealMattermost
from tests.lab.sandbox import Lab

FIRST = "5.37"  # columns only, as JSON: the stand-in makes its tables from these
FIXTURES = Path(__file__).resolve().parent / "fixtures"
OPTIONS = ("--schema-only", "--no-owner", "--no-privileges", "--no-comments")
# Of no use to a reader, and different in each minor version of PostgreSQL.
NOISE = re.compile(r"^(--|SET |SELECT pg_catalog\.set_config|\\(un)?restrict|CREATE SCHEMA )")

TABLE = re.compile(r"^CREATE TABLE public\.(\w+) \(\n(.*?)\n\)(?:\n|;)", re.DOTALL | re.MULTILINE)
COLUMN = re.compile(
    r'^ *"?(?P<name>\w+)"? (?P<type>.+?)(?: COLLATE .*| DEFAULT .*| NOT NULL.*| GENERATED .*)?,?$',
    re.MULTILINE,
)
SHORT = {"character varying": "varchar", "character": "char", "public.": ""}

Columns = dict[str, dict[str, str]]  # of each table, by their names, and their types


def columns(version: str) -> Columns:
    """The columns of a real server whose schema is among the fixtures, such as "10.9"."""
    if version == FIRST:
        old = json.loads((FIXTURES / f"schema-{version}.json").read_text())
        return {
            table: {
                name: short(type_) for name, _, type_ in (text.partition(" ") for text in texts)
            }
            for table, texts in old.items()
        }
    text = (FIXTURES / f"schema-{version}.sql").read_text()
    found = {table: COLUMN.finditer(body) for table, body in TABLE.findall(text)}
    return {
        table: {
            column["name"]: short(column["type"])
            for column in rows
            if column["name"] != "CONSTRAINT"
        }
        for table, rows in found.items()
    }


def short(type_: str) -> str:
    """A type as people write it."""
    for long, word in SHORT.items():
        type_ = type_.replace(long, word)
    return type_


def versions() -> list[str]:
    """Versions with a fixture, oldest first."""
    names = [path.stem.partition("-")[2] for path in FIXTURES.glob("schema-*")]
    return sorted(names, key=version_tuple)


def dumped(base: Path, real: RealMattermost) -> str:
    """The schema that a server makes in an empty database."""
    with Lab(base=base) as lab:
        gitlab = real.installed(lab)
        dump = ("/opt/gitlab/embedded/bin/pg_dump", *OPTIONS, "-d", gitlab.database)
        place = ("-h", "/var/opt/gitlab/postgresql", "-U", "gitlab-psql")
        text = lab.run(*dump, *place, user="gitlab-psql").stdout
    lines = [line for line in text.splitlines() if not NOISE.match(line)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def main(directories: list[str]) -> int:
    """Write the schemas of these servers."""
    base = build_base()
    for directory in directories:
        real = RealMattermost(Path(directory))
        path = FIXTURES / f"schema-{'.'.join(real.version.split('.')[:2])}.sql"
        path.write_text(dumped(base, real))
        print(f"{path}: {real.version}, {path.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
