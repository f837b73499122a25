"""A set from a server whose locale this one does not have, and one that says so with ill intent."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from gitlab_mm_backup.store import manifest
from gitlab_mm_backup.store.properties import Grant, Properties, Setting
from tests.lab.installed_package import install_product
from tests.lab.omnibus import Spec, install
from tests.lab.sandbox import Lab


def made_elsewhere(folder: Path, locale: str, properties: Properties | None = None) -> None:
    """Have the set say that its database was another one, with sums that are right and unsigned."""
    found = manifest.parse((folder / manifest.MANIFEST).read_bytes(), "the set")
    database = dataclasses.replace(found.database, collate=locale, ctype=locale)
    changed = dataclasses.replace(found, database=database, properties=properties)
    (folder / manifest.MANIFEST).write_bytes(manifest.to_bytes(changed))
    (folder / manifest.SUMS).write_bytes(manifest.sums(changed))
    (folder / "signature.json").unlink(missing_ok=True)


def test_a_locale_that_is_missing_here_is_told_and_is_no_obstacle(base: Path, deb: Path) -> None:
    with Lab(base=base) as lab:
        gitlab = install(lab, Spec())
        product = install_product(lab, deb)
        seed = gitlab.seed()
        path = product.backup()
        made_elsewhere(lab.path(path), "tlh_QO.UTF-8")
        answer = product.restore("--no-safety-backup")
        assert answer.code == 4
        assert any("locale" in warning for warning in answer.document["warnings"])
        session = gitlab.sign_in("alice")
        for identifier, text in seed.posts.items():
            assert session.read_post(identifier) == text

        made_elsewhere(lab.path(path), "C")
        assert product.restore("--no-safety-backup").code == 0
        query = "SELECT datcollate FROM pg_database WHERE datname = current_database()"
        assert gitlab.sql(query) == ["C"]


EVIL = "x'; DROP DATABASE gitlabhq_production; --"
HOSTILE = Properties(
    owner='gitlab-psql"; DROP ROLE gitlab; --',
    role="gitlab_mattermost",
    search_path=EVIL,
    tables={"users": "public"},
    provider="icu",
    locale=EVIL,
    rules=EVIL,
    tablespace='fast"; DROP ROLE gitlab; --',
    connection_limit=0,
    comment="made or set aside by gitlab-mm-backup\n'; DROP ROLE gitlab; --",
    grants=(Grant('gitlab"; DROP ROLE gitlab; --', "CONNECT", True), Grant("", "CONNECT", True)),
    settings=(
        Setting("", "session_preload_libraries", "evil"),
        Setting("", "local_preload_libraries", "evil"),
        Setting("", "role", "gitlab-psql"),
        Setting("gitlab-psql", "search_path", "public, pg_catalog"),
        Setting("", "work_mem TO '8MB'; DROP DATABASE gitlabhq_production; --", "8MB"),
        Setting("", "work_mem", EVIL),
        Setting("", "default_text_search_config", EVIL),
        Setting('gone"; DROP ROLE gitlab; --', "work_mem", "8MB"),
        Setting("", "search_path", f'public, "{EVIL}"'),
    ),
    grantees=(EVIL,),
    extensions={"pg_stat_statements": EVIL},
    policies={EVIL: (EVIL,)},
    untrusted=(EVIL,),
    casts=(EVIL,),
)


def test_what_a_set_says_of_its_database_is_data(base: Path, deb: Path) -> None:
    with Lab(base=base) as lab:
        gitlab = install(lab, Spec())
        product = install_product(lab, deb)
        gitlab.seed()
        path = product.backup()
        databases = gitlab.sql("SELECT datname FROM pg_database ORDER BY 1")
        roles = gitlab.sql("SELECT rolname, rolsuper FROM pg_roles ORDER BY 1")
        made_elsewhere(lab.path(path), "C.UTF-8", HOSTILE)
        answer = product.restore("--no-safety-backup")
        assert answer.code == 4, answer
        assert gitlab.sql("SELECT datname FROM pg_database ORDER BY 1") == databases
        assert gitlab.sql("SELECT rolname, rolsuper FROM pg_roles ORDER BY 1") == roles
        settings = (
            "SELECT setrole, unnest(setconfig) FROM pg_db_role_setting WHERE setdatabase <> 0"
        )
        kept = gitlab.sql(f"{settings} ORDER BY 2")
        assert {line.partition("=")[0] for line in kept} <= {
            "0|search_path",
            "0|default_text_search_config",
        }
        comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database"
        assert gitlab.sql(f"{comment} WHERE datname = current_database()") == [""]
        assert gitlab.sign_in("alice").user_id
