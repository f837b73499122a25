"""Properties of a database besides tables and rows, from PostgreSQL's catalogs.

pg_dump writes them with --create: locale, tablespace and comment in all versions, privileges,
settings and the connection limit from 11 on (before, pg_dumpall did). That is SQL for a superuser;
here it is data, of which a restore uses what is allowed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..store.properties import Grant, Properties, Setting

if TYPE_CHECKING:
    import psycopg

    Session = psycopg.Connection[Any]

_TABLES = ("users", "teams", "channels", "posts", "systems")  # every Mattermost has them
_EXAMPLES = 3  # named in a warning
_PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}
# pg_dump reads every row of a table and each sequence, or ends.
READABLE = """has_schema_privilege(n.oid, 'USAGE')
        AND has_table_privilege(c.oid, 'SELECT') AND NOT row_security_active(c.oid)"""
# And the views that read such a table: pg_restore could not make them without it.
_UNREAD = f"""
    WITH RECURSIVE unread (oid) AS (
        SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'S') AND n.nspname <> 'information_schema'
            AND n.nspname NOT LIKE 'pg\\_%' AND NOT ({READABLE})
        UNION SELECT r.ev_class FROM unread u
        JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = u.oid
            AND d.classid = 'pg_rewrite'::regclass
        JOIN pg_rewrite r ON r.oid = d.objid
    )
    SELECT n.nspname, c.relname, pg_get_userbyid(c.relowner), row_security_active(c.oid),
        c.relkind IN ('v', 'm')
    FROM unread u JOIN pg_class c ON c.oid = u.oid JOIN pg_namespace n ON n.oid = c.relnamespace
    ORDER BY 1, 2"""
# Columns that came with PostgreSQL 15 to 17 are asked for by name, in JSON.
# What a superuser's session in postgres sends has each name and operator qualified.
_DATABASE = """
    SELECT pg_catalog.pg_get_userbyid(d.datdba), t.spcname, d.datconnlimit,
        coalesce(pg_catalog.shobj_description(d.oid, 'pg_database'), ''),
        coalesce(j OPERATOR(pg_catalog.->>) 'datlocprovider', 'c'),
        coalesce(j OPERATOR(pg_catalog.->>) 'datlocale', j OPERATOR(pg_catalog.->>) 'daticulocale', ''),
        coalesce(j OPERATOR(pg_catalog.->>) 'daticurules', ''), d.datacl IS NULL
    FROM pg_catalog.pg_database d
    JOIN pg_catalog.pg_tablespace t ON t.oid OPERATOR(pg_catalog.=) d.dattablespace,
    pg_catalog.to_jsonb(d) j WHERE d.datname OPERATOR(pg_catalog.=) %s"""
_GRANTS = """
    SELECT CASE WHEN a.grantee OPERATOR(pg_catalog.=) 0 THEN ''
        ELSE pg_catalog.pg_get_userbyid(a.grantee) END, a.privilege_type, a.is_grantable
    FROM pg_catalog.pg_database d, pg_catalog.aclexplode(d.datacl) a
    WHERE d.datname OPERATOR(pg_catalog.=) %s AND a.grantee OPERATOR(pg_catalog.<>) d.datdba
    ORDER BY 1, 2"""
# A role's settings for all databases first: those for this database override them.
_SETTINGS = """
    SELECT CASE WHEN s.setrole OPERATOR(pg_catalog.=) 0 THEN ''
        ELSE pg_catalog.pg_get_userbyid(s.setrole) END, c.setting
    FROM pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) c (setting)
    WHERE s.setdatabase OPERATOR(pg_catalog.=) (
        SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) %s)
        OR (s.setdatabase OPERATOR(pg_catalog.=) 0
            AND pg_catalog.pg_get_userbyid(s.setrole) OPERATOR(pg_catalog.=) %s)
    ORDER BY s.setdatabase OPERATOR(pg_catalog.<>) 0, 1, c.setting"""
_EVERYWHERE = """
    SELECT pg_catalog.pg_get_userbyid(s.setrole), c.setting
    FROM pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) c (setting)
    WHERE s.setdatabase OPERATOR(pg_catalog.=) 0 AND s.setrole OPERATOR(pg_catalog.<>) 0"""
_GRANTEES = """
    SELECT DISTINCT pg_get_userbyid(a.grantee) FROM (
        SELECT relacl, relowner FROM pg_class UNION ALL SELECT nspacl, nspowner FROM pg_namespace
        UNION ALL SELECT proacl, proowner FROM pg_proc
        UNION ALL SELECT typacl, typowner FROM pg_type
        UNION ALL SELECT attacl, 0::oid FROM pg_attribute
        UNION ALL SELECT defaclacl, defaclrole FROM pg_default_acl
    ) o (acl, owner), aclexplode(o.acl) a
    WHERE a.grantee NOT IN (0, 10, o.owner) AND a.grantee >= 16384
        AND pg_get_userbyid(a.grantee) <> current_user
    ORDER BY 1"""
_POLICIES = """
    SELECT n.nspname, c.relname, p.polname, pg_get_userbyid(r.role)
    FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace, unnest(p.polroles) r (role)
    WHERE r.role <> 0 AND pg_get_userbyid(r.role) <> current_user ORDER BY 1, 2, 3, 4"""
# Members of extensions come with them; PostgreSQL's own objects are on every server.
_OURS = """n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
    AND NOT EXISTS (SELECT 1 FROM pg_depend e
        WHERE e.classid = '{0}'::regclass AND e.objid = o.oid AND e.deptype = 'e')"""
# The constructors of a range type come with the type.
_MADE = f"""{_OURS.format("pg_proc")} AND NOT EXISTS (SELECT 1 FROM pg_depend i
        WHERE i.classid = 'pg_proc'::regclass AND i.objid = o.oid AND i.deptype = 'i')"""
_UNTRUSTED = f"""
    SELECT DISTINCT n.nspname, o.proname
    FROM pg_proc o JOIN pg_namespace n ON n.oid = o.pronamespace
    JOIN pg_language l ON l.oid = o.prolang
    WHERE (NOT l.lanpltrusted OR o.proleakproof
            OR coalesce(to_jsonb(o) ->> 'prosupport', '-') NOT IN ('0', '-')) AND {_MADE}
        AND NOT EXISTS (SELECT 1 FROM pg_aggregate g WHERE g.aggfnoid = o.oid) ORDER BY 1, 2"""
# Creating a cast needs ownership of one type; one WITHOUT FUNCTION needs a superuser.
_CASTS = """
    SELECT format_type(o.castsource, NULL), format_type(o.casttarget, NULL)
    FROM pg_cast o JOIN pg_type s ON s.oid = o.castsource JOIN pg_type t ON t.oid = o.casttarget
    WHERE o.oid >= 16384 AND (o.castmethod = 'b' OR NOT (
            pg_has_role(s.typowner, 'USAGE') OR pg_has_role(t.typowner, 'USAGE')))
        AND NOT EXISTS (SELECT 1 FROM pg_depend e
            WHERE e.classid = 'pg_cast'::regclass AND e.objid = o.oid AND e.deptype = 'e')
    ORDER BY 1, 2"""


def _foreign(catalog: str, prefix: str) -> str:
    return (
        f"UNION ALL SELECT o.{prefix}owner, n.nspname || '.' || o.{prefix}name FROM {catalog} o"
        f" JOIN pg_namespace n ON n.oid = o.{prefix}namespace WHERE {_OURS.format(catalog)}"
    )


# pg_shadow_lookup is PgBouncer's helper on Omnibus, which no set holds.
_FOREIGN = f"""
    SELECT pg_get_userbyid(owner), name FROM (
        SELECT o.relowner, n.nspname || '.' || o.relname
        FROM pg_class o JOIN pg_namespace n ON n.oid = o.relnamespace
        WHERE o.relkind IN ('r', 'p', 'v', 'm', 'S') AND {_OURS.format("pg_class")}
            AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(o.oid, 'SELECT')
        UNION ALL SELECT o.proowner, n.nspname || '.' || o.proname
        FROM pg_proc o JOIN pg_namespace n ON n.oid = o.pronamespace
        WHERE {_MADE} AND o.proname <> 'pg_shadow_lookup'
        UNION ALL SELECT o.typowner, n.nspname || '.' || o.typname
        FROM pg_type o JOIN pg_namespace n ON n.oid = o.typnamespace
        LEFT JOIN pg_class r ON r.oid = o.typrelid
        WHERE {_OURS.format("pg_type")} AND o.typtype IN ('b', 'c', 'd', 'e', 'r')
            AND o.typcategory <> 'A' AND coalesce(r.relkind, 'c') = 'c'
        {_foreign("pg_operator", "opr")} {_foreign("pg_collation", "coll")}
        {_foreign("pg_ts_config", "cfg")} {_foreign("pg_ts_dict", "dict")}
        UNION ALL SELECT o.nspowner, o.nspname FROM pg_namespace o JOIN pg_namespace n USING (oid)
        WHERE {_OURS.format("pg_namespace")} AND o.nspname <> 'public'
    ) found (owner, name)
    WHERE pg_get_userbyid(owner) <> current_user ORDER BY 1, 2"""
_PLACED = f"""
    SELECT t.spcname, n.nspname || '.' || o.relname
    FROM pg_class o JOIN pg_namespace n ON n.oid = o.relnamespace
    JOIN pg_tablespace t ON t.oid = o.reltablespace
    WHERE o.relkind <> 't' AND {_OURS.format("pg_class")} ORDER BY 1, 2"""
_EXTENSIONS = """
    SELECT e.extname, n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
    ORDER BY 1"""
_LARGE = """
    SELECT pg_get_userbyid(l.lomowner), count(*)::int FROM pg_largeobject_metadata l
    WHERE NOT EXISTS (
        SELECT 1 FROM aclexplode(coalesce(l.lomacl, acldefault('L', l.lomowner))) a
        WHERE a.privilege_type = 'SELECT'
            AND CASE a.grantee WHEN 0 THEN true ELSE pg_has_role(a.grantee, 'USAGE') END)
    GROUP BY 1 ORDER BY 1"""
_SUBSCRIPTIONS = """
    SELECT s.subname FROM pg_catalog.pg_subscription s
    JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) s.subdbid
    WHERE d.datname OPERATOR(pg_catalog.=) %s ORDER BY 1"""
_AVAILABLE = """
    SELECT e.name, v.superuser AND NOT coalesce(
        (pg_catalog.to_jsonb(v) OPERATOR(pg_catalog.->>) 'trusted')::pg_catalog.bool, false)
    FROM pg_catalog.pg_available_extensions e
    JOIN pg_catalog.pg_available_extension_versions v
        ON v.name OPERATOR(pg_catalog.=) e.name AND v.version OPERATOR(pg_catalog.=) e.default_version"""


@dataclass(frozen=True)
class Server:
    """What a server offers: it decides what of a set can be restored."""

    version: str
    roles: Collection[str]
    superusers: Collection[str]
    superuser: bool  # whether ours is one
    tablespaces: Collection[str]
    extensions: Mapping[str, bool]  # that are installed; whether it takes a superuser to create it
    settings: Collection[tuple[str, str]]  # of roles in all databases, as (role, name=value)


@dataclass(frozen=True)
class Unread:
    """A table or sequence that the database's owner may not read completely."""

    schema: str
    name: str
    owner: str
    hides_rows: bool  # from whoever is no superuser, by a policy (PostgreSQL manual, 5.8)
    follows: bool = False  # a view, of something that is left out

    def __str__(self) -> str:
        return f"{self.schema}.{self.name} of the database is not in the set: {self.why}"

    @property
    def why(self) -> str:
        if self.follows:
            return "it is a view of something that is not"
        if self.hides_rows:
            return "a policy hides rows of it from Mattermost's role"
        return f"it belongs to {self.owner}, and Mattermost's role may not read it"


