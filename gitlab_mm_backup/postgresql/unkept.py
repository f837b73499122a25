"""What of a database neither its dump nor its manifest holds, from PostgreSQL's catalogs.

pg_dump leaves out invalid indexes. Privileges on objects of others (PostgreSQL's functions,
members of extensions, default privileges of other roles) cannot be granted by the owner. And rows
may violate a constraint: then no dump of them can be loaded.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..system import redaction
from .catalog import READABLE

if TYPE_CHECKING:
    import psycopg

    Session = psycopg.Connection[Any]

# Sequences with CYCLE do not count.  Columns of other types may own one too.
_OWNED = f"""
    SELECT m.nspname, s.relname, n.nspname, c.relname, a.attname, i.increment::numeric < 0
    FROM pg_class s JOIN pg_namespace m ON m.oid = s.relnamespace
    JOIN information_schema.sequences i ON i.sequence_schema = m.nspname AND i.sequence_name = s.relname
    JOIN pg_depend d ON d.objid = s.oid AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
    JOIN pg_class c ON c.oid = d.refobjid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid
    WHERE s.relkind = 'S' AND i.cycle_option = 'NO' AND has_sequence_privilege(s.oid, 'SELECT')
        AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) AND {READABLE}
    ORDER BY 1, 2"""


def sequences_behind(session: Session) -> dict[str, bool]:
    """Return the sequences that columns own, as schema.name, and whether each is behind its column."""
    from psycopg import sql

    found = {}
    for schema, name, table_schema, table, column, downwards in session.execute(_OWNED).fetchall():
        question = "SELECT {}({}) {} (SELECT last_value FROM {}) FROM {}"
        query = sql.SQL(question).format(
            sql.SQL("min" if downwards else "max"),
            sql.Identifier(column),
            sql.SQL("<" if downwards else ">"),
            sql.Identifier(schema, name),
            sql.Identifier(table_schema, table),
        )
        row = session.execute(query).fetchone()
        found[f"{schema}.{name}"] = bool(row and row[0])
    return found


_EXAMPLES = 3  # named in a warning
_INVALID = """
    SELECT n.nspname || '.' || c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_class t ON t.oid = i.indrelid
    WHERE NOT i.indisvalid AND t.relkind <> 'p' AND n.nspname NOT LIKE 'pg\\_%' ORDER BY 1"""
_DEFAULTS = """
    SELECT DISTINCT pg_get_userbyid(defaclrole) FROM pg_default_acl
    WHERE pg_get_userbyid(defaclrole) <> current_user ORDER BY 1"""
# pg_init_privs has the initial privileges of initdb and extensions; no entry means none.
# It has none of information_schema, and neither has a dump.
_GIVEN = """
    SELECT n.nspname || '.' || o.name FROM (
        SELECT 'pg_class'::regclass, oid, relname, relnamespace, relacl FROM pg_class
        UNION ALL SELECT 'pg_proc'::regclass, oid, proname, pronamespace, proacl FROM pg_proc
    ) o (class, oid, name, schema, acl) JOIN pg_namespace n ON n.oid = o.schema
    LEFT JOIN pg_init_privs i ON i.classoid = o.class AND i.objoid = o.oid AND i.objsubid = 0
    WHERE (n.nspname = 'pg_catalog' OR EXISTS (SELECT 1 FROM pg_depend e
            WHERE e.classid = o.class AND e.objid = o.oid AND e.deptype = 'e'))
        AND ARRAY(SELECT a::text FROM unnest(o.acl) a ORDER BY 1)
            <> ARRAY(SELECT a::text FROM unnest(i.initprivs) a ORDER BY 1)
    ORDER BY 1"""
# Loaded before the rows that such a function looks up, it finds none (PostgreSQL manual, 5.4.1).
_LOOKING_UP = """
    SELECT DISTINCT o.conname, CASE o.conrelid WHEN 0 THEN format_type(o.contypid, NULL)
        ELSE o.conrelid::regclass::text END, p.oid::regproc::text
    FROM pg_constraint o JOIN pg_depend d ON d.classid = 'pg_constraint'::regclass AND d.objid = o.oid
        AND d.refclassid = 'pg_proc'::regclass
    JOIN pg_proc p ON p.oid = d.refobjid
    WHERE o.contype = 'c' AND p.oid >= 16384 AND p.provolatile <> 'i' AND NOT EXISTS (
        SELECT 1 FROM pg_depend e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid
            AND e.deptype = 'e')
    ORDER BY 2, 1"""
# Other constraints were checked for each new row, but a function may have changed since.
_CHECKS = """
    SELECT o.conname, o.conrelid::regclass::text, format('SELECT EXISTS (SELECT 1 FROM %s%s WHERE NOT (%s))',
        CASE t.relkind WHEN 'p' THEN '' ELSE 'ONLY ' END, o.conrelid::regclass,
        pg_get_expr(o.conbin, o.conrelid))
    FROM pg_constraint o JOIN pg_class t ON t.oid = o.conrelid
    WHERE o.contype = 'c' AND o.convalidated AND has_table_privilege(t.oid, 'SELECT')
        AND NOT row_security_active(t.oid) AND EXISTS (
        SELECT 1 FROM pg_depend d JOIN pg_proc p ON p.oid = d.refobjid AND d.refclassid = 'pg_proc'::regclass
        WHERE d.classid = 'pg_constraint'::regclass AND d.objid = o.oid AND p.oid >= 16384)
    ORDER BY 2, 1"""
# With the operators of the constraint, as ALTER TABLE ... ADD FOREIGN KEY asks (ri_triggers.c).
_REFERENCES = """
    SELECT o.conname, o.conrelid::regclass::text, format(
        'SELECT EXISTS (SELECT 1 FROM %s%s f WHERE %s AND NOT EXISTS (SELECT 1 FROM %s%s p WHERE %s))',
        CASE t.relkind WHEN 'p' THEN '' ELSE 'ONLY ' END, o.conrelid::regclass,
        (SELECT string_agg(format('f.%I IS NOT NULL', attname), ' AND ') FROM pg_attribute
            WHERE attrelid = o.conrelid AND attnum = ANY (o.conkey)),
        CASE r.relkind WHEN 'p' THEN '' ELSE 'ONLY ' END, o.confrelid::regclass,
        (SELECT string_agg(format('p.%I OPERATOR(%I.%s) f.%I', pa.attname, n.nspname, x.oprname, fa.attname),
            ' AND ')
            FROM unnest(o.conkey, o.confkey, o.conpfeqop) k (f, p, op)
            JOIN pg_attribute fa ON fa.attrelid = o.conrelid AND fa.attnum = k.f
            JOIN pg_attribute pa ON pa.attrelid = o.confrelid AND pa.attnum = k.p
            JOIN pg_operator x ON x.oid = k.op JOIN pg_namespace n ON n.oid = x.oprnamespace))
    FROM pg_constraint o JOIN pg_class t ON t.oid = o.conrelid JOIN pg_class r ON r.oid = o.confrelid
    WHERE o.contype = 'f' AND o.convalidated
        AND coalesce(to_jsonb(o) ->> 'conparentid', '0') = '0'
        AND has_table_privilege(t.oid, 'SELECT') AND has_table_privilege(r.oid, 'SELECT')
        AND NOT row_security_active(t.oid) AND NOT row_security_active(r.oid)
    ORDER BY 2, 1"""

_VIEWS = """
    SELECT c.oid::regclass::text, rtrim(pg_get_viewdef(c.oid), '; ') FROM pg_class c
    WHERE c.relkind = 'm' AND c.relispopulated AND has_table_privilege(c.oid, 'SELECT')
    ORDER BY 1"""
# With OFFSET every column is computed, as when the view is filled.
_FILLED = "SELECT count(q) FROM (SELECT * FROM ({}) d OFFSET 0) q"
_SECONDS = 2  # for a view; what takes longer is left to the rehearsal
# PostgreSQL measures its limit with another clock, which may run faster than ours.
_CANCELLED_SECONDS = 1
_BRIEFLY = f"SET LOCAL statement_timeout = '{_SECONDS}s'"


def told(session: Session) -> list[str]:
    """Return, as text, what a restore will not bring back; ``session`` is Mattermost's."""
    words = [
        f"Index {name} is not valid, so it is not in the set: drop it, or rebuild it (REINDEX INDEX)"
        for name in _names(session, _INVALID)
    ]
    words += [
        f"Default privileges of role {role} are not put back by a restore; set them again after it "
        "(ALTER DEFAULT PRIVILEGES)"
        for role in _names(session, _DEFAULTS)
    ]
    given = _names(session, _GIVEN)
    if given:
        words.append(
            f"Privileges on {_shown(given)}, of PostgreSQL or of an extension, are not put back by a "
            "restore; grant or revoke them again after it"
        )
    return words


