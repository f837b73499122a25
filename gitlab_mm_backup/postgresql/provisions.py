"""What a set's database gets on a server besides tables and rows, and what it cannot get."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..store.properties import PUBLIC, Grant, Properties, Setting
from ..version import numbers
from . import catalog, restorable
from .catalog import Server
from .connection import administering, founding
from .dump_contents import Grants
from .endpoint import Endpoint
from .restorable import Sorted

if TYPE_CHECKING:
    from psycopg.sql import Composable, Composed

# Settings of a database or role that a restore accepts: reading, sorting and writing of text, planning
# and timing of queries.  None of them loads code or changes the role.
_ALLOWED = frozenset(
    (
        *("search_path", "default_text_search_config", "client_min_messages"),
        *("datestyle", "intervalstyle", "timezone", "lc_messages", "lc_monetary", "lc_numeric"),
        *("lc_time", "bytea_output", "extra_float_digits", "xmlbinary", "xmloption"),
        *("array_nulls", "application_name", "gin_fuzzy_search_limit", "gin_pending_list_limit"),
        *("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"),
        *("idle_session_timeout", "transaction_timeout", "synchronous_commit", "row_security"),
        *("default_transaction_isolation", "default_transaction_deferrable"),
        *("work_mem", "maintenance_work_mem", "temp_buffers", "hash_mem_multiplier"),
        *("logical_decoding_work_mem", "effective_cache_size", "effective_io_concurrency"),
        *("maintenance_io_concurrency", "default_statistics_target", "plan_cache_mode"),
        *("random_page_cost", "seq_page_cost", "cpu_tuple_cost", "cpu_index_tuple_cost"),
        *("cpu_operator_cost", "parallel_setup_cost", "parallel_tuple_cost"),
        *("min_parallel_table_scan_size", "min_parallel_index_scan_size"),
        *("max_parallel_workers", "max_parallel_workers_per_gather"),
        *("max_parallel_maintenance_workers", "parallel_leader_participation"),
        *("from_collapse_limit", "join_collapse_limit", "constraint_exclusion"),
        *("cursor_tuple_fraction", "geqo", "geqo_threshold", "geqo_effort", "jit"),
        *("jit_above_cost", "jit_inline_above_cost", "jit_optimize_above_cost"),
        *("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count"),
        *("tcp_user_timeout", "client_connection_check_interval"),
        *("pg_trgm.similarity_threshold", "pg_trgm.word_similarity_threshold"),
        *("pg_trgm.strict_word_similarity_threshold",),
    )
)
_PLANNER = re.compile(r"enable_\w+")
_SINCE = {
    "libc": 0,
    "icu": 15,
    "builtin": 17,
}  # PostgreSQL's version with such a locale of a database
_SINCE_RULES = 16
_FEWEST = 2  # connections that a limit of the database must leave
_ELEMENT = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^",]+?))\s*(?:,|$)')


@dataclass(frozen=True)
class Provision:
    """The properties that the new database gets, and as text those that it cannot get."""

    contents: Sorted
    locale: Properties | None  # whose provider the database takes; None: libc
    tablespace: str  # "" for the server's default
    settings: Sequence[Setting]
    grants: Sequence[Grant] | None  # None: those of every new database
    limit: int
    comment: str
    schemas: Mapping[str, str]  # extension that the superuser creates -> schema
    roles: Collection[str]  # of this server, that are no superusers
    owner: str  # of what the dump holds, as it names it
    told: Sequence[str]


def plan(lines: Sequence[str], properties: Properties | None, endpoint: Endpoint) -> Provision:
    """Return the properties for a database with ``lines`` in its dump's list; changes nothing."""
    with administering(endpoint) as session:
        found = catalog.server(session)
    contents = restorable.sort(lines, found, properties)
    roles = set(found.roles) - set(found.superusers)  # who may do all needs no privilege
    schemas = {name: restorable.schema(name, properties) for name in contents.extensions}
    if properties is None:
        owner = endpoint.owner.role
        return Provision(contents, None, "", (), None, -1, "", schemas, roles, owner, contents.told)
    locale, of_locale = _locale(properties, found)
    tablespace, of_tablespace = _tablespace(properties, found)
    settings, of_settings = _settings(properties, found, endpoint)
    grants, of_grants = _grants(properties, found)
    limit, of_limit = _limit(properties)
    return Provision(
        contents,
        locale,
        tablespace,
        settings,
        grants,
        limit,
        properties.comment,
        schemas,
        roles,
        properties.role,
        [*contents.told, *of_locale, *of_tablespace, *of_settings, *of_limit, *of_grants],
    )


