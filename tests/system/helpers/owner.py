"""The owner of Mattermost's database, who keeps changing it: a program in a lab, as the account itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from subprocess import PIPE

from tests.lab.sandbox import Lab
from tests.system.helpers.spies import SPY

DATABASE = "mattermost_production"
_PROGRAM = "/tmp/owner.py"

# (what it is, the change, the way back); each is one transaction, so no session sees half of one.
CHANGES = (
    (
        "a table becomes a view",
        """ALTER TABLE posts RENAME TO posts_real;
        CREATE VIEW posts WITH (security_barrier) AS
            SELECT * FROM posts_real WHERE public.spy('a table becomes a view')""",
        "DROP VIEW posts; ALTER TABLE posts_real RENAME TO posts",
    ),
    (
        "a column is added",
        "ALTER TABLE users ADD COLUMN odd text DEFAULT 'odd'",
        "ALTER TABLE users DROP COLUMN odd",
    ),
    (
        "an operator of the catalog's name",
        """CREATE FUNCTION public.unlike(name, name) RETURNS boolean LANGUAGE plpgsql AS $$
        BEGIN PERFORM public.spy('an operator of the catalog''s name');
        RETURN $1 OPERATOR(pg_catalog.!~~) $2::text; END $$;
        CREATE OPERATOR public.!~~ (leftarg = name, rightarg = name, function = public.unlike)""",
        "DROP OPERATOR public.!~~ (name, name); DROP FUNCTION public.unlike(name, name)",
    ),
    (
        "a function of the catalog's name",
        """CREATE FUNCTION public.current_setting(text) RETURNS text LANGUAGE plpgsql AS $$
        BEGIN PERFORM public.spy('a function of the catalog''s name');
        RETURN pg_catalog.current_setting($1); END $$""",
        "DROP FUNCTION public.current_setting(text)",
    ),
    (
        "a rule",
        "CREATE RULE odd AS ON UPDATE TO users DO ALSO SELECT public.spy('a rule')",
        "DROP RULE odd ON users",
    ),
    (
        "an index expression",
        """CREATE FUNCTION public.odd(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
        BEGIN PERFORM public.spy('an index expression'); RETURN $1; END $$;
        CREATE INDEX odd ON teams (public.odd(name))""",
        "DROP INDEX odd; DROP FUNCTION public.odd(text)",
    ),
    (
        "a table is made and dropped",
        "CREATE TABLE odd AS SELECT number FROM generate_series(1, 500) AS number",
        "DROP TABLE odd",
    ),
    (
        "rows come and go",
        "CREATE TABLE rows AS SELECT 1 AS one; INSERT INTO rows SELECT 2; DELETE FROM rows",
        "DROP TABLE rows",
    ),
    (
        "the search path",
        """ALTER DATABASE mattermost_production SET search_path = public, pg_catalog;
        CREATE VIEW public.pg_class AS SELECT c.* FROM pg_catalog.pg_class c
            WHERE public.spy('the search path')""",
        "ALTER DATABASE mattermost_production RESET search_path; DROP VIEW public.pg_class",
    ),
    (
        "a schema",
        "CREATE SCHEMA odd; CREATE TABLE odd.teams AS SELECT * FROM public.teams",
        "DROP SCHEMA odd CASCADE",
    ),
)
_CODE = f"""
import sys, psycopg
CHANGES = {CHANGES!r}
done = 0
def connect():
    return psycopg.connect(host="/var/opt/gitlab/postgresql", user="gitlab_mattermost",
        dbname={DATABASE!r}, autocommit=True,
        options="-c lock_timeout=300ms -c search_path=public -c statement_timeout=5s")
def change(session, statements):
    try:
        with session.transaction():
            session.execute(statements)
    except psycopg.OperationalError:
        if session.closed:
            raise
        return False  # somebody has a lock on it
    except psycopg.DatabaseError:
        return False  # as after a way back that was not to be had
    return True
print("ready", flush=True)
while True:
    try:
        with connect() as session:
            while True:
                for _, there, back in CHANGES:
                    if change(session, there):
                        done += 1
                    change(session, back)
                    print(done, flush=True)
    except psycopg.Error:
        pass
"""


def prepare(lab: Lab, psql: str) -> None:
    """Plant what its functions call, and put the program there."""
    lab.run("sh", "-c", psql, user="mattermost", input=SPY)
    lab.write(_PROGRAM, _CODE)


@contextlib.contextmanager
def changing(lab: Lab) -> Iterator[list[int]]:
    """Have the owner change the database meanwhile; yield a list that gets how often at last."""
    owner = lab.popen("python3", _PROGRAM, user="mattermost", stdout=PIPE)
    counts: list[int] = []
    try:
        assert owner.stdout is not None and owner.stdout.readline() == "ready\n"
        yield counts
    finally:
        lab.send_signal(owner, 9)
        counts.append(max(map(int, owner.communicate()[0].split()), default=0))


def settle(lab: Lab, psql: str) -> None:
    """Take back whatever it was in the middle of."""
    for _, _, back in CHANGES:
        lab.run("sh", "-c", psql, user="mattermost", input=f"BEGIN; {back}; COMMIT;", check=False)
