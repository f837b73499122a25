"""Who owns a database never gets more by what lies in it: no superuser of ours works there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.installed_package import Product
from tests.lab.omnibus import Omnibus
from tests.lab.sandbox import Lab
from tests.system.helpers.attacks import Attacks, target
from tests.system.helpers.qualified import sent, unqualified
from tests.system.helpers.spies import OPERATOR, SPY, VIEW, seen

MATTERMOST = ("gitlab_mattermost", "mattermost_production", "mattermost")
GITLAB = ("gitlab", "gitlabhq_production", "git")
# Trap -> how it is laid.
TRAPS = {
    "an operator": OPERATOR,
    "an operator of a comparison": """
        CREATE FUNCTION public.same(name, varchar) RETURNS boolean LANGUAGE plpgsql AS $$
        BEGIN PERFORM public.spy('an operator of a comparison');
        RETURN $1::text OPERATOR(pg_catalog.=) $2::text; END $$;
        CREATE OPERATOR public.= (leftarg = name, rightarg = varchar, function = public.same);""",
    "views of the catalog, by search_path": """
        ALTER DATABASE {database} SET search_path = public, pg_catalog;
        CREATE VIEW public.pg_class AS SELECT c.* FROM pg_catalog.pg_class c
            WHERE public.spy('views of the catalog, by search_path');
        CREATE VIEW public.pg_database AS SELECT d.* FROM pg_catalog.pg_database d
            WHERE public.spy('views of the catalog, by search_path');""",
    "a function of the catalog's name, by search_path": """
        ALTER ROLE {role} IN DATABASE {database} SET search_path = public, pg_catalog;
        CREATE FUNCTION public.current_setting(text) RETURNS text LANGUAGE plpgsql AS $$
        BEGIN PERFORM public.spy('a function of the catalog''s name, by search_path');
        RETURN pg_catalog.current_setting($1); END $$;""",
    "an index expression": """
        CREATE FUNCTION public.spied(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
        BEGIN PERFORM public.spy('an index expression'); RETURN $1; END $$;
        CREATE INDEX indexed ON {people} (public.spied(username));""",
    "extended statistics of an expression": """
        CREATE FUNCTION public.measured(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
        BEGIN PERFORM public.spy('extended statistics of an expression'); RETURN $1; END $$;
        CREATE STATISTICS measured ON (public.measured(username)) FROM {people};""",
    "a rule": """
        CREATE RULE spied AS ON UPDATE TO {people} DO ALSO SELECT public.spy('a rule');""",
    "a trigger": """
        CREATE FUNCTION public.triggered() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM public.spy('a trigger'); RETURN NEW; END $$;
        CREATE TRIGGER triggered BEFORE INSERT OR UPDATE ON {written}
            FOR EACH ROW EXECUTE FUNCTION public.triggered();""",
    "a check that every row passes": """
        ALTER TABLE {people} ADD CONSTRAINT spied CHECK (public.spy('a check that every row passes'))
            NOT VALID;""",
    "a cast": """
        CREATE TYPE public.odd AS (word text);
        CREATE FUNCTION public.odd_text(public.odd) RETURNS text LANGUAGE plpgsql AS $$
        BEGIN PERFORM public.spy('a cast'); RETURN ($1).word; END $$;
        CREATE CAST (public.odd AS text) WITH FUNCTION public.odd_text(public.odd) AS IMPLICIT;""",
    "a materialized view": """
        CREATE MATERIALIZED VIEW gathered AS SELECT public.spy('a materialized view') AS spied;""",
    "a policy of rows": """
        CREATE TABLE secret (id int);
        CREATE POLICY spied ON secret USING (public.spy('a policy of rows'));
        ALTER TABLE secret ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;""",
}
IN_MATTERMOST = {
    **TRAPS,
    "a view in place of posts": VIEW.format(table="posts", trap="a view in place of posts"),
    "a view in place of teams": VIEW.format(table="teams", trap="a view in place of teams"),
}
IN_GITLAB = {
    **{name: TRAPS[name] for name in TRAPS if "policy" not in name},
    "a view in place of the applications": VIEW.format(
        table="oauth_applications", trap="a view in place of the applications"
    ),
}
# No owner can plant one, but what a superuser planted calls a function that is the owner's to replace.
EVENT_TRIGGER = "an event trigger"
EVENT_FUNCTION = f"""
CREATE FUNCTION public.told_of() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM public.spy('{EVENT_TRIGGER}'); END $$;
"""
EVENT = "CREATE EVENT TRIGGER spied ON ddl_command_start EXECUTE PROCEDURE public.told_of()"
# Has the server write down what a superuser sends in postgres.
LISTEN = "ALTER ROLE \"gitlab-psql\" IN DATABASE postgres SET log_statement = 'all'"
DEAF = 'ALTER ROLE "gitlab-psql" IN DATABASE postgres RESET log_statement'
# Where sessions of the owner, and before there were such the superuser's, step into them.
CALLED_IN_MATTERMOST = {
    "an operator",
    "views of the catalog, by search_path",
    "a function of the catalog's name, by search_path",
    "an index expression",
    "a materialized view",
    "a view in place of posts",
    "a view in place of teams",
}
VERBS = (
    ("doctor",),
    ("doctor", "--to", "19"),
    ("status",),
    ("list",),
    ("gate", "gitlab-ce 18.11.9-ce.0 amd64 none < 19.0.0-ce.0 amd64 none /x.deb"),
    ("backup",),
    ("verify",),
    ("rehearse",),
    ("sso", "check"),
    ("accounts", "convert", "--from", "gitlab", "--to", "email", "--dry-run"),
    ("report", "/root/report.html"),
    ("kit", "/root/kit.html"),
    ("sso", "repair", "--dry-run"),
    ("sso", "repair", "--rotate"),
    ("prune", "--yes"),
    ("restore", "--yes", "latest"),
)


@dataclass
class House:
    """A server whose databases' owners lay traps."""

    lab: Lab
    gitlab: Omnibus
    product: Product

    def as_owner(self, who: tuple[str, str, str], statements: str) -> None:
        """Run SQL as the owner of a database."""
        role, database, account = who
        psql = (
            "/opt/gitlab/embedded/bin/psql -X -q -v ON_ERROR_STOP=1 -h /var/opt/gitlab/postgresql"
        )
        script = f"{psql} -U {role} -d {database} -f -"
        done = self.lab.run("sh", "-c", script, user=account, input=statements, check=False)
        assert done.returncode == 0, done.stderr


def lay(house: House, who: tuple[str, str, str], trap: str, statements: str) -> None:
    role, database, _ = who
    words = {"role": role, "database": database, "people": "users"}
    words["written"] = "oauth_applications" if who is GITLAB else "users"
    for name, value in words.items():
        statements = statements.replace(f"{{{name}}}", value)
    house.as_owner(who, SPY + statements)


@pytest.fixture(scope="module")
def house(base: Path, deb: Path) -> Iterator[House]:
    with target(base, deb) as (lab, gitlab, product):
        assert product("backup").code == 0
        made = House(lab, gitlab, product)
        # Until PostgreSQL 15 everybody may make objects there.
        gitlab.sql("GRANT CREATE ON SCHEMA public TO PUBLIC", "postgres")
        in_postgres = ("gitlab_mattermost", "postgres", "mattermost")
        made.as_owner(in_postgres, SPY + TRAPS["an operator"])
        made.as_owner(in_postgres, TRAPS["an operator of a comparison"])
        gitlab.sql(LISTEN, "postgres")
        yield made


@pytest.fixture(scope="module")
def attacks() -> Attacks:
    return Attacks("database")


@pytest.mark.parametrize(
    ("who", "traps", "some"),
    [
        (MATTERMOST, IN_MATTERMOST, CALLED_IN_MATTERMOST),
        (GITLAB, IN_GITLAB, {"a view in place of the applications"}),
    ],
    ids=["mattermost", "gitlab"],
)
def test_no_trap_of_an_owner_sees_a_superuser(
    house: House,
    attacks: Attacks,
    who: tuple[str, str, str],
    traps: dict[str, str],
    some: set[str],
) -> None:
    for trap, statements in traps.items():
        lay(house, who, trap, statements)
    lay(house, who, EVENT_TRIGGER, EVENT_FUNCTION)
    house.gitlab.sql(EVENT, who[1])
    before = len(seen(house.lab))
    hostile = str(house.product("backup").document["set"])
    for verb in (*VERBS, ("restore", "--yes", "--replace-with-empty", hostile), *VERBS[-2:]):
        done = house.product.run(*verb, timeout=300)
        assert "Traceback" not in done.stderr, (verb, done.stderr)
        assert done.returncode in (0, 1, 4), (verb, done.stdout, done.stderr)
    found = seen(house.lab)[before:]
    for trap in (*traps, EVENT_TRIGGER):
        with attacks.row(f"the owner of {who[1]} plants {trap}"):
            assert not [visit for visit in found if visit.trap == trap and visit.superuser]
    assert some <= {visit.trap for visit in found}, "they are where our sessions step into them"


def test_what_everybody_may_plant_in_postgres_is_not_seen(house: House, attacks: Attacks) -> None:
    """After all verbs of the tests before."""
    with attacks.row(
        "everybody may create in the schema public of postgres, as until PostgreSQL 15"
    ):
        assert not [visit for visit in seen(house.lab) if visit.superuser]


def test_a_superuser_names_the_schema_of_all_that_it_uses(house: House, attacks: Attacks) -> None:
    """After all verbs of the tests before."""
    statements = set(sent(house.lab))
    assert len(statements) > 20
    with attacks.row("a name or an operator without its schema in a superuser's statement"):
        assert {
            statement: words for statement in statements if (words := unqualified(statement))
        } == {}
    house.gitlab.sql(DEAF, "postgres")


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("SELECT 1 FROM pg_database", ["pg_database"]),
        ("SELECT count(*) FROM pg_catalog.pg_roles", ["count"]),
        ("SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $1", ["="]),
        ("SELECT oid FROM pg_catalog.pg_roles WHERE oid IN (1, 2)", ["IN"]),
        ("SELECT oid::text FROM pg_catalog.pg_roles r", ["text"]),
        ("SELECT oid::pg_catalog.text FROM pg_catalog.pg_roles r", []),
        ("SELECT 1 FROM pg_catalog.pg_roles WHERE oid OPERATOR(pg_catalog.=) 'a = b'", []),
    ],
)
def test_what_has_no_schema_is_found(statement: str, found: list[str]) -> None:
    assert unqualified(statement) == found


