"""What a host has of Mattermost, read without any code of the product's: `python3 -m tests.fuzz.survey` inside a lab.

{"home": Mattermost's home, "database": its name} on standard input; on standard output a JSON object of facts:
what -> {aspect: value}.  Files are read with lstat(2) and what belongs to it, the database as a superuser: pg_dump
tells what there is, the catalogs what pg_dump does not, and rows have a digest.
"""

from __future__ import annotations

import collections
import grp
import hashlib
import json
import os
import pwd
import re
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

from tests.lab.fakes import mattermost_config

Facts = dict[str, dict[str, Any]]
PROGRAMS = "/opt/gitlab/embedded/bin"
SUPERUSER = (f"{PROGRAMS}/chpst", "-u", "gitlab-psql:gitlab-psql")
PLACE = ("-h", "/var/opt/gitlab/postgresql", "-p", "5432")
INSTALLED = ("/usr/", "/opt/gitlab/", "/bin/", "/lib", "/dev/", "/proc/", "/sys/", "/etc/", "/run/")
ACL = "system.posix_acl_"
SETTINGS = (b"config.json", b"config.json->")  # the second where it is a link
KEPT_BY_OVERLAYS = ("trusted.overlay.", "user.overlay.")
PLACED = (b"data", b"plugins", b"client-plugins")
NO_ID = 0xFFFFFFFF
# Whatever the database or the role sets.
SESSION = {
    **{
        "datestyle": "'ISO, YMD'",
        "search_path": "public",
        "row_security": "off",
        "lc_monetary": "'C'",
    },
    **{
        "bytea_output": "hex",
        "extra_float_digits": "3",
        "timezone": "'UTC'",
        "intervalstyle": "postgres",
    },
    **{"xmloption": "content", "statement_timeout": "0", "quote_all_identifiers": "off"},
}
# "Name: x; Type: y; Schema: z; Owner: o[; Tablespace: t]" (pg_backup_archiver.c, _printTocEntry)
HEADER = re.compile(
    r"^-- (?:Data for )?Name: (?P<name>.*); Type: (?P<type>.*?); Schema: (?P<schema>.*?); Owner: (?P<owner>.*?)"
    r"(?:; Tablespace: (?P<tablespace>.*))?$"
)
NOISE = (
    "--",
    "SET ",
    "RESET SESSION AUTHORIZATION",
    "\\",
    "SELECT pg_catalog.set_config(",
    "ALTER DATABASE postgres ",
)

