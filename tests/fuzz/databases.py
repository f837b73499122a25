"""Oddities of the database, as SQL; {tag} is in the name of all that an oddity makes, other words are drawn."""

from __future__ import annotations

from dataclasses import dataclass

DATABASE = "mattermost_production"
ROLE = "gitlab_mattermost"


@dataclass(frozen=True)
class Statements:
    """What makes an oddity.

    server: what the server has for it (roles, tablespaces), made on a new host too where somebody prepares that.
    owner: executed as Mattermost's role; superuser: after that, as the superuser.
    """

    owner: str = ""
    superuser: str = ""
    server: str = ""


TABLE = """CREATE TABLE {tag} (i int PRIMARY KEY, t text); INSERT INTO {tag} SELECT g,
    'row ' || g FROM generate_series(1, 9) g;"""
PLACE = "CREATE TABLESPACE {tag} LOCATION '/srv/place-{tag}';"  # the directory is made before
KINDS: dict[str, Statements] = {
    "table names": Statements(
        """CREATE TABLE "{tag} {name}" ("{name}" int, "SELECT" text, "ü" int DEFAULT 3);
        INSERT INTO "{tag} {name}" VALUES (1, 'x');
        CREATE INDEX "{tag} {name} idx" ON "{tag} {name}" ("{name}");"""
    ),
    "partitions": Statements(
        """CREATE TABLE {tag} (i int, t text) PARTITION BY {how} (i);
        CREATE TABLE {tag}_one PARTITION OF {tag} {bound}; CREATE INDEX {tag}_i ON {tag} (i);
        INSERT INTO {tag} VALUES (1, 'one');"""
    ),
    "identity": Statements(
        """CREATE TABLE {tag} (i int GENERATED {always} AS IDENTITY
            (START {start} INCREMENT {step} MINVALUE -999 MAXVALUE 999),
            s serial,
            g int GENERATED ALWAYS AS (length(t)) STORED, t text);
        INSERT INTO {tag} (t) VALUES ('a'), ('bb');"""
    ),
    "identity behind": Statements(
        """CREATE TABLE {tag} (i serial PRIMARY KEY); INSERT INTO {tag} VALUES (DEFAULT), ({number});"""
    ),
    "sequences": Statements(
        """CREATE SEQUENCE {tag} INCREMENT {step} MINVALUE -99999 MAXVALUE 99999 START {start} CYCLE CACHE {cache};
        SELECT setval('{tag}', {start}, {called}); CREATE SEQUENCE {tag}_never;
        CREATE SEQUENCE {tag}_once; SELECT nextval('{tag}_once');"""
    ),
    "types": Statements(
        """CREATE TYPE {tag}_mood AS ENUM ('sad', 'it''s', '');
        ALTER TYPE {tag}_mood ADD VALUE 'between' BEFORE 'it''s';
        CREATE DOMAIN {tag}_positive AS int CHECK (VALUE > 0) DEFAULT 5;
        CREATE TYPE {tag}_pair AS (a int, b {tag}_mood);
        CREATE TYPE {tag}_range AS RANGE (subtype = float8);
        CREATE TABLE {tag} (m {tag}_mood, p {tag}_positive, c {tag}_pair, r {tag}_range, a {tag}_mood[]);
        INSERT INTO {tag} VALUES ('between', 1, ROW(1, 'sad'), '[1,2)', ARRAY['', 'sad']::{tag}_mood[]);"""
    ),
    "collations": Statements(
        """CREATE COLLATION {tag} (provider = icu, locale = '{locale}', deterministic = {deterministic});
        CREATE TABLE {tag}_t (t text COLLATE {tag} UNIQUE); INSERT INTO {tag}_t VALUES ('a'), ('B'), ('ä');"""
    ),
    "views": Statements(
        """CREATE TABLE {tag} (i int, t text); INSERT INTO {tag} VALUES (1, 'x');
        CREATE VIEW {tag}_v WITH (security_barrier) AS SELECT * FROM {tag} WHERE i > 0 WITH {how} CHECK OPTION;
        CREATE VIEW {tag}_w AS SELECT i, count(*) OVER () n FROM {tag}_v;
        CREATE RULE {tag}_r AS ON INSERT TO {tag}_w DO INSTEAD INSERT INTO {tag} VALUES (new.i, 'rule');
        CREATE RECURSIVE VIEW {tag}_n (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM {tag}_n WHERE n < 3;"""
    ),
    "triggers": Statements(
        """CREATE FUNCTION {tag}() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN new.t := new.t || '!'; RETURN new;
            END$$;
        CREATE TABLE {tag}_t (i int, t text);
        CREATE TRIGGER {tag}_g BEFORE INSERT ON {tag}_t FOR EACH ROW WHEN (new.i > 0) EXECUTE FUNCTION {tag}();
        INSERT INTO {tag}_t VALUES (1, 'with'), (-1, 'without');
        ALTER TABLE {tag}_t {state} TRIGGER {tag}_g;"""
    ),
    "unlogged": Statements("CREATE UNLOGGED TABLE {tag} AS SELECT g FROM generate_series(1, {rows}) g;"),
    "materialized views": Statements(
        """CREATE MATERIALIZED VIEW {tag} AS SELECT count(*) AS n FROM posts WITH {how};
        CREATE MATERIALIZED VIEW {tag}_old AS SELECT generate_series(1, 3) i; CREATE UNIQUE INDEX ON {tag}_old (i);"""
    ),
    "stale view": Statements(
        TABLE + "CREATE MATERIALIZED VIEW {tag}_stale AS SELECT * FROM {tag}; DELETE FROM {tag} WHERE i < {rows};"
    ),
    "failing view": Statements(
        """CREATE TABLE {tag}_d AS SELECT g i FROM generate_series(1, {rows}) g;
        CREATE MATERIALIZED VIEW {tag} AS SELECT 100 / i AS share FROM {tag}_d; UPDATE {tag}_d SET i = i - 1;"""
    ),
    "large objects": Statements(
        """SELECT lo_from_bytea({number}, decode('{bytes}', 'hex')); SELECT lo_create({number} + 1);
        COMMENT ON LARGE OBJECT {number} IS '{tag}'; GRANT SELECT ON LARGE OBJECT {number} TO PUBLIC;"""
    ),
    "large objects of others": Statements("", "SELECT lo_from_bytea({number}, '{tag}');"),
    "index functions": Statements(
        """CREATE FUNCTION {tag}_inner(text) RETURNS text LANGUAGE {language} IMMUTABLE AS {inner};
        CREATE FUNCTION {tag}(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT {tag}_inner($1)';
        CREATE TABLE {tag}_t (t text CHECK ({tag}(t) <> ''), u text GENERATED ALWAYS AS ({tag}(t)) STORED);
        INSERT INTO {tag}_t VALUES ('A'), ('b'); CREATE INDEX ON {tag}_t ({tag}(t)) WHERE {tag}(t) > 'a';"""
    ),
    "check by lookup": Statements(
        """CREATE TABLE z{tag} (i int); INSERT INTO z{tag} VALUES (1), (2);
        CREATE FUNCTION {tag}(int) RETURNS bool LANGUAGE sql AS 'SELECT EXISTS (SELECT 1 FROM z{tag} WHERE i = $1)';
        CREATE TABLE a{tag} (i int CHECK ({tag}(i))); INSERT INTO a{tag} VALUES (1), (2);"""
    ),
    "row policies": Statements(
        TABLE + """CREATE POLICY {tag}_p ON {tag} FOR {what} USING (i > {least}); ALTER TABLE {tag} {state};"""
    ),
    "row policies of roles": Statements(
        TABLE + """CREATE POLICY {tag}_p ON {tag} TO {tag}_r USING (true);
            ALTER TABLE {tag} ENABLE ROW LEVEL SECURITY;""",
        server="CREATE ROLE {tag}_r;",
    ),
    "statistics": Statements(
        TABLE + """CREATE STATISTICS {tag}_s (dependencies) ON i, t FROM {tag};
        ALTER TABLE {tag} ALTER i SET STATISTICS {target}, ALTER t SET STORAGE {storage},
            ALTER t SET (n_distinct = -0.5);
        ALTER TABLE {tag} SET (fillfactor = 70, autovacuum_enabled = off);"""
    ),
    "comments": Statements(
        TABLE + """COMMENT ON TABLE {tag} IS '{text}'; COMMENT ON COLUMN {tag}.t IS '{text}';
        COMMENT ON CONSTRAINT {tag}_pkey ON {tag} IS '{text}'; COMMENT ON INDEX {tag}_pkey IS '{text}';
        CREATE SCHEMA {tag}_x; COMMENT ON SCHEMA {tag}_x IS '{text}';"""
    ),
    "inheritance": Statements(
        TABLE + """CREATE TABLE {tag}_child (extra int DEFAULT 1) INHERITS ({tag});
            INSERT INTO {tag}_child VALUES (9, 'c');"""
    ),
    "constraints": Statements(
        TABLE + """CREATE TABLE {tag}_f (a int REFERENCES {tag} DEFERRABLE INITIALLY DEFERRED, b int, c int4range,
            EXCLUDE USING gist (c WITH &&)); INSERT INTO {tag}_f VALUES (1, 5, '[1,2)'), (2, -5, '[2,3)');
        ALTER TABLE {tag}_f ADD CONSTRAINT {tag}_c CHECK (b > 0) NOT VALID;
        ALTER TABLE {tag} ADD self int REFERENCES {tag} ON DELETE {action}; UPDATE {tag} SET self = 10 - i;"""
    ),
    "broken reference": Statements(
        TABLE + "CREATE TABLE {tag}_f (i int REFERENCES {tag});",
        "SET session_replication_role = replica; INSERT INTO {tag}_f VALUES (1), (777);"
        " SET session_replication_role = origin;",
    ),
    "function changed": Statements(
        """CREATE FUNCTION {tag}(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 > 0';
        CREATE TABLE {tag}_t (i int CHECK ({tag}(i))); INSERT INTO {tag}_t VALUES (1), (2);
        CREATE OR REPLACE FUNCTION {tag}(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 > {least}';"""
    ),
    "orphans": Statements(
        """INSERT INTO {table} SELECT (jsonb_populate_record(x, '{{"id": "{tag}", "{column}": "{tag}"}}')).*
        FROM {table} x LIMIT 1;"""
    ),
    "invalid index": Statements(
        TABLE + "INSERT INTO {tag} VALUES (100, 'row 1');",
        "\\set ON_ERROR_STOP off\nCREATE UNIQUE INDEX CONCURRENTLY {tag}_u ON {tag} (t);\n\\set ON_ERROR_STOP on\n",
    ),
    "text search": Statements(
        """CREATE TEXT SEARCH DICTIONARY {tag}_d (TEMPLATE = simple, STOPWORDS = english);
        CREATE TEXT SEARCH CONFIGURATION {tag} (COPY = {copy});
        ALTER TEXT SEARCH CONFIGURATION {tag} ALTER MAPPING FOR asciiword WITH {tag}_d;
        CREATE TABLE {tag}_t (t text); INSERT INTO {tag}_t VALUES ('the fox');
        CREATE INDEX ON {tag}_t USING gin (to_tsvector('{tag}', t));"""
    ),
    "operators": Statements(
        """CREATE FUNCTION {tag}(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + $2';
        CREATE AGGREGATE {tag}_sum (int) (SFUNC = {tag}, STYPE = int, INITCOND = '0');
        CREATE OPERATOR {operator} (FUNCTION = {tag}, LEFTARG = int, RIGHTARG = int, COMMUTATOR = {operator});
        COMMENT ON OPERATOR {operator} (int, int) IS '{tag}';
        CREATE TYPE {tag}_c AS (a int); CREATE FUNCTION {tag}_f({tag}_c) RETURNS int LANGUAGE sql AS 'SELECT $1.a';
        CREATE CAST ({tag}_c AS int) WITH FUNCTION {tag}_f({tag}_c) AS ASSIGNMENT;"""
    ),
    "functions": Statements(
        """CREATE FUNCTION {tag}(a int DEFAULT 1, VARIADIC b text[] DEFAULT '{{}}') RETURNS TABLE (x int)
            LANGUAGE plpgsql SECURITY DEFINER SET search_path = {path} SET work_mem = '1MB' AS $$BEGIN RETURN; END$$;
        CREATE PROCEDURE {tag}_p() LANGUAGE sql AS 'SELECT 1'; REVOKE ALL ON FUNCTION {tag} FROM PUBLIC;
        SET check_function_bodies = off;
        CREATE FUNCTION {tag}_broken() RETURNS int LANGUAGE sql AS 'SELECT a FROM is_not_there';"""
    ),
    "order and identity": Statements(
        TABLE + """CREATE UNIQUE INDEX {tag}_x ON {tag} (i); CLUSTER {tag} USING {tag}_x;
            ALTER TABLE {tag} REPLICA IDENTITY {how};"""
    ),
    "rights taken": Statements(TABLE + "REVOKE {what} ON {tag} FROM gitlab_mattermost;"),
    "rights": Statements(
        TABLE + """GRANT SELECT ON {tag} TO {tag}_r; GRANT UPDATE (t) ON {tag} TO PUBLIC;
        GRANT USAGE ON SCHEMA public TO {tag}_r; CREATE SEQUENCE {tag}_s;
            GRANT USAGE ON {tag}_s TO {tag}_r WITH GRANT OPTION;""",
        server="CREATE ROLE {tag}_r LOGIN;",
    ),
    "rights by others": Statements(
        TABLE + "GRANT SELECT ON {tag} TO {tag}_r WITH GRANT OPTION;",
        "SET ROLE {tag}_r; GRANT SELECT ON {tag} TO {tag}_q; RESET ROLE;",
        server="CREATE ROLE {tag}_r; CREATE ROLE {tag}_q;",
    ),
    "default rights": Statements(
        """ALTER DEFAULT PRIVILEGES {schema} GRANT SELECT ON TABLES TO {tag}_r;
        ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;""",
        server="CREATE ROLE {tag}_r;",
    ),
    "default rights of others": Statements(
        "", """ALTER DEFAULT PRIVILEGES FOR ROLE {tag}_r GRANT SELECT ON TABLES TO PUBLIC;""",
            server="""CREATE ROLE {tag}_r;"""
    ),
    "rows": Statements(
        """CREATE TABLE {tag} (f float8, n numeric, d timestamptz, y date, v interval, b bytea, t text, j jsonb,
            a int[],
            x xml, z bit(3), u uuid, p point, i inet);
        INSERT INTO {tag} VALUES ('NaN', 'NaN', 'infinity', '{year}', '-1 mon +2 days', '\\x00ff',
            E'\\\\N\\t\\n\\r\\\\.', '{json}',
            '{{NULL,1}}', '<a>&amp;</a>', '101', NULL, '(1,2)', '::1'), ('-0', '1e-50', 'epoch', '{year}',
            '9 years', '', '', 'null',
            '{{}}', NULL, '000', NULL, NULL, NULL), (1e-308, 1e100, NULL, NULL, NULL, NULL, E'{text}', NULL,
            NULL, NULL, NULL, NULL,
            NULL, NULL);"""
    ),
    "money": Statements(
        """SET lc_monetary = '{locale}'; CREATE TABLE {tag} (m money);
            INSERT INTO {tag} VALUES (1234.56::numeric::money);""",
        "ALTER DATABASE mattermost_production SET lc_monetary TO '{locale}';",
    ),
    "columns dropped": Statements(
        """CREATE TABLE {tag} (a int, b text DEFAULT 'b', c int); INSERT INTO {tag} VALUES (1, 'x', 2);
            ALTER TABLE {tag} DROP a;
        ALTER TABLE {tag} ADD d int DEFAULT {default}; ALTER TABLE {tag} ALTER d DROP DEFAULT;
            CREATE TABLE {tag}_none ();
        INSERT INTO {tag}_none DEFAULT VALUES;"""
    ),
    "extensions": Statements("CREATE EXTENSION IF NOT EXISTS {extension} SCHEMA {schema};"),
    "extensions for superusers": Statements("", "CREATE EXTENSION IF NOT EXISTS {extension};"),
    "extension of old": Statements(
        "", "DROP EXTENSION IF EXISTS pg_trgm; CREATE EXTENSION pg_trgm VERSION '{version}';"
    ),
    "rights on an extension": Statements(
        "", "CREATE EXTENSION IF NOT EXISTS pgstattuple; GRANT EXECUTE ON FUNCTION pgstattuple(text) TO PUBLIC;"
    ),
    "rights on PostgreSQL's own": Statements("", "REVOKE EXECUTE ON FUNCTION pg_catalog.{function} FROM PUBLIC;"),
    "event triggers": Statements(
        "CREATE FUNCTION {tag}_f() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN NULL; END';",
        "CREATE EVENT TRIGGER {tag} ON {event} EXECUTE FUNCTION {tag}_f(); ALTER EVENT TRIGGER {tag} {state};",
    ),
    "publications": Statements(TABLE, "CREATE PUBLICATION {tag}_p FOR {what};"),
    "foreign data": Statements(
        "",
        """CREATE EXTENSION IF NOT EXISTS postgres_fdw; CREATE SERVER {tag} FOREIGN DATA WRAPPER postgres_fdw;
        CREATE USER MAPPING FOR gitlab_mattermost SERVER {tag} OPTIONS (user 'x', password 'y');
        CREATE FOREIGN TABLE {tag}_t (i int) SERVER {tag}; GRANT USAGE ON FOREIGN SERVER {tag} TO gitlab_mattermost;""",
    ),
    "functions in C": Statements(
        "", "CREATE FUNCTION {tag}(int) RETURNS int LANGUAGE internal IMMUTABLE {word} AS 'int4abs';"
    ),
    "casts": Statements("", "CREATE CAST ({one} AS {other}) WITH INOUT;"),
    "operator classes": Statements(
        "",
        """CREATE OPERATOR CLASS {tag} FOR TYPE int4 USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =,
            OPERATOR 4 >=,
            OPERATOR 5 >, FUNCTION 1 btint4cmp(int4, int4);""",
    ),
    "tables of others": Statements(
        "", TABLE + "ALTER TABLE {tag} OWNER TO {tag}_r; {grant}", server="CREATE ROLE {tag}_r;"
    ),
    "things of others": Statements(
        "",
        """CREATE SCHEMA {tag} AUTHORIZATION {tag}_r; CREATE TYPE {tag}_e AS ENUM ('a'); CREATE DOMAIN {tag}_d AS int;
        CREATE FUNCTION {tag}_f() RETURNS int LANGUAGE sql AS 'SELECT 1';
            CREATE AGGREGATE {tag}_a (int) (SFUNC = int4pl, STYPE = int);
        CREATE COLLATION {tag}_c (provider = icu, locale = 'de');
            CREATE TEXT SEARCH CONFIGURATION {tag}_s (COPY = simple);
        CREATE TEXT SEARCH DICTIONARY {tag}_y (TEMPLATE = simple); CREATE OPERATOR {tag}.#~# (FUNCTION = int4pl,
            LEFTARG = int, RIGHTARG = int);
        ALTER {what} OWNER TO {tag}_r;""",
        server="CREATE ROLE {tag}_r;",
    ),
    "tablespaces": Statements("", TABLE + """ALTER TABLE {tag} OWNER TO gitlab_mattermost;
        ALTER {what} SET TABLESPACE {tag};""", PLACE),
    "tablespace for new tables": Statements(
        "", """GRANT CREATE ON TABLESPACE {tag} TO gitlab_mattermost;
            ALTER DATABASE mattermost_production SET default_tablespace TO {tag};""", PLACE
    ),
    "settings of the database": Statements("", "ALTER DATABASE mattermost_production SET {name} TO {value};"),
    "settings of the role": Statements("", "ALTER ROLE gitlab_mattermost {where} SET {name} TO {value};"),
    "settings of others": Statements(
        "", """ALTER ROLE {tag}_r IN DATABASE mattermost_production SET {name} TO {value};""",
            """CREATE ROLE {tag}_r LOGIN;"""
    ),
    "search path": Statements(
        "CREATE SCHEMA {tag};", "ALTER DATABASE mattermost_production SET search_path TO {path};"
    ),
    "connection limit": Statements("", "ALTER DATABASE mattermost_production CONNECTION LIMIT {limit};"),
    "comment": Statements("", "COMMENT ON DATABASE mattermost_production IS '{text}';"),
    "rights on the database": Statements(
        "",
        """REVOKE {what} ON DATABASE mattermost_production FROM PUBLIC;
        GRANT {what} ON DATABASE mattermost_production TO gitlab_mattermost;
        GRANT {what} ON DATABASE mattermost_production TO {tag}_r {option};""",
        "CREATE ROLE {tag}_r;",
    ),
    "owner of the database": Statements("", """ALTER DATABASE mattermost_production OWNER TO {tag}_r;
        GRANT ALL ON DATABASE mattermost_production TO gitlab_mattermost;""",
        """CREATE ROLE {tag}_r;"""),
    # Without its own right there Mattermost could not work on a database of another owner.
    "schema public": Statements("", """REVOKE {what} ON SCHEMA public FROM PUBLIC;
        GRANT {what} ON SCHEMA public TO gitlab_mattermost;
        COMMENT ON SCHEMA public IS '{tag}';"""),
}  # fmt: skip


def statements(kind: str, tag: str, values: dict[str, object]) -> Statements:
    """The statements of one oddity."""
    made = KINDS[kind]
    words = {"tag": tag, **values}
    return Statements(
        *(statement.format(**words) for statement in (made.owner, made.superuser, made.server))
    )
