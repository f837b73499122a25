"""Mattermost, GitLab and PostgreSQL: files, settings and databases as they are found on real hosts."""

from __future__ import annotations

from tests.cases import Case, Group

_RESTORABLE = "system/backup/test_restorable.py::test_what_a_plain_role_cannot_load"
_PROPERTIES = "system/backup/test_database_properties.py::test_what_a_database_is_comes_back"
_OTHER_HOST = (
    "system/backup/test_database_properties.py::"
    "test_a_host_without_the_roles_and_places_is_told_before_anything_stops"
)
_ENCODING = "system/backup/test_encodings.py::test_a_database_of_another_encoding"
_SOURCE = "system/backup/test_settings_odd.py::test_a_data_source_that_go_understands"
_ONLY_GO = "system/backup/test_settings_odd.py::test_a_config_json_that_only_go_reads"
_GO = "unit/mattermost/test_json_file.py::test_a_config_json_is_read_as_go_does"
_RIGHT_SET = "system/offsite/test_right_set.py"
_ODD_FILES = "system/backup/test_backup.py::test_odd_files_come_back"
_ELSEWHERE = "system/restore/test_restore_elsewhere.py::test_a_set_comes_to_a_server_of_other_names"
_VARIABLES = "system/cli/test_caller.py::test_a_variable_of_the_shell_changes_nothing"
_WHOEVER = "system/cli/test_caller.py::test_a_set_and_its_restore_whoever_calls"
_LIMIT = "system/backup/test_database_limits.py::test_a_limit_is_found_before_the_stop"