OURS = "n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_toast%'"
# What an extension brings differs with its version.
MADE = (
    OURS
    + " AND NOT EXISTS (SELECT 1 FROM pg_depend e WHERE e.classid = '{0}'::regclass AND e.objid = o.oid"
    " AND e.deptype = 'e')"
)
# Each gives a name and a JSON object.
CATALOGS = {
    "relation": f"""
        SELECT format('%s %I.%I', o.relkind, n.nspname, o.relname), json_build_object('owner', o.relowner::regrole,
            'tablespace', (SELECT spcname FROM pg_tablespace t WHERE t.oid = o.reltablespace), 'persistence',
            relpersistence,
            'options', reloptions, 'identity', relreplident, 'policies', relrowsecurity, 'forced',
            relforcerowsecurity,
            'valid', indisvalid, 'clustered', indisclustered, 'replica', indisreplident, 'populated', relispopulated)
        FROM pg_class o JOIN pg_namespace n ON n.oid = relnamespace LEFT JOIN pg_index i ON i.indexrelid = o.oid
        WHERE {MADE.format("pg_class")}""",
    "function": f"""
        SELECT format('%I.%I(%s)', n.nspname, proname, pg_get_function_identity_arguments(o.oid)),
            json_build_object('owner', proowner::regrole, 'code', md5(coalesce(prosrc, '')), 'settings', proconfig,
            'leakproof', proleakproof, 'definer', prosecdef, 'volatile', provolatile, 'parallel', proparallel)
        FROM pg_proc o JOIN pg_namespace n ON n.oid = pronamespace WHERE {MADE.format("pg_proc")}""",
    "type": f"""
        SELECT format('%I.%I', n.nspname, typname), json_build_object('owner', typowner::regrole, 'kind', typtype)
        FROM pg_type o JOIN pg_namespace n ON n.oid = typnamespace WHERE {MADE.format("pg_type")}""",
    "constraint": f"""
        SELECT format('%I of %s', conname, coalesce(nullif(conrelid, 0)::regclass::text, contypid::regtype::text)),
            json_build_object('valid', convalidated, 'is', pg_get_constraintdef(o.oid))
        FROM pg_constraint o JOIN pg_namespace n ON n.oid = connamespace WHERE {OURS}""",
    "trigger": """
        SELECT format('%I of %s', tgname, tgrelid::regclass), json_build_object('enabled', tgenabled,
            'is', pg_get_triggerdef(oid)) FROM pg_trigger WHERE NOT tgisinternal""",
    "extension": """
        SELECT extname, json_build_object('version', extversion, 'schema', extnamespace::regnamespace)
        FROM pg_extension""",
    "setting": """
        SELECT coalesce(setrole::regrole::text, '') || CASE setdatabase WHEN 0 THEN ' everywhere ' ELSE ' here ' END
            || split_part(c, '=', 1), json_build_object('value', c) FROM (SELECT nullif(setrole, 0) setrole,
            setdatabase,
            unnest(setconfig) c FROM pg_db_role_setting WHERE setdatabase = (SELECT oid FROM pg_database
            WHERE datname = current_database()) OR setdatabase = 0 AND setrole = 'gitlab_mattermost'::regrole) x""",
    "database": """
        SELECT 'itself', json_build_object('owner', datdba::regrole, 'limit', datconnlimit, 'encoding', encoding,
            'collate', datcollate, 'ctype', datctype, 'provider', to_jsonb(d) -> 'datlocprovider', 'tablespace',
            spcname,
            'comment', shobj_description(d.oid, 'pg_database'))
        FROM pg_database d JOIN pg_tablespace t ON t.oid = dattablespace WHERE datname = current_database()""",
    # Mattermost's role owns the database after a restore, whoever did before: it has all rights then.
    "privilege": """
        SELECT 'database ' || coalesce(nullif(grantee, 0)::regrole::text, 'PUBLIC') || ' ' || privilege_type,
            json_build_object('grantable', is_grantable)
        FROM pg_database d, aclexplode(coalesce(datacl, acldefault('d', datdba))) WHERE datname = current_database()
            AND grantee NOT IN (datdba, 'gitlab_mattermost'::regrole)""",
    "own privilege": """
        SELECT format('%s %s', p.oid::regprocedure, coalesce(nullif(grantee, 0)::regrole::text, 'PUBLIC')), '{}'::json
        FROM pg_proc p, aclexplode(p.proacl) WHERE pronamespace = 'pg_catalog'::regnamespace AND grantor <> grantee""",
    "large object": """
        SELECT m.oid::text, json_build_object('owner', lomowner::regrole, 'rights', lomacl::text,
            'comment', obj_description(m.oid, 'pg_largeobject'), 'content', md5(lo_get(m.oid)))
        FROM pg_largeobject_metadata m""",
    "slot": "SELECT slot_name, json_build_object('plugin', plugin) FROM pg_replication_slots"
    " WHERE database = current_database()",
}
ROWS = f"""
    SELECT format('SELECT %L, count(*), md5(coalesce(string_agg(md5(t::text), '''' ORDER BY md5(t::text)), ''''))'
        ' FROM ONLY %I.%I t', format('%I.%I', n.nspname, c.relname), n.nspname, c.relname)
    FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    WHERE {OURS} AND (relkind = 'r' OR relkind = 'm' AND relispopulated)"""
SEQUENCES = f"""
    SELECT format('SELECT %L, last_value, is_called FROM %I.%I', format('%I.%I', n.nspname, c.relname), n.nspname,
        c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE {OURS} AND relkind = 'S'"""


def main() -> None:
    asked = json.load(sys.stdin)
    facts = {**files(os.fsencode(asked["home"])), **database(asked["database"])}
    json.dump(facts, sys.stdout)