def server(watch: Session) -> Server:
    """Describe a server, from any of its databases."""
    roles = dict(watch.execute("SELECT rolname, rolsuper FROM pg_catalog.pg_roles").fetchall())
    row = watch.execute(
        "SELECT current_user, pg_catalog.current_setting('server_version')"
    ).fetchone()
    assert row is not None
    places = watch.execute("SELECT spcname FROM pg_catalog.pg_tablespace").fetchall()
    return Server(
        row[1].split()[0],
        {_text(name) for name in roles},
        {_text(name) for name, is_superuser in roles.items() if is_superuser},
        bool(roles.get(row[0])),
        {_text(place[0]) for place in places},
        dict(watch.execute(_AVAILABLE).fetchall()),
        {(_text(role), _text(setting)) for role, setting in watch.execute(_EVERYWHERE)},
    )


def unread(session: Session) -> list[Unread]:
    """Return what the owner may not read: objects of other roles, and rows hidden by policies."""
    return [Unread(*row) for row in session.execute(_UNREAD).fetchall()]


def properties(session: Session, watch: Session, name: str) -> Properties:
    """Return the properties of the database ``name``.

    ``session`` is Mattermost's session in it; ``watch`` may be in another database of the server.
    """
    row = watch.execute(_DATABASE, (name,)).fetchone()
    assert row is not None
    owner, tablespace, limit, comment, provider, locale, rules, usual = row
    grants = [Grant(_text(row[0]), row[1], row[2]) for row in watch.execute(_GRANTS, (name,))]
    path = session.execute("SELECT current_setting('search_path'), current_user").fetchone()
    assert path is not None
    role = _text(path[1])
    return Properties(
        owner=_text(owner),
        role=role,
        search_path=_text(path[0]),
        tables=seen(session),
        provider=_PROVIDERS.get(provider, "libc"),
        locale=_text(locale),
        rules=_text(rules),
        tablespace=_text(tablespace),
        connection_limit=max(-1, limit),
        comment=_text(comment),
        grants=None if usual else grants,
        settings=_settings(watch, name, role),
        grantees=[_text(row[0]) for row in session.execute(_GRANTEES)],
        policies=_policies(session),
        extensions={_text(row[0]): _text(row[1]) for row in session.execute(_EXTENSIONS)},
        untrusted=[f"{_text(row[0])} {_text(row[1])}" for row in session.execute(_UNTRUSTED)],
        casts=[f"{_text(row[0])} AS {_text(row[1])}" for row in session.execute(_CASTS)],
    )