def _locale(properties: Properties, found: Server) -> tuple[Properties | None, list[str]]:
    if properties.provider == "libc":
        return None, []
    major = numbers(found.version)[0]
    if properties.rules and _SINCE[properties.provider] <= major < _SINCE_RULES:
        text = f"The set's database has its own ICU rules, which PostgreSQL {found.version} does not support"
        return replace(properties, rules=""), [text]
    if major >= _SINCE[properties.provider]:
        return properties, []
    return None, [
        f"The set's database takes its locale {properties.locale} from {properties.provider}, which "
        f"PostgreSQL {found.version} does not support; texts are sorted by libc's locale"
    ]


def _tablespace(properties: Properties, found: Server) -> tuple[str, list[str]]:
    wanted = properties.tablespace
    if wanted == "pg_default":
        return "", []
    if wanted in found.tablespaces and found.superuser:
        return wanted, []
    return "", [
        f"The set's database lay in tablespace {wanted}, which this server does not have; the default is used"
    ]


def _limit(properties: Properties) -> tuple[int, list[str]]:
    if not 0 <= properties.connection_limit < _FEWEST:
        return properties.connection_limit, []
    return -1, [
        f"Connection limit {properties.connection_limit} is not put back: too low to work with"
    ]


def beyond(properties: Properties) -> list[str]:
    """Return, as text, the properties that no restore brings back, on any server."""
    lines = [
        f"Setting {setting.name} of {_whose(setting.role)} is not put back by a restore"
        for setting in properties.settings
        if not _may_be_set(setting.name)
    ]
    if properties.owner != properties.role:
        lines.append(
            f"The database belongs to role {properties.owner}; a restore makes Mattermost's its owner"
        )
    return lines


def _whose(role: str) -> str:
    return f"role {role}" if role else "the database"


def _may_be_set(name: str) -> bool:
    return name.lower() in _ALLOWED or _PLANNER.fullmatch(name.lower()) is not None


def _settings(
    properties: Properties, found: Server, endpoint: Endpoint
) -> tuple[list[Setting], list[str]]:
    kept, lines = [], []
    for setting in properties.settings:
        role = endpoint.owner.role if setting.role == properties.role else setting.role
        whose = _whose(role)
        if not _may_be_set(setting.name):
            lines.append(
                f"Setting {setting.name} of {whose} is not put back: set it by hand if it is wanted"
            )
        elif role and role not in found.roles:
            lines.append(
                f"Setting {setting.name} of {whose} is not put back: this server has no such role"
            )
        elif role in found.superusers and role != endpoint.owner.role:
            lines.append(f"Setting {setting.name} of {whose} is not put back: that is a superuser")
        elif (role, f"{setting.name}={setting.value}") not in found.settings:
            kept.append(Setting(role, setting.name, setting.value))
    return kept, lines


def _grants(properties: Properties, found: Server) -> tuple[list[Grant] | None, list[str]]:
    missing = {*properties.grantees, *(grant.role for grant in properties.grants or ())}
    missing -= {*found.roles, PUBLIC, properties.role, properties.owner}
    lines = [
        f"Privileges of role {role} on the database or its tables are not put back: this server has no "
        "such role"
        for role in sorted(missing)
    ]
    if properties.owner != properties.role:
        lines.append(
            f"The set's database belonged to role {properties.owner}; Mattermost's role becomes its owner"
        )
    if properties.grants is None:
        return None, lines
    owners = (properties.role, properties.owner)
    kept = [
        grant
        for grant in properties.grants
        if grant.role not in missing and grant.role not in owners
    ]
    return kept, lines


def granted(found: Sequence[Grants], roles: Collection[str], before: str, owner: str) -> list[str]:
    """Return the statements of ``found`` that the new ``owner`` can execute with these roles.

    Privileges of the owner ``before`` become the new one's. Default privileges are the owner's;
    others' cannot be set by the new one.
    """
    new, statements = '"' + owner.replace('"', '""') + '"', []
    for match in found:
        whose = match.default_of
        if match.role in ("PUBLIC", before, *roles) and whose in ("", before):
            mine = match.to(new) if match.role == before else match
            statements.append(mine.of(new) if whose else mine.statement)
    return statements


