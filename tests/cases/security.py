"""Attacks by somebody without root's rights: an account of the server, a database's owner, a bucket's writer."""

from __future__ import annotations

from tests.cases import Case, Group

_DATABASE = "system/boundary/test_boundary_database.py"
_PATHS = "system/boundary/test_boundary_paths.py"
_RACES = "system/boundary/test_boundary_races.py"
_ORIGIN = "system/boundary/test_boundary_origin.py"
_BUCKET = "system/boundary/test_boundary_bucket.py"
_REHEARSAL = "system/boundary/test_boundary_rehearsal.py"
_TERMINAL = "system/boundary/test_boundary_terminal.py"
_RUBY = "unit/restore/test_replacing.py"
_HOSTILE = "system/restore/test_hostile_sets.py"
_TRAPS = f"{_DATABASE}::test_no_trap_of_an_owner_sees_a_superuser"
_FORGED = f"{_ORIGIN}::test_what_claims_to_be_ours_without_our_signature_is_forged"
_ODD_CONFIG = f"{_PATHS}::test_something_else_in_place_of_config_json"
_ENVIRONMENT = f"{_PATHS}::test_an_environment_folder_in_the_home"

SECURITY = Group(
    "Attacks",
    "By somebody without root's rights. Each result is that the attack is held; the tests print their own "
    "table of single attempts, `build/attacks.txt`.",
    "who",
    (
        Case(
            "01",
            "owner of Mattermost's database",
            "operators, views, index expressions, rules, triggers, casts and a search_path, planted for the "
            "superuser's sessions",
            "no superuser ever works in that database: backup, restore, rehearsal, doctor, gate and all others "
            "run there as Mattermost's own role",
            (_TRAPS, f"{_DATABASE}::test_a_superuser_who_works_there_would_be_seen"),
        ),
        Case(
            "03",
            "account mattermost",
            "the work directory of a restore, within a mount of the account's own, is exchanged while root "
            "unpacks",
            "the account cannot enter it meanwhile; the restore is made, and nothing of root's is touched",
            (f"{_PATHS}::test_a_work_folder_within_a_mount_of_the_account",),
        ),
        Case(
            "04",
            "writer of the bucket",
            "a set of their own in our name, or in the clear where copies are encrypted; its dump has the "
            "traps of 01",
            "forged or unsigned: not listed as sound, not restored unless its name is given with "
            "--trust-unsigned; and its dump is loaded as Mattermost's role",
            (
                _FORGED,
                f"{_ORIGIN}::test_a_set_of_a_strangers_host_is_not_restored_unless_it_is_named",
                f"{_ORIGIN}::test_a_plain_copy_is_refused_where_copies_are_encrypted",
                _TRAPS,
                f"{_HOSTILE}::test_a_dump_that_runs",
            ),
        ),
        Case(
            "05",
            "account mattermost",
            "config.json as a link to /etc/shadow, a pipe, a sparse file of 3 GB, a directory; deep, huge or "
            "odd JSON",
            "the backup fails with the reason and nothing of root's is read; what is read has a limit of size "
            "and depth",
            (
                _ODD_CONFIG,
                "unit/system/test_validation_documents.py::test_json_that_is_refused",
                "unit/system/test_files_reading.py::test_a_sparse_file_is_not_read_to_its_end",
            ),
        ),
        Case(
            "06",
            "code in a set, in the database or the program of a rehearsal",
            "looks for the host, its network, other processes, namespaces, keys, memory and disk",
            "a sandbox with neither: no namespaces, no capabilities, a seccomp filter, and limits of memory, "
            "processes, files and time",
            (
                f"{_REHEARSAL}::test_what_a_program_in_the_sandbox_may_take",
                "system/rehearsal/test_rehearsal_apart.py::test_no_way_leads_out_of_the_sandbox",
                f"{_REHEARSAL}::test_a_table_that_fills_the_disk",
            ),
        ),
        Case(
            "08",
            "writer of the bucket",
            "hostile manifests, settings and archives; archives and dumps that unpack to far more than they "
            "say",
            "refused, with nothing written and nothing changed; read no further than the manifest's sizes",
            (
                f"{_HOSTILE}::test_an_archive_with",
                f"{_HOSTILE}::test_settings_that_no_service_can_have",
                f"{_HOSTILE}::test_a_config_json_that_is_a_link",
                "system/boundary/test_boundary_bombs.py::test_an_archive_that_goes_on",
                "system/boundary/test_boundary_bombs.py::test_a_dump_that_grows",
                "unit/store/test_manifest.py::test_hostile_values_are_refused",
                "unit/mattermost/test_effective_config_of_sets.py::test_what_no_process_can_be_started_with_is_refused",
            ),
        ),
        Case(
            "09",
            "account mattermost",
            "pipes, links and set-user-id files made while root packs; files and links that change places all "
            "the time",
            "the set is made, says what it lacks, and can be restored",
            (
                f"{_PATHS}::test_what_is_made_while_tar_packs",
                f"{_RACES}::test_what_is_swapped_all_the_time",
                f"{_RACES}::test_after_all_that_no_set_holds_what_is_not_mattermost_s",
            ),
        ),
        Case(
            "10",
            "database, settings, set",
            "escape sequences and line breaks in names and values",
            "escaped in every output, and one line each: terminal, report, recovery kit, metrics",
            (
                f"{_TERMINAL}::test_what_a_verb_prints",
                f"{_TERMINAL}::test_a_set_that_somebody_made",
                f"{_TERMINAL}::test_what_is_kept_of_it",
            ),
        ),
        Case(
            "11",
            "local user",
            "watches /proc, /tmp and logs for secrets; PATH, PYTHONPATH, working directory and signals",
            "no secret is in an argument, an environment that others can read, a file or an output; variables "
            "of the caller change nothing; no core is left",
            (
                "system/cli/test_canary.py::test_no_command_lets_a_secret_out",
                "system/cli/test_caller.py::test_a_variable_of_the_shell_changes_nothing",
                "unit/system/test_sandbox.py::test_no_core_is_left_by_us_or_by_a_child",
                "unit/system/test_files.py::test_a_link_is_replaced_and_not_followed",
            ),
        ),
        Case(
            "12",
            "account mattermost",
            "a SiteURL with line breaks and directives of nginx, or with quotes",
            "no command writes a configuration of nginx; in the line for gitlab.rb that a move prints, it is "
            "one string",
            (f"{_RUBY}::test_the_address_is_one_string_in_the_line_for_gitlab_rb",),
        ),
        Case(
            "13",
            "account git",
            "a view in the place of GitLab's applications; the directory of the sets exchanged, also while a "
            "backup runs",
            "no superuser works in GitLab's database; another directory is refused, and nothing is written "
            "there",
            (
                _TRAPS,
                f"{_PATHS}::test_another_directory_in_place_of_the_sets",
                f"{_PATHS}::test_another_directory_in_place_of_the_sets_meanwhile",
            ),
        ),
        Case(
            "15",
            "writer of the bucket",
            "a manifest in one directory speaks for the set in another",
            "it speaks for none: ours stays intact, and latest is ours",
            (
                f"{_BUCKET}::test_a_manifest_speaks_for_its_own_folder_alone",
                f"{_BUCKET}::test_a_copy_of_ours_that_was_rolled_back_to_another_is_none",
            ),
        ),
        Case(
            "16",
            "database's owner, account mattermost, account git",
            "28 settings of the database that a client reads; thousands of sets; deep and endless YAML and JSON; "
            "a path of 60 kB",
            "a backup is made with each setting and can be restored; documents have a limit of size and depth; "
            "paths too long to be unpacked are left out, which the backup tells (exit code 4)",
            (
                "system/boundary/test_boundary_settings.py::test_a_backup_with_each",
                "system/boundary/test_boundary_settings.py::test_a_restore_with_all",
                "unit/system/test_validation_documents.py::test_yaml_that_is_refused",
                "unit/system/test_validation_documents.py::test_a_config_yml_with_it_is_refused_with_its_problems",
                "unit/health/test_metrics_runs.py::test_what_cannot_be_read_is_nothing",
                "system/backup/test_backup.py::test_odd_files_come_back",
                "unit/store/test_archive_writer.py::test_a_path_that_is_too_long_to_be_unpacked_is_left_out",
            ),
        ),
        Case(
            "17",
            "account mattermost, writer of the bucket",
            "a link in the place of data, plugins or client-plugins, to /proc and elsewhere; a manifest of 180 "
            "MB",
            "refused by every command; the manifest is not read",
            (
                f"{_PATHS}::test_a_link_in_place_of_a_directory",
                f"{_BUCKET}::test_a_huge_manifest_is_not_read",
            ),
        ),
        Case(
            "18",
            "local user; account mattermost on GitLab 11",
            "all connections of a rehearsal's PostgreSQL are taken; the environment folder in the home is a "
            "link to /etc/cron.d",
            "no other account can reach that server; sso check and repair refuse the link",
            (
                f"{_REHEARSAL}::test_a_rehearsal_that_hangs_is_in_nobodys_way",
                _ENVIRONMENT,
            ),
        ),
        Case(
            "19",
            "account mattermost",
            "an input that made the program end with a traceback, so that no failure was told",
            "an error of the program itself is a failure as any other: one JSON object, metrics, "
            "notifications, and no text of the input",
            (
                "system/cli/test_caller.py::"
                "test_an_error_of_the_program_is_told_in_one_object_and_to_those_who_watch",
                "system/backup/test_settings_odd.py::test_a_config_json_that_only_go_reads",
            ),
        ),
        Case(
            "20",
            "owner of a database",
            "a pinned search_path, as the only cure against 01",
            "not relied on: who works in the database is what counts",
            (_TRAPS,),
        ),
    ),
)
