"""What a plain role cannot load comes back in a safe way, or the backup tells that it will not."""

from __future__ import annotations

from pathlib import Path

from tests.lab.installed_package import install_product
from tests.lab.omnibus import Omnibus, Spec, install
from tests.lab.sandbox import Lab
from tests.system.backup.test_database_properties import as_superuser, told_each

# Of a superuser, and of Mattermost's role.
MADE = """
    CREATE EXTENSION pg_stat_statements;
    CREATE SCHEMA tools AUTHORIZATION gitlab_mattermost;
    CREATE EXTENSION pageinspect;
    CREATE EXTENSION postgres_fdw SCHEMA tools;
    CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw;
    COMMENT ON SERVER elsewhere IS 'a warehouse';
    CREATE USER MAPPING FOR PUBLIC SERVER elsewhere;
    CREATE FOREIGN TABLE facts (i int) SERVER elsewhere;
    CREATE PUBLICATION changes FOR ALL TABLES;
    CREATE SUBSCRIPTION news CONNECTION 'dbname=x' PUBLICATION p WITH (connect = false);
    CREATE FUNCTION absolute(int) RETURNS int LANGUAGE internal IMMUTABLE AS 'int4abs';
    CREATE FUNCTION discreet(int) RETURNS int LANGUAGE sql IMMUTABLE LEAKPROOF AS 'SELECT $1';
    CREATE CAST (text AS int) WITH INOUT AS ASSIGNMENT;
    CREATE SCHEMA extensions;
    CREATE EXTENSION pgcrypto SCHEMA extensions;
    SELECT lo_from_bytea(0, 'of a superuser');
    CREATE TABLE audit (i int);
    CREATE VIEW audited AS SELECT count(*) FROM audit;
    CREATE VIEW audited_twice AS SELECT * FROM audited;
    GRANT SELECT ON audited_twice TO gitlab_mattermost;
    ALTER TABLE posts SET TABLESPACE fast;
    CREATE EXTENSION unaccent;
    SET ROLE gitlab_mattermost;
    CREATE FUNCTION log_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN NULL; END';
    CREATE FUNCTION f_unaccent(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT unaccent($1)';
    CREATE INDEX posts_unaccent ON posts (f_unaccent(message));
    CREATE TABLE notes (t text CHECK (f_unaccent(t) <> ''), u text GENERATED ALWAYS AS (f_unaccent(t)) STORED);
    INSERT INTO notes VALUES ('é'), ('a');
    CREATE MATERIALIZED VIEW words AS
        SELECT * FROM ts_stat('SELECT to_tsvector(''simple'', message) FROM posts');
    CREATE TABLE own_rows (i int, o text);
    INSERT INTO own_rows VALUES (1, 'a'), (2, 'b');
    ALTER TABLE own_rows ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON own_rows USING (o = current_user);
    CREATE TABLE hidden (i int, o text);
    ALTER TABLE hidden ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
    CREATE TABLE parted (i int PRIMARY KEY, t text) PARTITION BY RANGE (i);
    CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (10);
    CREATE TABLE parted_rest PARTITION OF parted DEFAULT;
    INSERT INTO parted VALUES (1, 'x'), (100, 'y');
    CREATE SCHEMA reporting;
    CREATE TABLE reporting.t (i int PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
        g int GENERATED ALWAYS AS (1 + 1) STORED);
    INSERT INTO reporting.t DEFAULT VALUES;
    CREATE UNLOGGED TABLE reporting.u (i int);
    CREATE COLLATION german (provider = icu, locale = 'de-u-ks-level2', deterministic = false);
    CREATE TABLE sorted (a text COLLATE german UNIQUE);
    CREATE EXTENSION pg_trgm;
    CREATE INDEX posts_trgm ON posts USING gin (message gin_trgm_ops);
    CREATE TABLE "My Table;--" ("a b" int PRIMARY KEY, "c""d" text UNIQUE);
    CREATE INDEX "odd idx; x" ON "My Table;--" ("a b");
    RESET ROLE;
    CREATE EVENT TRIGGER audit_ddl ON ddl_command_end EXECUTE FUNCTION log_ddl();
"""
ASKED = {
    "extensions": "SELECT extname, extnamespace::regnamespace FROM pg_extension ORDER BY 1",
    "index": "SELECT indisvalid FROM pg_index WHERE indexrelid = 'posts_unaccent'::regclass",
    "notes": "SELECT t, u FROM notes ORDER BY 1",
    "words": "SELECT count(*) > 0 FROM words",
    "a policy": "SELECT i, o, relrowsecurity FROM own_rows, pg_class WHERE relname = 'own_rows'",
    "partitions": "SELECT tableoid::regclass, i, t FROM parted ORDER BY i",
    "another schema": "SELECT i, g, relpersistence FROM reporting.t, pg_class WHERE relname = 'u'",
    "a collation": "SELECT collprovider, collisdeterministic FROM pg_collation WHERE collname = 'german'",
    "odd names": "SELECT indexname FROM pg_indexes WHERE indexname IN ('posts_trgm', 'odd idx; x')"
    " ORDER BY 1",
}
LARGE = "SELECT encode(data, 'escape') FROM pg_largeobject"
TOLD = {
    "Event trigger audit_ddl": "create it again",
    "Publication changes": "create it again",
    "Foreign server elsewhere": "create it again",
    "Foreign table facts": "create it again",
    "Subscription news": "create it again",
    "public.audit of the database": "it belongs to gitlab-psql",
    "public.hidden of the database": "a policy hides rows of it",
    "public.audited of the database": "it is a view of something",
    "public.audited_twice of the database": "it is a view of something",
    "Function public.absolute": "leaves it out",
    "Function public.discreet": "leaves it out",
    "Cast (text AS integer)": "leaves it out",
    "Extension pageinspect": "leaves it out",
    "Tablespace fast": "public.posts",
    "No large object": "role gitlab-psql owns 1",
    "Role gitlab-psql": "owns extensions in",
}


