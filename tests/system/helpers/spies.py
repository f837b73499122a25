"""Spies: functions that owners of databases plant where a session of ours may call them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.lab.sandbox import Lab

LOG = "/var/log/gitlab/postgresql/current"
# Written to the server's log by each caller: it needs no rights, and a rollback keeps it.
SPY = """
CREATE OR REPLACE FUNCTION public.spy(trap text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE super boolean;
BEGIN
    SELECT pg_catalog.bool_or(r.rolsuper) INTO super FROM pg_catalog.pg_roles r
    WHERE r.rolname OPERATOR(pg_catalog.=) current_user
        OR r.rolname OPERATOR(pg_catalog.=) session_user;
    RAISE LOG 'SPY % super=% role=%', trap, super, session_user;
    RETURN true;
END $$;
GRANT EXECUTE ON FUNCTION public.spy(text) TO PUBLIC;
"""
# Nearer to what is written of names of schemas than PostgreSQL's own.
OPERATOR = """
CREATE FUNCTION public.not_like(name, name) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN PERFORM public.spy('an operator'); RETURN $1 OPERATOR(pg_catalog.!~~) $2::text; END $$;
CREATE OPERATOR public.!~~ (leftarg = name, rightarg = name, function = public.not_like);
"""
VIEW = """
ALTER TABLE {table} RENAME TO {table}_real;
CREATE VIEW {table} WITH (security_barrier) AS SELECT * FROM {table}_real WHERE public.spy('{trap}');
"""
_LINE = re.compile(r"SPY (?P<trap>.+) super=(?P<super>[tf]) role=(?P<role>\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Seen:
    """A session that stepped into a trap."""

    trap: str
    superuser: bool
    role: str


def seen(lab: Lab) -> list[Seen]:
    """Who stepped into which trap so far."""
    found = _LINE.finditer(lab.read(LOG))
    return [Seen(row["trap"], row["super"] == "t", row["role"]) for row in found]
