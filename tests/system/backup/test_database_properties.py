"""The database is more than its tables: settings, rights, locale, place and comment come back or are told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tests.lab.installed_package import Answer, Product, install_product
from tests.lab.omnibus import Omnibus, Spec, install
from tests.lab.sandbox import Lab

DATABASE = "mattermost_production"
BACKUPS = "/srv/backups"
ICU = "LOCALE_PROVIDER icu ICU_LOCALE 'de-u-kn-true' LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8'"
THIS = "datname = current_database()"
# What a database is, asked of PostgreSQL itself.
ASKED = {
    "settings": "SELECT coalesce(r.rolname, '*') || ' ' || c FROM pg_database d"
    " JOIN pg_db_role_setting s ON d.oid = setdatabase LEFT JOIN pg_roles r ON r.oid = setrole,"
    f" unnest(setconfig) c WHERE {THIS} AND c NOT LIKE 'check_function_bodies%' ORDER BY 1",
    "limit": f"SELECT datconnlimit FROM pg_database WHERE {THIS}",
    "comment": f"SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE {THIS}",
    "privileges": f"SELECT unnest(datacl)::text FROM pg_database WHERE {THIS} ORDER BY 1",
    "locale": f"SELECT datlocprovider, daticulocale FROM pg_database WHERE {THIS}",
    "order": "SELECT string_agg(x, ',' ORDER BY x) FROM (VALUES ('a10'), ('a9'), ('z'), ('ä1')) t (x)",
    "tablespace": "SELECT spcname FROM pg_database JOIN pg_tablespace t ON t.oid = dattablespace"
    f" WHERE {THIS}",
    # But of those of another owner, whose ownership does not come back.
    "privileges on tables": "SELECT n.nspname, c.relname, unnest(c.relacl)::text FROM pg_class c"
    " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname IN ('public', 'mm')"
    " AND c.relname <> 'rep_daily' ORDER BY 1, 2, 3",
    "the schema public": "SELECT has_schema_privilege('grafana', 'public', 'CREATE')",
    "default privileges": "SELECT defaclobjtype, unnest(defaclacl)::text FROM pg_default_acl ORDER BY 2",
}
GIVEN = f"""
    ALTER DATABASE {DATABASE} SET default_text_search_config TO 'pg_catalog.simple';
    ALTER DATABASE {DATABASE} SET check_function_bodies TO on;
    ALTER DATABASE {DATABASE} SET search_path TO mm, "odd, schema", public;
    ALTER ROLE grafana IN DATABASE {DATABASE} SET work_mem TO '8MB';
    ALTER DATABASE {DATABASE} CONNECTION LIMIT 77;
    COMMENT ON DATABASE {DATABASE} IS 'of team X; don''t touch';
    REVOKE CONNECT, TEMPORARY ON DATABASE {DATABASE} FROM PUBLIC;
    GRANT CONNECT ON DATABASE {DATABASE} TO grafana WITH GRANT OPTION;
    GRANT USAGE ON SCHEMA mm TO grafana;
    GRANT CREATE ON SCHEMA public TO grafana;
    GRANT SELECT ON ALL TABLES IN SCHEMA mm TO grafana;
    GRANT SELECT (id), UPDATE (id) ON mm.posts TO grafana;
    ALTER DEFAULT PRIVILEGES FOR ROLE gitlab_mattermost IN SCHEMA mm GRANT SELECT ON TABLES TO grafana;
    CREATE TABLE mm.kpi (i int);
    ALTER TABLE mm.kpi OWNER TO gitlab_mattermost;
    ALTER TABLE mm.kpi ENABLE ROW LEVEL SECURITY;
    CREATE POLICY readers ON mm.kpi FOR SELECT TO grafana USING (true);
    CREATE TABLE mm.rep_daily (d date);
    ALTER TABLE mm.rep_daily OWNER TO rep;
    GRANT SELECT ON mm.rep_daily TO gitlab_mattermost;
"""
TOLD = {
    "Role rep owns mm.rep_daily in the database; a restore makes Mattermost's role the owner",
    "Setting check_function_bodies of the database is not put back by a restore",
}


def asked(gitlab: Omnibus, questions: Mapping[str, str] = ASKED) -> dict[str, list[str]]:
    return {name: gitlab.sql(question) for name, question in questions.items()}


def differing(before: dict[str, list[str]], after: dict[str, list[str]]) -> dict[str, set[str]]:
    return {
        name: set(found) ^ set(after[name])
        for name, found in before.items()
        if found != after[name]
    }


def as_superuser(gitlab: Omnibus, statements: str, database: str = DATABASE) -> None:
    client = ("/opt/gitlab/bin/gitlab-psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", database)
    done = gitlab.lab.run(*client, input=statements, check=False)
    assert done.returncode == 0, done.stderr


def told_each(answer: Answer, wanted: Mapping[str, str]) -> list[str]:
    """What a backup told: one warning for each beginning that is ``wanted``, with the words that go with it."""
    told = [str(warning) for warning in answer.document["told"]]
    assert len(told) == len(wanted), told
    for what, words in wanted.items():
        assert [warning for warning in told if warning.startswith(what) and words in warning], (
            what,
            told,
        )
    return told


def recreate(gitlab: Omnibus, options: str) -> None:
    """Move Mattermost's database into one made with these options, as a DBA would."""
    gitlab.gitlab_ctl("stop", "mattermost")
    run = "/opt/gitlab/embedded/bin/chpst -u gitlab-psql:gitlab-psql /opt/gitlab/embedded/bin"
    at = "-h /var/opt/gitlab/postgresql -p 5432"
    psql = "/opt/gitlab/bin/gitlab-psql -d postgres -q -c"
    gitlab.lab.run(
        "sh",
        "-ec",
        f"cd /tmp; {run}/pg_dump {at} -Fc {DATABASE} >/tmp/x.dump; {psql} 'DROP DATABASE {DATABASE}';"
        f' {psql} "CREATE DATABASE {DATABASE} OWNER gitlab_mattermost TEMPLATE template0 {options}";'
        f" {run}/pg_restore {at} -d {DATABASE} </tmp/x.dump",
    )
    gitlab.gitlab_ctl("start", "mattermost")
    gitlab.wait_until_ready()