def seen(session: Session) -> dict[str, str]:
    """Return some of Mattermost's tables, and the schema in which its sessions find each."""
    query = (
        "SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.oid = to_regclass(%s)"
    )
    found = {table: session.execute(query, (table,)).fetchone() for table in _TABLES}
    return {table: _text(row[0]) for table, row in found.items() if row is not None}


def _settings(watch: Session, name: str, role: str) -> list[Setting]:
    found: dict[tuple[str, str], str] = {}
    for whose, setting in watch.execute(_SETTINGS, (name, role)):
        key, _, value = _text(setting).partition("=")
        found[_text(whose), key] = value
    return [Setting(whose, key, value) for (whose, key), value in found.items()]


def _policies(session: Session) -> dict[str, Sequence[str]]:
    found: dict[str, list[str]] = {}
    for schema, table, policy, role in session.execute(_POLICIES):
        found.setdefault(f"{_text(schema)} {_text(table)} {_text(policy)}", []).append(_text(role))
    return dict(found)


def told(session: Session, watch: Session, name: str, left_out: Collection[str]) -> list[str]:
    """Return, as text, what of the database a restore does not bring back unchanged.

    ``left_out``: schema.name of objects that other warnings name.
    """
    others = session.execute(_FOREIGN).fetchall()
    words = [
        f"Role {owner} owns {what} in the database; a restore makes Mattermost's role the owner"
        for owner, what in _grouped([pair for pair in others if pair[1] not in left_out])
    ]
    words += [
        f"Tablespace {place} holds {what}; a restore puts that into the database's own tablespace"
        for place, what in _grouped(session.execute(_PLACED).fetchall())
    ]
    return words + [
        f"Subscription {_text(subscription[0])} is not in the set; after a restore create it again"
        for subscription in _subscriptions(watch, name)
    ]


