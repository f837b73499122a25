"""What neither a dump nor a manifest holds of a database is told by the backup, each thing by its name."""

from __future__ import annotations

from pathlib import Path

from tests.lab.omnibus import Spec, install
from tests.lab.product import install_product
from tests.lab.sandbox import Lab
from tests.system.test_database_properties import as_superuser

OWN = "SET ROLE gitlab_mattermost;"
TWINS = "CREATE TABLE twins (i int, t text); INSERT INTO twins VALUES (1, 'x'), (2, 'x');"
RIGHTS = """
    CREATE ROLE rep; ALTER DEFAULT PRIVILEGES FOR ROLE rep GRANT SELECT ON TABLES TO PUBLIC;
    CREATE EXTENSION pgstattuple; GRANT EXECUTE ON FUNCTION pgstattuple(text) TO PUBLIC;
    REVOKE EXECUTE ON FUNCTION pg_sleep(float8) FROM PUBLIC;
    SET ROLE gitlab_mattermost;
    REVOKE INSERT ON twins FROM gitlab_mattermost;
"""
TOLD = {
    "Index public.twins_t": "is not valid",
    "Default privileges of role rep": "are not put back",
    "Privileges on pg_catalog.pg_sleep, public.pgstattuple": "are not put back",
}
# References of all kinds that hold.
KEPT = """
    SET ROLE gitlab_mattermost;
    CREATE TABLE parts (a int, b citext, PRIMARY KEY (a, b));
    CREATE TABLE whole (b citext, a int, FOREIGN KEY (a, b) REFERENCES parts, FOREIGN KEY (a) REFERENCES ids);
    CREATE TABLE pieces (i int REFERENCES ids) PARTITION BY LIST (i);
    CREATE TABLE piece PARTITION OF pieces DEFAULT;
    RESET ROLE;
    SET session_replication_role = replica;
    INSERT INTO ids VALUES (1); INSERT INTO parts VALUES (1, 'x'); INSERT INTO pieces VALUES (1);
    INSERT INTO whole VALUES ('X', 1), ('x', NULL);
"""


def test_rights_and_indexes_that_do_not_come_back_are_told(base: Path, deb: Path) -> None:
    with Lab(base=base) as lab:
        gitlab = install(lab, Spec())
        product = install_product(lab, deb)
        gitlab.seed()
        as_superuser(gitlab, f"{OWN} CREATE TYPE span AS RANGE (subtype = float8)")
        assert product("backup").code == 0, "the functions of that type come with it"
        as_superuser(gitlab, f"{OWN} {TWINS}")
        index = "\\set ON_ERROR_STOP off\nCREATE UNIQUE INDEX CONCURRENTLY twins_t ON twins (t);\n"
        as_superuser(gitlab, index + "SELECT 1")
        as_superuser(gitlab, RIGHTS)

        answer = product("backup")

        assert answer.code == 4, answer
        told = answer.document["told"]
        assert len(told) == len(TOLD), told
        for what, words in TOLD.items():
            assert [one for one in told if one.startswith(what) and words in one], (what, told)
        restored = product.restore("--no-safety-backup")
        assert restored.code == 4
        may = "SELECT has_table_privilege('gitlab_mattermost', 'twins', '{}')"
        assert [gitlab.sql(may.format(what)) for what in ("INSERT", "SELECT")] == [["f"], ["t"]]


def test_rows_that_break_a_constraint_are_told_and_named_again_by_a_rehearsal(
    base: Path, deb: Path
) -> None:
    with Lab(base=base) as lab:
        gitlab = install(lab, Spec())
        product = install_product(lab, deb)
        gitlab.seed()
        as_superuser(
            gitlab, "CREATE EXTENSION citext;" + OWN + "CREATE TABLE ids (i int PRIMARY KEY)"
        )
        as_superuser(gitlab, KEPT)
        sound = product("backup")
        assert sound.code == 0, sound
        as_superuser(
            gitlab, "SET session_replication_role = replica; INSERT INTO pieces VALUES (9)"
        )
        as_superuser(
            gitlab, "SET session_replication_role = replica; INSERT INTO whole VALUES (NULL, 7)"
        )
        as_superuser(
            gitlab,
            f"{OWN} CREATE FUNCTION there(int) RETURNS bool LANGUAGE sql AS"
            " 'SELECT EXISTS (SELECT FROM ids WHERE i = $1)'; CREATE TABLE asks (i int CHECK (there(i)))",
        )

        answer = product("backup")

        assert answer.code == 4, answer
        told = answer.document["told"]
        assert [one.partition(":")[0] for one in told] == [
            "Constraint asks_i_check of asks calls there, which is not IMMUTABLE",
            "Rows of pieces break its constraint pieces_i_fkey",
            "Rows of whole break its constraint whole_a_fkey",
        ], told
        rehearsed = product("rehearse")
        assert rehearsed.code == 1
        assert "break the constraint" in rehearsed.error["detail"]
        assert "gitlab-mm backup" not in rehearsed.error["hint"]
        as_superuser(gitlab, "DELETE FROM whole WHERE a = 7; DELETE FROM pieces WHERE i = 9")
        assert len(product("backup").document["told"]) == 1
        assert product("rehearse").code == 0, (
            "the function's table is empty there, and so is the other"
        )