def files(home: bytes) -> Facts:
    """What lies in the home, and behind links out of it as if it lay in their place."""
    found: Facts = {}
    inodes: dict[tuple[tuple[int, int], bytes], list[str]] = {}  # by directory of the home too
    seen = {os.path.realpath(home)}
    for path, name in _walk(os.open(home, os.O_RDONLY), b"", home, seen):
        facts, inode = describe(path, name)
        key = "file " + os.fsdecode(name)
        found[key] = facts
        if facts["kind"] == "file" and inode is not None:
            inodes.setdefault((inode, name.split(b"/")[0]), []).append(key)
    places: dict[tuple[int, int], int] = collections.Counter(inode for inode, _ in inodes)
    found["host files"] = {"in two directories": max(places.values(), default=1) > 1}
    for keys in inodes.values():
        for key in keys:
            found[key]["names"] = sorted(keys) if len(keys) > 1 else []
    return found


def _walk(
    directory: int, name: bytes, place: bytes, seen: set[bytes]
) -> Iterator[tuple[bytes, bytes]]:
    """Yield (where it can be opened for now, name below the home) of a directory and all in it."""
    try:
        yield b"/proc/self/fd/%d" % directory, name or b"."
        for entry in sorted(os.listdir(directory)):
            raw = os.fsencode(entry)
            inner = os.path.join(name, raw)
            here = b"/proc/self/fd/%d/%s" % (directory, raw)
            mode = os.lstat(here).st_mode
            # Where a disk of Mattermost's lies is the host's affair; what is on it is not.
            if stat.S_ISDIR(mode) or (inner in PLACED and os.path.isdir(here)):
                yield from _walk(os.open(here, os.O_RDONLY), inner, place, seen)
                continue
            yield here, inner
            if stat.S_ISLNK(mode):
                yield from _behind(here, inner, place, seen)
    finally:
        os.close(directory)


def _behind(
    link: bytes, name: bytes, home: bytes, seen: set[bytes]
) -> Iterator[tuple[bytes, bytes]]:
    """Yield what a link out of the home leads to, under the name of the link and "->"."""
    try:
        real = os.path.realpath(link, strict=True)
    except OSError:
        return
    text = os.fsdecode(real).rstrip("/") + "/"  # the root is one slash
    # A directory that lies on another disk is walked by its own name.
    places = [os.path.realpath(os.path.join(home, place)) for place in (b"", *sorted(PLACED))]
    around = [os.fsdecode(place) + "/" for place in places]
    if real in seen or text.startswith((*INSTALLED, *around)) or around[0].startswith(text):
        return
    seen.add(real)
    if os.path.isdir(real):
        yield from _walk(os.open(real, os.O_RDONLY), name + b"/->", home, seen)
    elif os.path.isfile(real):
        yield real, name + b"/->"


def describe(path: bytes, name: bytes) -> tuple[dict[str, Any], tuple[int, int] | None]:
    """What must come back of one file, and which one it is."""
    # A directory is named by its descriptor, which is a link of /proc.
    facts = os.stat(path) if re.fullmatch(rb"/proc/self/fd/\d+", path) else os.lstat(path)
    kinds = {
        stat.S_IFREG: "file",
        stat.S_IFDIR: "directory",
        stat.S_IFLNK: "link",
        stat.S_IFSOCK: "socket",
    }
    kind = kinds.get(stat.S_IFMT(facts.st_mode), "special")
    told: dict[str, Any] = {
        "kind": kind,
        "owner": _name(facts.st_uid, pwd.getpwuid),
        "group": _name(facts.st_gid, grp.getgrgid),
        "mode": f"{stat.S_IMODE(facts.st_mode):04o}" if kind != "link" else "",
        "time": facts.st_mtime_ns if kind == "file" else 0,
    }
    if kind == "file":
        with open(path, "rb") as opened:
            told["content"] = _sum(opened) if name not in SETTINGS else _written_anew(opened.read())
        if name in SETTINGS:
            told["time"] = 0
    if kind == "link":
        told["target"] = os.fsdecode(os.readlink(path))
    if kind in ("file", "directory"):
        told.update(_attributes(path))
    return told, (facts.st_dev, facts.st_ino)