REPORTS = Group(
    "Mattermost, GitLab and PostgreSQL",
    "Files, settings and databases as they are found on real hosts.",
    "reported to",
    (
        Case(
            "02",
            "restic#21956",
            "one set was made while the clock was half a year ahead",
            "today's set is the newest: status, metrics and report go by it, and a restore without a name "
            "takes it, with exit code 4 and a warning that names the other",
            (f"{_RIGHT_SET}::TestClocks::test_a_set_from_the_future_is_none_to_go_by",),
        ),
        Case(
            "03",
            "zammad#4585",
            "a directory of uploads was moved to another disk, with a link in its place",
            "the link is kept; that the uploads behind it are not in the set is told by the backup (exit code "
            "4) and by every list. The rehearsal of such a set fails, so a sound older set is taken before it",
            (
                "system/backup/test_absence.py::test_an_upload_behind_a_link_out_is_not_in_the_set",
                f"{_RIGHT_SET}::TestBadSets::test_a_newer_set_that_failed_its_rehearsal_is_told",
            ),
        ),
        Case(
            "04",
            "mattermost#11212",
            "config.json is a link to a file that configuration management keeps",
            "read with the rights of Mattermost's account, which owns the directory and could have the link lead "
            "to any file of root's; a restore makes a file of it, and says so (exit code 4)",
            (
                "system/backup/test_attributes.py::test_what_is_managed_elsewhere_comes_back_where_nobody_keeps_it",
                "system/boundary/test_boundary_paths.py::test_something_else_in_place_of_config_json",
            ),
        ),
        Case(
            "05",
            "mattermost/docs#6537, mattermost#2159",
            "an extension that only a superuser may create",
            "those of a list (pg_stat_statements, zhparser, textsearch_ja and others) come back, created by "
            "the bundled server's superuser while the new database is empty. Any other is told by the backup "
            "(exit code 4); the rehearsal and a restore that need it fail and name it",
            (
                _RESTORABLE,
                "unit/postgresql/test_provisions.py::test_what_takes_a_superuser_is_left_out_or_created_by_ours",
            ),
        ),
        Case(
            "06",
            "timescaledb#4291",
            "an event trigger; a publication FOR ALL TABLES; postgres_fdw with a server and a foreign table",
            "the extension comes back; the others are left out, which the backup and the restore tell, each "
            "by its name (exit code 4)",
            (_RESTORABLE,),
        ),
        Case(
            "07",
            "h3-pg#168",
            "an index on a function that calls unaccent() without naming its schema",
            "comes back: a set is loaded with the search_path that the database has",
            (_RESTORABLE,),
        ),
        Case(
            "08",
            "pgcopydb#484",
            "a materialized view with ts_stat('... FROM posts')",
            "comes back filled, as the index above",
            (_RESTORABLE,),
        ),
        Case(
            "09",
            "timescaledb#1548",
            "a table in a tablespace of its own",
            "the table comes back into the database's own tablespace, also on a host that lacks the other; "
            "the backup tells that",
            (_RESTORABLE,),
        ),
        Case(
            "10",
            "mattermost#22249, mattermost/docs#5749",
            "ALTER DATABASE ... SET, CONNECTION LIMIT, COMMENT, REVOKE CONNECT, GRANTs, default privileges, a "
            "table of another owner",
            "all of it is there after a restore, and after one that failed; the other owner, and settings "
            "that a set must not bring along, are told by the backup (exit code 4)",
            (_PROPERTIES,),
        ),
        Case(
            "12",
            "gitlabhq#9420",
            "a database in SQL_ASCII, with bytes that are no UTF-8",
            "backup, rehearsal and restore work, byte for byte",
            (_ENCODING,),
        ),
        Case(
            "13",
            "mattermost#1541",
            "an @ in the password of the DataSource, not escaped",
            "read as Go reads it; no part of the password is in any output, right or wrong",
            (
                _SOURCE,
                "system/backup/test_settings_odd.py::test_no_part_of_a_wrong_password_is_told",
            ),
        ),
        Case(
            "14",
            "lib/pq documentation",
            "search_path, statement_timeout, timezone or sslinline in the DataSource",
            "works: what is the server's is passed over where it would hinder, what is the driver's is known",
            (_SOURCE,),
        ),
        Case(
            "15",
            "mattermost#10404",
            "a key twice in config.json",
            "the last one counts, as in Mattermost; the file is restored byte for byte",
            (_ONLY_GO, _GO),
        ),
        Case(
            "16",
            "mattermost-plugin-confluence#167",
            'keys in other letters: "drivername": "amazons3"',
            "read as Go reads it: the backup tells that uploads lie in object storage (exit code 4)",
            ("system/backup/test_settings_odd.py::test_keys_in_other_letters", _GO),
        ),
        Case(
            "17",
            "agent-zero#1773",
            "half of an emoji (a lone surrogate) in config.json",
            "a set is made and passes its rehearsal; --json prints one object",
            (_ONLY_GO,),
        ),
        Case(
            "18",
            "puppet-gitlab#318",
            "bytes of Latin-1 in a file of the environment folder",
            "a set is made and passes its rehearsal",
            (_ONLY_GO,),
        ),
        Case(
            "19",
            "rear#1175",
            "an access control list and an extended attribute on an upload",
            "the file comes back with them",
            (_ODD_FILES, "system/backup/test_attributes.py::test_they_come_back"),
        ),
        Case(
            "20",
            "learn-postgresql#124",
            "a database with the locale provider ICU",
            "comes back with it, and sorts as before",
            (_PROPERTIES,),
        ),
        Case(
            "21",
            "-",
            "PGSERVICE, PGHOSTADDR, PGTARGETSESSIONATTRS, PGCLIENTENCODING in root's shell",
            "ignored, by a backup and by a restore",
            (
                _VARIABLES,
                _WHOEVER,
                "unit/system/test_environment.py::test_what_is_not_ours_is_gone",
            ),
        ),
        Case(
            "22",
            "mattermost#11212",
            "config.json is immutable (chattr +i)",
            "the restore is made; it tells which file of the previous state could not be removed, and where "
            "(exit code 4). prune --previous removes it when the attribute is gone",
            ("system/backup/test_backup.py::test_a_config_json_that_nothing_may_change",),
        ),
        Case(
            "23",
            "-",
            "the bundled server's socket directory is written with a / at its end, or by ..",
            "recognised as the bundled server: backup and restore work",
            ("system/backup/test_settings_odd.py::test_the_bundled_socket_however_it_is_written",),
        ),
        Case(
            "24",
            "duplicati#3271",
            "a socket, a pipe, an owner that the host does not know, odd names, a long path, sparse and hard "
            "linked files, times of 1960 and 2200",
            "all come back but the pipe, which is told (exit code 4), and the socket, which is not: the "
            "program that listens makes it anew",
            (_ODD_FILES, "unit/store/test_archive_writer.py::test_a_tree_comes_back_as_it_was"),
        ),
        Case(
            "25",
            "gitlabhq#8521",
            "/var/opt/gitlab, or Mattermost's home, is a link to another disk",
            "works, where root alone can change the link; it stays a link after a restore",
            (_ELSEWHERE,),
        ),
        Case(
            "26",
            "mattermost#6590",
            "umask 077; the locales ja_JP and POSIX; TZ=Asia/Tokyo or nonsense",
            "works; owners and modes after a restore are those of before",
            (_WHOEVER,),
        ),
        Case(
            "27",
            "mattermost#15183",
            "the directory of uploads is mounted read-only",
            "the restore fails with the reason, and Mattermost runs as before",
            ("system/restore/test_restore_faults_folders.py::test_the_uploads_disk_is_read_only",),
            refused=True,
        ),
        Case(
            "28",
            "django-dbbackup#496",
            "large objects, row policies, partitions, identity and generated columns, unlogged tables, ICU "
            "collations, odd names, other schemas, pg_trgm",
            "come back where Mattermost's role owns or may read them. What it may not read (a table of a "
            "superuser's, FORCE ROW LEVEL SECURITY) is told by the backup, and by a restore that replaces a "
            "database with such tables (exit code 4)",
            (
                _RESTORABLE,
                "system/boundary/test_boundary_database.py::test_what_the_owner_may_not_read_is_told",
            ),
        ),
        Case(
            "29",
            "oauth2-proxy#2551",
            "config.json with a byte order mark, a comment or a trailing comma; with CR LF, sections that are "
            "null, a number of 25 digits",
            "the first three stop Mattermost too, and the backup with line and column (exit code 1); with the "
            "others a set is made",
            ("system/backup/test_settings_odd.py::test_a_form_of_config_json", _GO),
        ),
        Case(
            "30",
            "pgbouncer#875",
            "the DataSource leads to PgBouncer",
            "refused by name: a snapshot needs sessions of the server itself. With database.host and "
            "database.port in config.yml backup and restore work beside the pooler",
            (
                "system/backup/test_database_limits.py::"
                "test_a_pooler_is_named_and_passed_by_with_two_settings",
            ),
        ),
        Case(
            "31",
            "cardano-db-sync#1659",
            "a row policy for a role that the new host lacks",
            "restored without the policy, with a warning that names it, before anything stops (exit code 4)",
            (_OTHER_HOST,),
        ),
        Case(
            "32",
            "mattermost#9409",
            "a database in LATIN1; an upload whose name LATIN1 lacks",
            "backup, rehearsal and restore work, byte for byte",
            (_ENCODING,),
        ),
        Case(
            "33",
            "pgbackrest#465",
            "the whole database in a tablespace",
            "comes back into it; on a host without it into the usual one, with a warning before anything stops",
            (_PROPERTIES, _OTHER_HOST),
        ),
        Case(
            "34",
            "pghoard#174",
            "Mattermost's role with CONNECTION LIMIT 1",
            "a backup without a connection left, and a restore before it stops Mattermost, fail with the "
            "reason and the statement that raises the limit",
            (
                _LIMIT,
                "system/backup/test_database_limits.py::test_a_role_without_a_connection_left_is_named",
            ),
            refused=True,
        ),
        Case(
            "34b",
            "-",
            "default_transaction_read_only for Mattermost's role or database",
            "it is backed up; a restore fails before it stops Mattermost, with the statement that lifts it",
            (_LIMIT, "system/boundary/test_boundary_settings.py::test_a_backup_with_each"),
            refused=True,
        ),
        Case(
            "35",
            "restic#3619",
            "the clock was ahead for one night, with files: incremental",
            "no set builds on that of the future, and a full set is made when it is due",
            (f"{_RIGHT_SET}::TestClocks::test_nothing_builds_on_a_set_from_the_future",),
        ),
        Case(
            "39",
            "-",
            "the database `Matter-Most.2`, another port, uploads in `/srv/up loads/ü;x`",
            "works, also as the target of another host's set",
            (_ELSEWHERE,),
        ),
        Case(
            "40",
            "mattermost/docs#5239",
            "a SiteURL with a path",
            "the sign-in check looks for the addresses below that path; a host name in other letters in "
            "GitLab is found as what breaks the sign-in",
            ("system/sso/test_sign_in_check.py::test_a_site_url_with_a_path",),
        ),
        Case(
            "41",
            "duplicati#2361",
            "the newest set failed its rehearsal, an older one passed",
            "a restore without a name takes the older one, and says so (exit code 4)",
            (
                f"{_RIGHT_SET}::TestBadSets::test_a_newer_set_that_failed_its_rehearsal_is_told",
                f"{_RIGHT_SET}::TestElsewhere::test_a_repository_and_a_set_that_failed_its_rehearsal",
            ),
        ),
    ),
)