def test_a_superuser_who_works_there_would_be_seen(house: House) -> None:
    trap = "a view in place of teams"
    lay(house, MATTERMOST, trap, IN_MATTERMOST[trap])
    house.gitlab.sql("SELECT count(*) FROM teams")
    house.gitlab.sql("SELECT 1 FROM pg_database WHERE datname NOT LIKE 'x%'", "postgres")
    found = [visit for visit in seen(house.lab) if visit.superuser]
    assert {visit.trap for visit in found} == {trap, "an operator"}
    house.as_owner(MATTERMOST, "DROP VIEW teams; ALTER TABLE teams_real RENAME TO teams")


def test_what_the_owner_may_not_read_is_told(house: House) -> None:
    trap = "a policy of rows"
    lay(house, MATTERMOST, trap, TRAPS[trap])
    house.gitlab.sql("CREATE TABLE audit (id serial)")
    answer = house.product("backup")
    assert answer.code == 4, answer
    told = {warning.partition(" ")[0]: warning for warning in answer.document["told"]}
    assert {name: warning.partition(": ")[2] for name, warning in told.items()} == {
        "public.secret": "a policy hides rows of it from Mattermost's role",
        "public.audit": "it belongs to gitlab-psql, and Mattermost's role may not read it",
        "public.audit_id_seq": "it belongs to gitlab-psql, and Mattermost's role may not read it",
    }
    rows = json.loads(house.lab.read(f"{answer.document['path']}/manifest.json"))["database"][
        "rows"
    ]
    assert rows and not {"public.audit", "public.secret"} & set(rows)
    assert house.product.restore(str(answer.document["set"])).code in (0, 4)