def unread_large_objects(session: Session) -> list[str]:
    """Return, as text, the large objects that Mattermost's role may not read.

    pg_dump reads all or none of them.
    """
    return [f"No large object of the database is in the set: {owner}" for owner in _large(session)]


def lost_for_good(session: Session) -> list[str]:
    """Return, as text, what of the live database is in no set and is lost by a restore."""
    where = "of the live database is in no set, and the restore loses it"
    words = [f"{table.schema}.{table.name} {where}: {table.why}" for table in unread(session)]
    return words + [f"Every large object {where}: {why}" for why in _large(session)]


def _large(session: Session) -> list[str]:
    return [
        f"role {_text(owner)} owns {count} that Mattermost's may not read"
        for owner, count in session.execute(_LARGE).fetchall()
    ]


def _subscriptions(watch: Session, name: str) -> Sequence[tuple[Any, ...]]:
    """Return the names of subscriptions; a server before PostgreSQL 10 has none."""
    row = watch.execute(
        "SELECT pg_catalog.to_regclass('pg_catalog.pg_subscription') IS NOT NULL"
    ).fetchone()
    return watch.execute(_SUBSCRIPTIONS, (name,)).fetchall() if row and row[0] else []


def _grouped(rows: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return each first word with its second words, the first few named."""
    found: dict[str, list[str]] = {}
    for key, name in rows:
        found.setdefault(_text(key), []).append(_text(name))
    groups = []
    for key, names in found.items():
        more = f" and {len(names) - _EXAMPLES} more" if len(names) > _EXAMPLES else ""
        groups.append((key, ", ".join(names[:_EXAMPLES]) + more))
    return groups


def _text(value: str) -> str:
    """Return a name in the form for a manifest; in SQL_ASCII it may have any bytes."""
    return value.encode(errors="replace").decode()
