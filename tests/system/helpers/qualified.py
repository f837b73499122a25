"""Statements of a superuser: which names and operators in them a search_path would decide on."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.lab.sandbox import Lab
from tests.system.helpers.spies import LOG

# What needs no schema: grammar that looks like a call of a function (PostgreSQL manual, C and 9.18).
_GRAMMAR = re.compile(
    "all|and|any|as|case|coalesce|else|exists|from|in|join|lateral|not|on|or|over|row|select|some|then"
    "|union|using|values|when|where",
    re.IGNORECASE,
)
_CALL = re.compile(r"(?<![\w.$])([a-z_]\w*)\s*\(", re.IGNORECASE)
_RELATION = re.compile(r"\b(?:FROM|JOIN)\s+([a-z_][\w.]*)", re.IGNORECASE)
_TYPE = re.compile(r"::\s*([a-z_][\w.]*)", re.IGNORECASE)
_ALIAS = re.compile(
    r"\)\s+(?:AS\s+)?[a-z_]\w*\s*\([\w, ]+\)", re.IGNORECASE
)  # unnest(…) c (setting)
_OPERATOR = re.compile(r"OPERATOR\(pg_catalog\.[-+*/<>=~!@#%^&|`?]+\)")
_SYMBOL = re.compile(
    r"[-+*/<>=~!@#%^&|`?]+|\b(?:LIKE|ILIKE|SIMILAR|BETWEEN|IN)\b|\bCASE\s+(?!WHEN)", re.IGNORECASE
)
_LINE = re.compile(r"LOG:  (?:statement|execute [^:]*): (.*)")


def sent(lab: Lab) -> Iterator[str]:
    """The statements in the server's log."""
    lines: list[str] = []
    for line in lab.read(LOG).splitlines():
        _, _, text = line.partition(" ")  # svlogd's moment
        begun = _LINE.search(text)
        if begun or not text.startswith("\t"):
            if lines:
                yield "\n".join(lines)
            lines = [begun[1]] if begun else []
        elif lines:
            lines.append(text)
    if lines:
        yield "\n".join(lines)


def unqualified(statement: str) -> list[str]:
    """What of a query has no schema; statements without expressions have nothing to look up."""
    if not re.match(r"\s*(SELECT|WITH)\b", statement, re.IGNORECASE):
        return []
    text = re.sub(r"'(?:[^']|'')*'", "''", statement)
    text = re.sub(r'"(?:[^"]|"")*"', "quoted", text)
    found = [name for name in _RELATION.findall(text) if not name.startswith("pg_catalog.")]
    found += [name for name in _TYPE.findall(text) if not name.startswith("pg_catalog.")]
    text = _OPERATOR.sub(" ", _TYPE.sub(" ", text)).replace("secs =>", "")
    text = re.sub(r"\bpg_catalog\.\w+\s*\(", "(", text)
    found += _SYMBOL.findall(re.sub(r"\(\*\)", "()", text))
    return found + [
        name for name in _CALL.findall(_ALIAS.sub(")", text)) if not _GRAMMAR.fullmatch(name)
    ]