def asked(gitlab: Omnibus) -> dict[str, list[str]]:
    return {name: gitlab.sql(question) for name, question in ASKED.items()}


def test_what_a_plain_role_cannot_load(base: Path, deb: Path) -> None:
    with Lab(base=base) as lab:
        gitlab = install(lab, Spec())
        product = install_product(lab, deb)
        gitlab.seed()
        lab.run("install", "-d", "-o", "gitlab-psql", "-g", "gitlab-psql", "/srv/fast")
        as_superuser(gitlab, "CREATE TABLESPACE fast LOCATION '/srv/fast'", "postgres")
        as_superuser(gitlab, MADE)
        before = asked(gitlab)

        answer = product("backup")
        assert answer.code == 4, answer
        told = told_each(answer, TOLD)
        listed = product("list").document["sets"][0]
        assert listed["told"] == told
        product.run("report", "/root/report.html")  # the first of them, and how many more
        assert "public.audit of the database" in lab.read("/root/report.html")
        product.run("kit", "/root/kit.html")
        assert "Event trigger audit_ddl" in lab.read("/root/kit.html")

        # The rehearsal says which extension is missing, and what to do about it.
        rehearsed = product("rehearse")
        assert rehearsed.code == 1
        assert "pageinspect" in rehearsed.error["detail"]
        assert "gitlab-mm backup" not in rehearsed.error["hint"]
        as_superuser(gitlab, "DROP EXTENSION pageinspect")
        assert product("backup").code == 4
        assert product("rehearse").code == 0

        as_superuser(
            gitlab, "ALTER SUBSCRIPTION news SET (slot_name = NONE); DROP SUBSCRIPTION news"
        )
        restored = product.restore("--no-safety-backup")
        assert restored.code == 4, restored
        for what in ("Event trigger audit_ddl", "Publication changes", "Foreign server elsewhere"):
            assert [
                warning for warning in restored.document["warnings"] if warning.startswith(what)
            ], what
        # Not even the safety set would have had these.
        for what in ("public.audit", "public.audited", "public.hidden", "Every large object"):
            words = f"{what} of the live database is in no set, and the restore loses it: "
            assert [
                warning for warning in restored.document["warnings"] if warning.startswith(words)
            ], what
        before["extensions"].remove("pageinspect|public")
        assert asked(gitlab) == before
        assert gitlab.sql("SELECT count(*) FROM pg_event_trigger") == ["0"]
        owners = "SELECT DISTINCT relowner::regrole FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        assert gitlab.sql(f"{owners} AND relkind = 'r'") == ["gitlab_mattermost"]
        assert gitlab.sign_in("alice").user_id

        # On a host without the tablespace, and with a large object of Mattermost's own.
        as_superuser(gitlab, "DROP TABLESPACE fast", "postgres")
        again = product.restore("--no-safety-backup")
        assert again.code == 4, again
        assert not [warning for warning in again.document["warnings"] if "in no set" in warning]
        assert asked(gitlab) == before
        gitlab.sql("SET ROLE gitlab_mattermost; SELECT lo_from_bytea(0, 'of Mattermost')")
        assert not [
            warning for warning in product("backup").document["told"] if "large object" in warning
        ]
        assert product.restore("--no-safety-backup").code in (0, 4)
        assert gitlab.sql(LARGE) == ["of Mattermost"]
