"""What of a set's database may be put back, and what of its list a role without rights can load."""

from __future__ import annotations

import dataclasses

import pytest

from gitlab_mm_backup.errors import Failure
from gitlab_mm_backup.postgresql import dump_contents, provisions, restorable
from gitlab_mm_backup.postgresql.catalog import Server
from gitlab_mm_backup.postgresql.dump_contents import Grants
from gitlab_mm_backup.store.manifest import parse, to_bytes
from gitlab_mm_backup.store.properties import Grant, Properties, Setting
from tests.unit.helpers.builders import make_manifest

PROPERTIES = Properties(
    owner="mm",
    role="mm",
    search_path='"$user", public',
    tables={"users": "public"},
    provider="libc",
    locale="",
    rules="",
    tablespace="pg_default",
    connection_limit=-1,
    comment="",
    grants=(Grant("", "CONNECT", False),),
    settings=(Setting("", "work_mem", "8MB"),),
    grantees=("grafana",),
    extensions={"unaccent": "public", "pg_stat_statements": "monitoring"},
    policies={"public kpi readers": ("grafana",)},
    untrusted=("public cf",),
    casts=("text AS integer",),
)
SERVER = Server(
    version="15.14",
    roles={"mm", "postgres", "grafana"},
    superusers={"postgres"},
    superuser=True,
    tablespaces={"pg_default"},
    extensions={"unaccent": False, "pg_stat_statements": True, "timescaledb": True},
    settings=(),
)
LIST = """\
; Archive created at 2026-11-29 12:21:29 UTC
3; 3079 16395 EXTENSION - pg_stat_statements \n\
3406; 0 0 COMMENT - EXTENSION pg_stat_statements \n\
2; 3079 16388 EXTENSION - unaccent \n\
5; 2615 16388 SCHEMA - monitoring postgres
229; 1255 16437 FUNCTION public cf(integer) postgres
236; 1255 16453 FUNCTION public cfg(text) postgres
3499; 0 0 COMMENT public FUNCTION cf(integer) postgres
2998; 2605 16500 CAST - CAST (text AS integer) \n\
2999; 0 0 COMMENT - CAST (text AS integer) \n\
2083; 1417 16448 SERVER - s postgres
3409; 0 0 USER MAPPING - USER MAPPING mm SERVER s postgres
3498; 0 0 ACL - FOREIGN SERVER s postgres
222; 1259 16449 FOREIGN TABLE public ft postgres
220; 1259 16429 TABLE public posts mm
3500; 0 16429 TABLE DATA public posts mm
3396; 3256 16436 POLICY public kpi readers mm
3397; 6104 16438 PUBLICATION - p postgres
3398; 6106 16439 PUBLICATION TABLE public p posts postgres
3247; 3466 16440 EVENT TRIGGER - audit ddl postgres
3414; 0 0 COMMENT - EVENT TRIGGER audit ddl postgres
""".splitlines(keepends=True)
SCRIPT = """\
--
-- Name: TABLE "odd;table"; Type: ACL; Schema: public; Owner: mm
--

GRANT SELECT ON TABLE public."odd;table" TO grafana;
GRANT SELECT(id),UPDATE(id) ON TABLE public.posts TO "Mr. X" WITH GRANT OPTION;
REVOKE ALL ON FUNCTION public.f(text) FROM PUBLIC;
GRANT ALL ON TABLE public.posts TO mm;
REVOKE USAGE ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON SCHEMA public FROM postgres;
GRANT ALL ON SCHEMA public TO PUBLIC;
GRANT CREATE ON SCHEMA public TO reader;
SET SESSION AUTHORIZATION other;
GRANT SELECT ON TABLE public.posts TO gone;
RESET SESSION AUTHORIZATION;
ALTER DEFAULT PRIVILEGES FOR ROLE mm IN SCHEMA public GRANT SELECT ON TABLES  TO grafana;
ALTER DEFAULT PRIVILEGES FOR ROLE other GRANT SELECT ON TABLES  TO grafana;
"""


def test_a_manifest_has_the_properties_of_its_database() -> None:
    made = make_manifest(properties=PROPERTIES)
    assert parse(to_bytes(made), "here") == made
    assert parse(to_bytes(make_manifest()), "here").properties is None
    with pytest.raises(Failure):
        parse(to_bytes(made).replace(b'"CONNECT"', b'"EVERYTHING"'), "here")