def _written_anew(raw: bytes) -> str:
    """The digest of config.json as Mattermost writes it at each start; of all bytes where it cannot read them."""
    try:
        config = mattermost_config.with_defaults(json.loads(raw))
        mattermost_config.correct(config)
        raw = json.dumps(config).encode()
    except (ValueError, mattermost_config.Refused):
        pass
    return hashlib.sha256(raw).hexdigest()


def _sum(opened: Any) -> str:
    digest = hashlib.sha256()
    while block := opened.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _name(number: int, entry: Callable[[int], Any]) -> str:
    try:
        return str(entry(number)[0])
    except KeyError:
        return str(number)


def _attributes(path: bytes) -> dict[str, Any]:
    lists, others = {}, {}
    for name in os.listxattr(path):
        raw = os.getxattr(path, name)
        if name.startswith(ACL):
            lists[name[len(ACL) :]] = _entries(raw)
        elif name.startswith(("user.", "trusted.")) and not name.startswith(KEPT_BY_OVERLAYS):
            others[name] = raw.hex()
    return {"access lists": lists, "attributes": others}


def _entries(raw: bytes) -> list[list[Any]]:
    """The entries of an access control list, with names for numbers (posix_acl_xattr.h)."""
    names = {2: pwd.getpwuid, 8: grp.getgrgid}
    entries = struct.iter_unpack("<HHI", raw[4:])
    return [
        [tag, rights, "" if who == NO_ID else _name(who, names[tag])]
        for tag, rights, who in entries
    ]


def psql(database: str, statements: str) -> str:
    """What psql prints of statements; as a superuser, before whom no policy hides a row."""
    command = [
        "/opt/gitlab/bin/gitlab-psql",
        "-X",
        "-A",
        "-t",
        "-q",
        "-F",
        "\t",
        "-v",
        "ON_ERROR_STOP=1",
    ]
    prepared = "".join(f"SET {name} = {value}; " for name, value in SESSION.items())
    done = subprocess.run(
        [*command, "-d", database, "-f", "-"], input=prepared + statements, capture_output=True, text=True,
        errors="surrogateescape", cwd="/tmp", check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise SystemExit(f"psql: {done.stderr}")
    return done.stdout


def database(name: str) -> Facts:
    found: Facts = {}
    for kind, query in CATALOGS.items():
        for row in psql(
            name, f"SELECT json_build_array(k, v) FROM ({query}) x (k, v)"
        ).splitlines():
            key, value = json.loads(row)
            found[f"{kind} {key}"] = value
    for kind, query, aspects in (
        ("rows of", ROWS, ("count", "digest")),
        ("sequence", SEQUENCES, ("last", "called")),
    ):
        # As JSON each is one line, whatever its names hold.
        asked = psql(name, f"SELECT to_json(q) FROM ({query}) x (q)").splitlines()
        statements = [
            f"SELECT json_build_array(a, b, c) FROM ({json.loads(question)}) x (a, b, c);"
            for question in asked
        ]
        for row in psql(name, "\n".join(statements)).splitlines():
            key, *values = json.loads(row)
            found[f"{kind} {key}"] = dict(zip(aspects, values))
    return {**found, **_dumped(name)}


def _dumped(name: str) -> Facts:
    """The statements of pg_dump by what they make."""
    command = [*SUPERUSER, f"{PROGRAMS}/pg_dump", *PLACE, "--schema-only", "--create", name]
    environment = {**os.environ, "PGOPTIONS": "-c quote_all_identifiers=off"}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        cwd="/tmp",
        env=environment,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"pg_dump: {done.stderr}")
    found: Facts = {}
    current: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        header = HEADER.match(line)
        if header:
            key = f"dump {header['type']} {header['schema']} {header['name']}"
            current = found.setdefault(key, {"tablespace": header["tablespace"], "text": ""})
            current["owner"] = header["owner"]
        elif current and line and not line.startswith(NOISE):
            current["text"] += line + "\n"
    return found


if __name__ == "__main__":
    main()