def at_odds(session: Session) -> list[str]:
    """Return, as text, why a restore or a rehearsal will fail.

    Every reference is checked against the rows, which takes about as long as in a restore.
    """
    words = [
        f"Constraint {name} of {what} calls {function}, which is not IMMUTABLE: rows that it looks up may "
        "be loaded later than those it checks, and then no restore works. Make it a trigger, or drop it"
        for name, what, function in session.execute(_LOOKING_UP).fetchall()
    ]
    held = [*session.execute(_CHECKS).fetchall(), *session.execute(_REFERENCES).fetchall()]
    for name, table, question in held:
        row = session.execute(question).fetchone()
        if row is not None and row[0]:
            words.append(
                f"Rows of {table} break its constraint {name}: a restore cannot create the constraint and fails. "
                "Fix the rows, or drop the constraint"
            )
    words += [
        f"Sequence {name} is behind its column, so a new row gets a number that is taken, here and after a "
        "restore. Set it on (setval)"
        for name, is_behind in sequences_behind(session).items()
        if is_behind
    ]
    return words + _unfillable(session)


def _unfillable(session: Session) -> list[str]:
    """Return, as text, the materialized views whose query fails by now: a load fills them again."""
    import psycopg
    from psycopg import sql

    words = []
    for name, definition in session.execute(_VIEWS).fetchall():
        began = time.monotonic()
        try:
            # A savepoint: the snapshot goes on, and the limit ends with it.
            with session.transaction(force_rollback=True):
                session.execute(_BRIEFLY)
                session.execute(sql.SQL(_FILLED).format(sql.SQL(definition)))
        except psycopg.errors.QueryCanceled:
            if time.monotonic() - began < _CANCELLED_SECONDS:
                raise  # the backup was cancelled
        except psycopg.Error as error:
            if session.closed:  # the server went away, which says nothing of the view
                raise
            why = redaction.without_rows(error.diag.message_primary or "its query fails")
            words.append(
                f"Materialized view {name} cannot be filled any more, and a restore fails at it: {why}. "
                "Mend its query or drop it"
            )
    return words


def _names(session: Session, query: str) -> list[str]:
    return [str(row[0]) for row in session.execute(query).fetchall()]


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - _EXAMPLES} more" if len(names) > _EXAMPLES else ""
    return ", ".join(names[:_EXAMPLES]) + more