@pytest.mark.parametrize(
    "name",
    [
        "local_preload_libraries",
        "session_preload_libraries",
        "role",
        "session_authorization",
        "default_transaction_read_only",
        "plperl.on_init",
        "dynamic_library_path",
        "Role",
        "temp_tablespaces",
    ],
)
def test_no_set_has_a_setting_of_this_kind_put_back(name: str) -> None:
    assert provisions.beyond(_with(Setting("", name, "x"))) == [
        f"Setting {name} of the database is not put back by a restore"
    ]


@pytest.mark.parametrize("name", ["search_path", "TimeZone", "enable_seqscan", "jit"])
def test_a_setting_of_how_queries_run_is_put_back(name: str) -> None:
    assert provisions.beyond(_with(Setting("", name, "x"))) == []


def _with(setting: Setting) -> Properties:
    return dataclasses.replace(PROPERTIES, settings=(setting,))


def test_what_takes_a_superuser_is_left_out_or_created_by_ours() -> None:
    found = restorable.sort(LIST, SERVER, PROPERTIES)
    assert [line.split("; ")[0] for line in found.lines[1:]] == ["236", "220", "3500", "3396"]
    assert found.extensions == ["pg_stat_statements", "unaccent"]
    told = " ".join(found.told)
    for words in ("Foreign server s", "Foreign table ft", "Publication p ", "audit ddl"):
        assert words in told, told
    assert "Function public.cf takes" in told and "Cast (text AS integer)" in told


def test_a_policy_of_a_role_that_is_missing_is_left_out() -> None:
    here = dataclasses.replace(SERVER, roles={"mm", "postgres"})
    found = restorable.sort(LIST, here, PROPERTIES)
    assert not [line for line in found.lines if "POLICY" in line]
    assert [warning for warning in found.told if "Policy readers on public.kpi" in warning]


def test_without_a_superuser_an_extension_for_one_is_left_out_alone() -> None:
    here = dataclasses.replace(SERVER, superuser=False)
    found = restorable.sort(LIST, here, PROPERTIES)
    assert found.extensions == []
    assert [line for line in found.lines if "EXTENSION" in line] == [LIST[3]]
    assert [
        warning
        for warning in found.told
        if warning.startswith("Extension pg_stat_statements takes")
    ]


def test_an_extension_that_nobody_knows_is_never_created_by_ours() -> None:
    lines = ["1; 3079 1 EXTENSION - timescaledb \n", "2; 3079 2 EXTENSION - gone \n"]
    found = restorable.sort(lines, SERVER, PROPERTIES)
    assert (found.lines, found.extensions) == ([], [])
    assert [warning.split(" ")[1] for warning in found.told[:2]] == ["timescaledb", "gone"]


def test_grants_are_read_from_a_script_whatever_the_names() -> None:
    found = dump_contents.grants_in(SCRIPT)
    assert [provision.role for provision in found] == [
        "grafana",
        "Mr. X",
        "PUBLIC",
        "mm",
        "reader",
        "gone",
        "grafana",
        "grafana",
    ]
    assert found[0] == Grants("grafana", 'GRANT SELECT ON TABLE public."odd;table" TO grafana;')


def test_of_default_privileges_those_of_the_former_owner_go_to_the_new_one() -> None:
    found = dump_contents.grants_in(SCRIPT)
    statements = provisions.granted(found, {"grafana"}, "mm", "mattermost")
    assert [statement for statement in statements if "DEFAULT" in statement] == [
        'ALTER DEFAULT PRIVILEGES FOR ROLE "mattermost" IN SCHEMA public GRANT SELECT ON TABLES  TO grafana;'
    ]
    assert not [
        statement for statement in statements if "gone" in statement or "Mr. X" in statement
    ]


def test_what_the_former_owner_took_from_itself_is_taken_from_the_new_one() -> None:
    script = (
        "REVOKE ALL ON TABLE public.t FROM mm;\nGRANT SELECT ON TABLE public.t TO mm WITH GRANT OPTION;\n"
        "ALTER DEFAULT PRIVILEGES FOR ROLE mm REVOKE ALL ON TABLES  FROM mm;\n"
    )
    statements = provisions.granted(dump_contents.grants_in(script), {"mm"}, "mm", 'o"d')
    assert statements == [
        'REVOKE ALL ON TABLE public.t FROM "o""d";',
        'GRANT SELECT ON TABLE public.t TO "o""d" WITH GRANT OPTION;',
        'ALTER DEFAULT PRIVILEGES FOR ROLE "o""d" REVOKE ALL ON TABLES  FROM "o""d";',
    ]