def into_schema(gitlab: Omnibus, schema: str) -> None:
    """Move all that Mattermost has into a schema that its role's search_path names."""
    gitlab.gitlab_ctl("stop", "mattermost")
    as_superuser(
        gitlab,
        f"""CREATE SCHEMA {schema} AUTHORIZATION gitlab_mattermost;
        ALTER ROLE gitlab_mattermost SET search_path TO {schema};
        SELECT format('ALTER TABLE public.%I SET SCHEMA {schema}', relname) FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S')
        AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = pg_class.oid AND d.deptype = 'a')
        \\gexec""",
    )
    gitlab.gitlab_ctl("start", "mattermost")
    gitlab.wait_until_ready()


def odd_host(lab: Lab, deb: Path) -> tuple[Omnibus, Product]:
    """A server whose DBA has done all that one can do to a database."""
    gitlab = install(lab, Spec(backup_path=BACKUPS))
    product = install_product(lab, deb)
    gitlab.seed()
    lab.run("install", "-d", "-o", "gitlab-psql", "-g", "gitlab-psql", "/srv/fast")
    as_superuser(
        gitlab,
        "CREATE TABLESPACE fast LOCATION '/srv/fast'; CREATE ROLE grafana LOGIN; CREATE ROLE rep;",
        "postgres",
    )
    recreate(gitlab, f"{ICU} TABLESPACE fast")
    into_schema(gitlab, "mm")
    as_superuser(gitlab, GIVEN)
    return gitlab, product


def test_what_a_database_is_comes_back(base: Path, deb: Path) -> None:
    with Lab(base=base) as lab:
        gitlab, product = odd_host(lab, deb)
        before, state = asked(gitlab), gitlab.state()
        answer = product("backup")
        assert answer.code == 4
        assert set(answer.document["told"]) == TOLD
        assert product("rehearse").code == 0
        # A restore that fails at its end gives back the database that was live, with all of it.
        hook = lab.path("/etc/gitlab-mm-backup/hooks/post-restore.d/99-fails")
        hook.parent.mkdir(parents=True, exist_ok=True)
        hook.write_text("#!/bin/sh\nexit 1\n")
        hook.chmod(0o755)
        assert product.restore("--no-safety-backup").code == 1
        assert differing(before, asked(gitlab)) == {}
        hook.unlink()
        restored = product.restore("--no-safety-backup")
        assert restored.code == 4
        assert len(restored.document["warnings"]) == 1, "the setting that no set brings"
        assert "check_function_bodies" in restored.document["warnings"][0]
        assert differing(before, asked(gitlab)) == {}
        assert gitlab.state().tables == state.tables
        assert gitlab.sign_in("alice").user_id


def test_a_host_without_the_roles_and_places_is_told_before_anything_stops(
    base: Path, deb: Path
) -> None:
    with Lab(base=base) as lab:
        gitlab, product = odd_host(lab, deb)
        state = gitlab.state()
        set_ = json.loads(json.dumps(product("backup").document))["path"]
        lab.run("dpkg", "--purge", "gitlab-mm-backup")
        gitlab.lose_everything()
        gitlab = install(lab, Spec(backup_path=BACKUPS, seed="second", first_uid=1480))
        product = install_product(lab, deb)
        planned = product("restore", "--dry-run", set_)
        told = planned.document["warnings"]
        for words in (
            "tablespace fast",
            "role grafana",
            "Policy readers on mm.kpi",
            "Setting work_mem of role grafana",
            "check_function_bodies",
        ):
            assert [warning for warning in told if words in warning], (words, told)
        answer = product.restore("--no-safety-backup", set_)
        assert answer.code == 4
        assert set(told) <= set(answer.document["warnings"])
        after = asked(
            gitlab, {name: query for name, query in ASKED.items() if "grafana" not in query}
        )
        assert after["comment"] == ["of team X; don't touch"]
        assert after["limit"] == ["77"]
        assert after["tablespace"] == ["pg_default"]
        assert after["locale"] == ["i|de-u-kn-true"]
        assert "gitlab_mattermost search_path=mm" in after["settings"]
        assert gitlab.state().tables == state.tables
        assert gitlab.sign_in("alice").user_id