def create_extensions(endpoint: Endpoint, name: str, schemas: Mapping[str, str]) -> None:
    """Create extensions as the superuser in the new database ``name``, which is empty.

    Only a superuser may connect, and no other role has ever been there.
    """
    from psycopg import sql

    with founding(endpoint, name) as session:
        for schema in dict.fromkeys(schemas.values()):
            if schema not in ("public", "pg_catalog"):
                make = sql.SQL("CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}")
                session.execute(
                    make.format(sql.Identifier(schema), sql.Identifier(endpoint.owner.role))
                )
        for extension, schema in schemas.items():
            make = sql.SQL("CREATE EXTENSION IF NOT EXISTS {} WITH SCHEMA {}")
            session.execute(make.format(sql.Identifier(extension), sql.Identifier(schema)))


def apply_settings(endpoint: Endpoint, name: str, settings: Sequence[Setting]) -> list[str]:
    """Apply a set's ``settings`` to the new database ``name``; return those that failed."""

    def change(setting: Setting) -> Composed:
        from psycopg import sql

        whose = sql.SQL("DATABASE {}").format(sql.Identifier(name))
        if setting.role != PUBLIC:
            role = sql.Identifier(setting.role)
            whose = sql.SQL("ROLE {} IN DATABASE {}").format(role, sql.Identifier(name))
        return sql.SQL("ALTER {} SET {} TO {}").format(
            whose, sql.Identifier(*setting.name.split(".")), _value(setting)
        )

    return _each(endpoint, settings, change, lambda setting: f"Setting {setting.name}")


def _value(setting: Setting) -> Composable:
    """Return the value as SQL: a list as its elements, each quoted (pg_dump's SplitGUCList)."""
    from psycopg import sql

    if setting.name.lower() != "search_path":
        return sql.Literal(setting.value)
    found = _ELEMENT.findall(setting.value)
    elements = [(quoted.replace('""', '"') if quoted else bare) for quoted, bare in found]
    return sql.SQL(", ").join([sql.Literal(element) for element in elements] or [sql.Literal("")])


def apply_rights(endpoint: Endpoint, name: str, provision: Provision) -> list[str]:
    """Apply privileges and the connection limit to the database ``name``; return what failed.

    Last before the exchange, because the limit counts for the load too.
    """
    from psycopg import sql

    statements = []
    if provision.grants is not None:
        revoke = sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name))
        statements = [revoke, *(_grant(name, grant) for grant in provision.grants)]
    elif provision.schemas:
        statements = [_grant(name, Grant(PUBLIC, what, False)) for what in ("CONNECT", "TEMPORARY")]
    limit = sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}")
    if provision.limit != -1:
        statements.append(limit.format(sql.Identifier(name), sql.Literal(provision.limit)))
    return _each(
        endpoint,
        statements,
        lambda statement: statement,
        lambda statement: "A right on the database",
    )


def _grant(name: str, grant: Grant) -> Composed:
    from psycopg import sql

    role = sql.SQL("PUBLIC") if grant.role == PUBLIC else sql.Identifier(grant.role)
    option = sql.SQL(" WITH GRANT OPTION" if grant.grantable and grant.role != PUBLIC else "")
    privilege = sql.SQL(
        {"CONNECT": "CONNECT", "CREATE": "CREATE"}.get(grant.privilege, "TEMPORARY")
    )
    return sql.SQL("GRANT {} ON DATABASE {} TO {}{}").format(
        privilege, sql.Identifier(name), role, option
    )


def _each(
    endpoint: Endpoint,
    what: Sequence[Any],
    statement: Callable[[Any], Composed],
    named: Callable[[Any], str],
) -> list[str]:
    """Execute a statement for each of ``what``; return the refused ones as text."""
    import psycopg

    problems = []
    with administering(endpoint) as session:
        for subject in what:
            try:
                session.execute(statement(subject))
            except psycopg.DatabaseError as error:
                problems.append(
                    f"{named(subject)} could not be put back: {error.diag.message_primary}"
                )
    return problems
