"""Sequences of columns, and whether the next number of one is one that its column already has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .catalog import READABLE

if TYPE_CHECKING:
    import psycopg

    Session = psycopg.Connection[Any]

# A sequence that begins again after its end is no promise.  Columns of other types may own one too.
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


def look(session: Session) -> dict[str, bool]:
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
