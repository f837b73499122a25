"""The strategy of odd hosts: which oddities there are, and what is drawn for each."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz import databases, planting

SIZES = range(6, 17)  # hosts that the other kinds are dealt to: each then has 5 to 14 oddities
DRAWS = 60
# Of these hosts no set is made, or none can be loaded.
ENDING = (
    ("config_link",),
    ("broken reference", "check by lookup", "function changed"),
    ("failing view",),
)
NAMES = (
    *(
        "a\nb",
        "-rf",
        "--checkpoint-action=exec=sh",
        "\xff\xfe",
        " ",
        "tab\t",
        "quote'\"",
        "back\\slash",
    ),
    *(
        "x" * 255,
        "*",
        "[a]",
        "$(id)",
        "\x01\x1b[31m",
        "\xe9",
        ".",
        "trailing ",
        "#",
        "a//b",
        "%s",
        "@list",
    ),
)
OWN_NAMES = (
    *(
        ".gitlab-mm-restore-x",
        ".incomplete-1795310000",
        "lost+found",
        "manifest.json",
        "files.tar.zst",
    ),
    *("config_backup", ".place-of-x", "data", "env", "SHA256SUMS"),
)
YEAR = 31_556_952 * 10**9  # nanoseconds
SETTINGS = (
    *(("default_text_search_config", "'pg_catalog.german'"), ("work_mem", "'8MB'"), ("enable_seqscan", "off")),
    *(("statement_timeout", "'1s'"), ("check_function_bodies", "on"), ("log_statement", "'all'"), ("datestyle",
        "'SQL, DMY'")),
    *(("odd.thing", "'a, \"b\"'"), ("timezone", "'Asia/Tokyo'"), ("bytea_output", "'escape'")),
    *(("intervalstyle", "'sql_standard'"), ("extra_float_digits", "-15"), ("xmloption", "document"),
        ("client_encoding", "'LATIN1'")),
    *(("standard_conforming_strings", "off"), ("quote_all_identifiers", "on"), ("temp_tablespaces", "pg_default")),
    *(("default_table_access_method", "heap"), ("row_security", "off"), ("lock_timeout", "'1s'"),
        ("session_replication_role", "replica")),
    *(("default_transaction_isolation", "'serializable'"), ("transform_null_equals", "on"), ("array_nulls", "off")),
)  # fmt: skip


def _one(*words: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(words)


def _some(*words: Any) -> st.SearchStrategy[Any]:
    return st.lists(st.sampled_from(words), min_size=1, max_size=4, unique=True)


_TEXT = _one("it''s", "line\nbreak", "; DROP TABLE posts; --", "$$", "é ☃ 😀", "\\\\", "")
_SET = st.sampled_from([{"name": name, "value": value} for name, value in SETTINGS])
_MODES = _some(0o000, 0o400, 0o777, 0o200, 0o644, 0o111)
_FILES: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "names": {"names": st.lists(st.one_of(
        st.sampled_from([name for name in NAMES if "/" not in name and name != "."]),
        st.text(st.characters(min_codepoint=1, max_codepoint=255, blacklist_characters="/"), min_size=1, max_size=30)
        .filter(lambda name: name not in (".", ".."))), min_size=1, max_size=6)},
    "own_names": {"names": _some(*OWN_NAMES)},
    "deep": {"levels": _one(20, 60, 250), "length": _one(3, 20, 255)},
    "modes": {"modes": _MODES},
    "set_id_folder": {"mode": _one(0o2750, 0o1777, 0o3770)},
    "set_id_file": {"mode": _one(0o4755, 0o2755, 0o6711)},
    "owners": {"owners": _some(*[(u, g) for u in ("root", "git", "4242", "mattermost", "1483") for g in ("root",
        "4343", "mattermost")])},
    "hard_links": {"places": _some("data", "plugins", "client-plugins"), "names": st.integers(1, 3)},
    "sparse": {"positions": st.lists(st.integers(0, 5_000_000), min_size=1, max_size=3), "tail": st.integers(1,
        3_000_000)},
    "specials": {"place": _one("data", "plugins")},
    "sockets": {},
    "links_inside": {"links": _some("relative", "upwards", "absolute", "loop", "nowhere")},
    "links_out": {"place": _one("data", "plugins", "data/inner"), "directory": st.booleans(),
        "owner": _one("root", "mattermost")},
    "links_to_nothing": {"targets": _some("/srv/is-not-there", "/usr/bin/env", "/dev/null", "../../../../../..",
        "/opt/gitlab/none", "/")},
    "acls": {"user": _one("git", "mattermost"), "lists": _some("access", "default")},
    "attributes": {"attributes": st.dictionaries(_one("user.odd", "user.a b", "trusted.odd"), _one("", "v",
        "\x00\xff"), min_size=1)},
    "times": {"times": _some(-10 * YEAR, 230 * YEAR, 1_000_000_001, 0, -1, 10**18 + 123456789)},
    "sizes": {"sizes": _some(0, 1, 511, 512, 513, 10239, 10240, 3_000_000)},
    "moved": {"folder": _one("data", "plugins", "client-plugins")},
    "at_home": {},
    "config_json": {"changes": _some("section", "number", "surrogate", "case", "twice", "spaces", "deep"),
        "order mark": st.just(False)},
    "config_place": {"": _one({"owner": "root", "mode": 0o644}, {"owner": "mattermost", "mode": 0o640})},
    "missing_upload": {},
    "config_link": {"owner": _one("root", "mattermost")},
    "many": {"count": st.integers(50, 400)},
}  # fmt: skip
_DATABASE: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "table names": {"name": _one("a b", "a''b", "a.b", "A;B", "semi;--", "é", "back\\slash", "%s", "{{x}}",
        "line\nbreak", '""')},
    "partitions": {"": _one(
        {"how": "RANGE", "bound": "FOR VALUES FROM (0) TO (9)"}, {"how": "LIST", "bound": "DEFAULT"},
        {"how": "HASH", "bound": "FOR VALUES WITH (MODULUS 1, REMAINDER 0)"})},
    "identity": {"always": _one("ALWAYS", "BY DEFAULT"), "start": st.integers(1, 999), "step": _one(1, -1, 7)},
    "identity behind": {"number": st.integers(2, 9)},
    "sequences": {"step": _one(1, -3, 10), "start": st.integers(-99, 99), "cache": _one(1, 20),
        "called": _one("true", "false")},
    "types": {},
    "collations": {"locale": _one("de", "en-u-ks-level2", "und"), "deterministic": _one("true", "false")},
    "views": {"how": _one("LOCAL", "CASCADED")},
    "triggers": {"state": _one("DISABLE", "ENABLE REPLICA", "ENABLE ALWAYS", "ENABLE")},
    "unlogged": {"rows": st.integers(0, 50)},
    "materialized views": {"how": _one("DATA", "NO DATA")},
    "stale view": {"rows": st.integers(2, 9)},
    "failing view": {"rows": st.integers(1, 9)},
    "large objects": {"number": st.integers(100_000, 900_000), "bytes": _one("", "00ff", "ab" * 5000)},
    "large objects of others": {"number": st.integers(1_000_000, 2_000_000)},
    "index functions": {"": _one(
        {"language": "sql", "inner": "'SELECT lower($1)'"},
        {"language": "plpgsql", "inner": "'BEGIN RETURN lower($1); END'"})},
    "check by lookup": {},
    "row policies": {"what": _one("ALL", "SELECT", "UPDATE"), "least": st.integers(0, 9), "state": _one(
        "ENABLE ROW LEVEL SECURITY", "DISABLE ROW LEVEL SECURITY",
        "ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")},
    "row policies of roles": {},
    "statistics": {"target": _one(0, 1000), "storage": _one("EXTERNAL", "MAIN", "PLAIN")},
    "comments": {"text": _TEXT},
    "inheritance": {},
    "constraints": {"action": _one("CASCADE", "SET NULL", "RESTRICT")},
    "broken reference": {},
    "function changed": {"least": st.integers(0, 2)},
    "orphans": {"": _one({"table": "posts", "column": "channelid"}, {"table": "channels", "column": "teamid"})},
    "invalid index": {},
    "text search": {"copy": _one("simple", "english")},
    "operators": {"operator": _one("<+>", "@@#", "~~~*")},
    "functions": {"path": _one("public", "pg_catalog, pg_temp", "''", '"$user", public')},
    "order and identity": {"how": _one("FULL", "NOTHING", "DEFAULT")},
    "rights taken": {"what": _one("SELECT", "INSERT", "ALL", "TRIGGER")},
    "rights": {},
    "rights by others": {},
    "default rights": {"schema": _one("", "IN SCHEMA public")},
    "default rights of others": {},
    "rows": {"year": _one("4713-01-01 BC", "5874897-12-31", "-infinity", "0001-01-01"),
        "json": _one('{{"a": "\\\\u0001"}}', "[1e400]"), "text": _TEXT},
    "money": {"locale": _one("C", "C.UTF-8")},
    "columns dropped": {"default": st.integers(0, 9)},
    "extensions": {"extension": _one("citext", "hstore", "btree_gist", "pgcrypto", "unaccent"),
        "schema": _one("public")},
    "extensions for superusers": {"extension": _one("pg_stat_statements", "pgstattuple", "pageinspect",
        "file_fdw", "amcheck")},
    "extension of old": {"version": _one("1.5", "1.4", "1.3")},
    "rights on an extension": {},
    "rights on PostgreSQL's own": {"function": _one("pg_sleep(double precision)", "lo_create(oid)",
        "pg_backend_pid()")},
    "event triggers": {"event": _one("ddl_command_end", "sql_drop"), "state": _one("DISABLE", "ENABLE ALWAYS")},
    "publications": {"what": _one("ALL TABLES", "TABLE {tag}")},
    "foreign data": {},
    "functions in C": {"word": _one("", "LEAKPROOF")},
    "casts": {"": _one({"one": "text", "other": "inet"}, {"one": "bytea", "other": "int"})},
    "operator classes": {},
    "tables of others": {"grant": _one(
        "", "GRANT SELECT ON {tag} TO gitlab_mattermost;", "GRANT SELECT (i) ON {tag} TO gitlab_mattermost;",
        "GRANT ALL ON {tag} TO PUBLIC;")},
    "things of others": {"what": _one(
        "SCHEMA {tag}", "TYPE {tag}_e", "DOMAIN {tag}_d", "FUNCTION {tag}_f", "AGGREGATE {tag}_a (int)",
            "COLLATION {tag}_c",
        "TEXT SEARCH CONFIGURATION {tag}_s", "TEXT SEARCH DICTIONARY {tag}_y", "OPERATOR {tag}.#~# (int, int)")},
    "tablespaces": {"what": _one("TABLE {tag}", "INDEX {tag}_pkey")},
    "tablespace for new tables": {},
    "settings of the database": {"": _SET},
    "settings of the role": {"": _SET, "where": _one("", "IN DATABASE mattermost_production")},
    "settings of others": {"": _SET},
    "search path": {"path": _one('"$user", public', "public, is_not_there", "public")},
    "connection limit": {"limit": _one(-1, 77, 1000)},
    "comment": {"text": _TEXT},
    "rights on the database": {"what": _one("CONNECT", "TEMPORARY", "CONNECT, TEMPORARY"), "option": _one("",
        "WITH GRANT OPTION")},
    "owner of the database": {},
    "schema public": {"what": _one("USAGE", "ALL")},
}  # fmt: skip


@dataclass(frozen=True)
class Oddity:
    """One oddity of a host; the tag is in the name of all that it makes."""

    kind: str
    tag: str
    values: dict[str, Any]

    @property
    def words(self) -> list[str]:
        """By one of which an error may name it."""
        drawn_ = [
            str(self.values[name]) for name in ("extension", "function") if name in self.values
        ]
        others = {"config_link": "config.json", "missing_upload": " missing"}
        return [
            self.tag,
            *(word.partition("(")[0] for word in drawn_),
            others.get(self.kind, self.tag),
        ]


@dataclass(frozen=True)
class Host:
    """A host with oddities. prepared: the new host has the roles and tablespaces of the old one."""

    prepared: bool
    oddities: tuple[Oddity, ...]

    def without(self, leave: set[str]) -> Host:
        """The host without the oddities of these tags."""
        return replace(
            self, oddities=tuple(oddity for oddity in self.oddities if oddity.tag not in leave)
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Host:
        """A host as to_json() gave it."""
        return cls(document["prepared"], tuple(Oddity(**oddity) for oddity in document["oddities"]))

    def of_files(self) -> list[tuple[str, str, dict[str, Any]]]:
        """What planting takes."""
        return [
            (oddity.kind, oddity.tag, oddity.values)
            for oddity in self.oddities
            if oddity.kind in _FILES
        ]

    def of_database(self) -> list[databases.Statements]:
        found = [oddity for oddity in self.oddities if oddity.kind in _DATABASE]
        return [databases.statements(oddity.kind, oddity.tag, oddity.values) for oddity in found]


CATALOGUE = {**_FILES, **_DATABASE}
assert set(_FILES) == set(planting.PLANTS) and set(_DATABASE) <= set(databases.KINDS)


@st.composite
def values(draw: st.DrawFn, kind: str) -> dict[str, Any]:
    """Draw what the kind leaves open; what hangs together is drawn as one dictionary."""
    found: dict[str, Any] = {}
    for name, strategy in CATALOGUE[kind].items():
        value = draw(strategy)
        found.update(value if name == "" else {name: value})
    return found


def drawn(strategy: st.SearchStrategy[Any], start: int, count: int) -> list[Any]:
    """Some different values of a strategy, always the same for a seed."""
    found: list[Any] = []

    @seed(start)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(value: Any) -> None:
        if value not in found:
            found.append(value)

    collect()
    return found


def dealt(start: int, count: int, of: Sequence[int] = SIZES) -> list[Host]:
    """So many hosts, always the same for a seed.

    All kinds are shuffled and dealt to as many hosts as one of these numbers says, and so on: so each comes as
    often as any other.  Those that end a cycle have hosts of their own.  What is drawn is hypothesis's.
    """
    chance = random.Random(start)
    open_ended = sorted(set(CATALOGUE).difference(*ENDING))
    found: list[Host] = []
    while len(found) < count:
        kinds, hands = chance.sample(open_ended, len(open_ended)), chance.choice(of)
        for hand in (*(kinds[number::hands] for number in range(hands)), *ENDING):
            chosen = [(kind, chance.choice(_pool(kind, start))) for kind in hand]
            oddities = [
                _tagged(kind, f"odd{number}x", drawn_)
                for number, (kind, drawn_) in enumerate(chosen)
            ]
            found.append(Host(chance.choice((True, False)), tuple(oddities)))
    return found[:count]


@functools.lru_cache(None)
def _pool(kind: str, start: int) -> list[dict[str, Any]]:
    return drawn(values(kind), start, DRAWS)


def _tagged(kind: str, tag: str, drawn_: dict[str, Any]) -> Oddity:
    """An oddity, with its tag in what was drawn for statements."""
    if kind in _FILES:
        return Oddity(kind, tag, drawn_)
    texts = {
        name: value.format(tag=tag) if isinstance(value, str) else value
        for name, value in drawn_.items()
    }
    return Oddity(kind, tag, texts)
