"""Retention, copies elsewhere, schedule and package: what happens around a backup on real hosts."""

from __future__ import annotations

from tests.cases import Case, Group

_RIGHT_SET = "system/offsite/test_right_set.py"
_HOSTS = "system/offsite/test_two_hosts.py"
_FAULTS = "system/offsite/test_offsite_faults.py"
_CALLER = "system/cli/test_caller.py"
_LIFE = "system/upgrade/test_package_life.py"
_DISKS = "system/backup/test_disks.py"
_VARIABLES = f"{_CALLER}::test_a_variable_of_the_shell_changes_nothing"
_WHOEVER = f"{_CALLER}::test_a_set_and_its_restore_whoever_calls"
_WHERE = f"{_CALLER}::test_where_a_backup_is_called"
_CONTAINER = f"{_FAULTS}::test_restic_in_a_container_with_a_password_of_two_lines"

OPERATIONS = Group(
    "Retention, copies, schedule and package",
    "What happens around a backup on real hosts.",
    "reported to",
    (
        Case(
            "02",
            "vorta#585",
            "DNS does not tell the host's full name for one night; store: restic",
            "one history: the host is known by an id of its own, so its sets are listed, pruned and restored "
            "as before",
            (f"{_HOSTS}::test_a_full_name_that_dns_does_not_tell_one_night",),
        ),
        Case(
            "03",
            "rsnapshot#351",
            "a host is reinstalled after nine days, keep_time 7d, and three nights come before the restore",
            "the empty nights are marked and displace nothing; gitlab-mm restore without any option takes the "
            "last good set of before",
            (f"{_RIGHT_SET}::test_dies_reinstalled_three_nights_then_restored_without_any_option",),
        ),
        Case(
            "04",
            "healthchecks documentation, uptime-kuma#279",
            "the address of a dead man's switch has a query",
            "a failure is sent as one: /fail before the query, or status=down where the query has status=up",
            (
                f"{_CALLER}::"
                "test_an_error_of_the_program_is_told_in_one_object_and_to_those_who_watch",
                "unit/config/test_notification_channels.py::test_where_a_ping_goes",
            ),
        ),
        Case(
            "05",
            "NethServer/dev#5720",
            "the disk of the copies, or of the sets, is not mounted",
            "nothing is written to the disk below; the run says what to mount (exit code 4 for the copies, 1 "
            "for the sets)",
            (
                f"{_DISKS}::test_the_disk_of_the_copies_is_not_mounted",
                f"{_DISKS}::test_the_disk_of_the_sets_is_not_mounted",
                f"{_DISKS}::test_a_disk_that_fstab_names_is_wanted_before_it_was_ever_used",
            ),
        ),
        Case(
            "06",
            "-",
            "GitLab uploads its own backups, and our sets lie in restic",
            "no copy is made there, and none is missed by status and metrics",
            (_CONTAINER,),
        ),
        Case(
            "07",
            "mailinabox#1810",
            "restic's password file has two lines, or blanks at its end",
            "the password is what restic itself makes of it",
            (
                _CONTAINER,
                "unit/store/test_restic.py::test_restic_gets_a_password_as_it_would_take_it_itself",
            ),
        ),
        Case(
            "08",
            "-",
            "a container with Docker's default capabilities, store: restic",
            "a set is made",
            (_CONTAINER,),
        ),
        Case(
            "09",
            "borg-cron-helper#52",
            "the timer is enabled but not started; its service is masked; cron does not run; cron's file can "
            "be written by others",
            "cron goes on where it can; status says that nothing makes the next set, and the command that "
            "helps",
            (
                f"{_LIFE}::test_a_timer_that_is_enabled_but_not_started",
                f"{_LIFE}::test_a_timer_that_runs_and_one_whose_service_is_masked",
                f"{_LIFE}::test_without_cron_and_timer_nobody_makes_a_set",
            ),
        ),
        Case(
            "10",
            "raspiBackup#86",
            "the directory of the sets is a link to a larger disk",
            "followed where root alone can change it. In GitLab's own backup directory others can: refused, "
            "with a setting and commands that work as they are pasted",
            (
                f"{_DISKS}::test_a_link_that_root_alone_can_change",
                f"{_DISKS}::test_a_link_in_gitlabs_own_folder_and_its_hints",
            ),
        ),
        Case(
            "11",
            "rear#3359",
            "NFS with root_squash; a disk without owners and modes (vfat)",
            "anybody on the server could read or change the sets. The hint names no_root_squash, a "
            "mount with umask=0077, or an off-site copy to that disk, which works",
            (
                f"{_DISKS}::test_a_folder_where_root_is_nobody",
                "unit/config/test_places_ground.py::test_a_folder_of_roots_alone_that_comes_out_open_is_refused",
            ),
            refused=True,
        ),
        Case(
            "12",
            "cpython#77139",
            "host names of 64 letters, with an empty label, a dot at the end, capitals or UTF-8",
            "backup, list and status work",
            (f"{_CALLER}::test_every_host_name_that_linux_takes",),
        ),
        Case(
            "13",
            "barman#147",
            "a hook leaves a program behind, or uses $HOME",
            "the run ends and holds no lock; HOME is /root",
            (f"{_CALLER}::test_a_program_that_a_hook_left_holds_no_lock",),
        ),
        Case(
            "14",
            "node_exporter#713",
            "the package is purged",
            "its metrics and alert rules go with it; sets stay, and so does what an unfinished restore needs",
            (f"{_LIFE}::test_purge_keeps_the_state_of_an_unfinished_restore",),
        ),
        Case(
            "15, 15b",
            "unattended-upgrades PR 371",
            "the package is upgraded while a backup, restore or rehearsal runs; the new version has other "
            "modules",
            "the job ends as it would have, with its set, notification and metrics; a job that ends soon is "
            "waited for",
            (
                f"{_LIFE}::test_a_job_outlives_the_upgrade_of_its_package",
                f"{_LIFE}::test_an_upgrade_waits_for_a_job_that_ends_soon",
            ),
        ),
        Case(
            "16",
            "duplicati#2069",
            "summer time begins and ends",
            "one set each night; status shows the next run as the clock will",
            (
                "unit/backup/test_schedule.py::test_summer_time_makes_no_run_more_and_none_less",
                "unit/backup/test_schedule.py::test_the_next_time_is_the_clock_s",
            ),
        ),
        Case(
            "17, 17b",
            "rclone#1563, rclone#3236",
            "RCLONE_CONFIG, ~/.rclone.conf, an encrypted rclone.conf",
            "used as rclone does; an encrypted file without its password is named as that, with the two "
            "variables that open it",
            (
                f"{_FAULTS}::test_an_rclone_conf_that_is_elsewhere",
                f"{_FAULTS}::test_an_encrypted_rclone_conf",
            ),
        ),
        Case(
            "18",
            "-",
            "the certificate of the storage is not trusted",
            "the run says so, for rclone and for restic",
            (f"{_FAULTS}::test_a_certificate_that_nobody_trusts",),
            refused=True,
        ),
        Case(
            "19",
            "-",
            "copies encrypted to SSH keys, one with a passphrase, one with CR LF",
            "opened with the private key; one with a passphrase, and a public key, are refused by name",
            (
                "system/offsite/test_offsite.py::test_a_copy_is_verified_with_an_ssh_key",
                "system/offsite/test_offsite.py::test_a_copy_that_stays_closed",
            ),
        ),
        Case(
            "20",
            "-",
            "/tmp and /var/tmp are full; /tmp is noexec; TMPDIR names a directory that is gone",
            "backup, rehearsal and restore work: nothing is kept there",
            (_WHERE,),
        ),
        Case(
            "21",
            "-",
            "the clock of a host stands in 1970 for a night",
            "the set is made and outlives its own run; later runs go on from the sets with the right date",
            (f"{_RIGHT_SET}::TestClocks::test_the_set_just_made_outlives_its_own_run",),
        ),
        Case(
            "22",
            "-",
            "called with no environment, 64 descriptors, umask 000, from a directory that is gone, with "
            "hidepid=2; or with a limit on the size of files",
            "works, and what is made is private. A limit on the size of files ends it with that reason",
            (_WHOEVER, _WHERE, f"{_CALLER}::test_files_that_may_not_grow"),
        ),
        Case(
            "23",
            "-",
            "notifications by mail or Apprise on a host that has neither program",
            "the set is made; the log and gitlab-mm notify --test say what cannot be started",
            (f"{_CALLER}::test_a_host_that_cannot_send_mail",),
        ),
        Case(
            "24",
            "-",
            "a lock file of a run that was killed, with the number of another process; a link in its place; a "
            "run that hangs",
            "what counts is who holds the lock: a file that was left hinders nothing, a link is refused, and "
            "beside a run the next one ends with exit code 3 and the number of that process",
            (
                f"{_CALLER}::test_a_lock_file_that_was_left",
                "system/backup/test_backup.py::test_a_second_run_is_refused_while_one_works",
                "system/backup/test_backup.py::test_a_killed_run_leaves_no_set_and_the_next_cleans_up",
            ),
        ),
        Case(
            "26",
            "rclone#4300",
            "kill -9 while a part is uploaded to S3 in pieces",
            "the next run removes the pieces, which the storage bills and hides",
            (f"{_FAULTS}::test_an_upload_that_was_cut_short_leaves_no_pieces",),
        ),
        Case(
            "27",
            "-",
            "1,760 files of 220 copies of another host at the same place",
            "listed, and left alone; nothing is sent twice",
            ("system/boundary/test_boundary_bucket.py::test_very_many_copies_of_another_host",),
        ),
        Case(
            "28",
            "-",
            "a set of a newer version of this package, after a downgrade",
            "told as such, with the version to install; never pruned. A newer version raises the format's "
            "number: a key that a format does not have is a changed manifest, and refused",
            (
                "unit/store/test_manifest.py::test_a_newer_format_is_told_apart_from_damage",
                "unit/store/test_manifest.py::test_an_unknown_value_is_refused",
                "unit/store/test_local.py::test_a_half_set_is_listed_with_its_problem_and_never_taken",
            ),
        ),
        Case(
            "29",
            "-",
            "RESTIC_REPOSITORY_FILE and other variables of restic exported in root's shell",
            "config.yml comes first; where it names no repository they count, as for restic itself",
            (
                f"{_FAULTS}::test_a_repository_as_the_administrator_s_shell_names_it",
                "unit/store/test_restic.py::"
                "test_a_repository_file_of_the_caller_s_counts_where_no_repository_is_named",
            ),
        ),
        Case(
            "31",
            "-",
            "the account git, which owns GitLab's backup directory, puts a link or a directory of its own in "
            "the place of the sets",
            "every command refuses it, and nothing is written there",
            (
                "system/boundary/test_boundary_paths.py::test_another_directory_in_place_of_the_sets",
                "system/boundary/test_boundary_paths.py::"
                "test_another_directory_in_place_of_the_sets_meanwhile",
            ),
            refused=True,
        ),
        Case(
            "35",
            "restic PR 503",
            "two servers copy to one remote, and one restores the newest copy with --yes",
            "it restores its own newest copy; where it cannot tell which that is, it asks for --installation",
            (
                f"{_HOSTS}::test_the_newest_copy_at_a_shared_remote_may_be_anothers",
                f"{_HOSTS}::test_where_nobody_else_can_tell_the_operator_picks",
            ),
        ),
        Case(
            "36",
            "homebutler#115",
            "two hosts begin their sets in the same second and copy to one remote",
            "both copies are there: a name has the host's id, and no manifest is overwritten by another's",
            (
                f"{_HOSTS}::test_copies_of_two_hosts_that_began_in_one_second",
                f"{_HOSTS}::test_nothing_overwrites_the_manifest_of_another",
            ),
        ),
        Case(
            "37",
            "rclone#4258",
            "a remote that reads a whole copy to hash it, for longer than 300 seconds",
            "the time it may take grows with the size of the copy",
            (
                "unit/offsite/test_sync.py::test_a_remote_that_reads_all_to_hash_it_has_the_time_for_that",
            ),
        ),
        Case(
            "39",
            "-",
            "week 53, the end of a year, other time zones; three sets that begin in one second",
            "weeks, months and days are those of the host's clock; each set has a name of its own",
            (
                "unit/config/test_retention.py::test_the_end_of_a_year_with_53_weeks",
                "unit/config/test_retention.py::test_days_are_those_of_the_hosts_clock",
                f"{_CALLER}::test_sets_that_begin_in_one_second",
            ),
        ),
        Case(
            "40",
            "crudini PR 84",
            "stdout, stderr or stdin are closed, or lead to /dev/full",
            "the set is made; output that could not be written is a warning (exit code 4), and a list that "
            "could not be written is a failure",
            (
                f"{_CALLER}::test_a_backup_is_made_wherever_its_output_goes",
                f"{_CALLER}::test_an_answer_that_could_not_be_written_is_none",
            ),
        ),
        Case(
            "41",
            "restic#1450",
            "a repository that hosts share: another one backs up meanwhile, or has made half a set",
            "a set is made; halves of another host's run are left to it",
            (
                f"{_HOSTS}::test_a_repository_that_two_hosts_share",
                f"{_HOSTS}::test_halves_of_another_hosts_run_are_left_to_it",
            ),
        ),
        Case(
            "42",
            "-",
            "the package is removed and installed again; upgraded unattended with a changed config.yml; only "
            "unpacked",
            "sets, schedule and settings are as before; a package that is only unpacked makes a set",
            (
                f"{_LIFE}::test_what_is_removed_and_installed_again_is_as_before",
                f"{_LIFE}::test_a_package_that_is_only_unpacked_works",
            ),
        ),
        Case(
            "43",
            "-",
            "GITLAB_MM_PHASE, proxies, PYTHONPATH, TAR_OPTIONS and others in the environment",
            "ignored; a proxy counts for copies alone",
            (_VARIABLES, _WHOEVER),
        ),
        Case(
            "44",
            "-",
            "twelve variables of libpq, one at a time",
            "ignored",
            (_VARIABLES, _WHOEVER),
        ),
        Case(
            "45",
            "itzg/docker-mc-backup#247",
            "a staging copy of the host, with the same name, copies to the same remote and keeps one copy",
            "it is another host: it prunes and adopts nothing of the original",
            (
                f"{_HOSTS}::test_a_copy_of_a_host_prunes_and_adopts_nothing_of_it",
                f"{_RIGHT_SET}::TestElsewhere::test_a_copy_of_a_host_and_its_repository",
            ),
        ),
        Case(
            "46",
            "rsnapshot#115",
            "two hosts have one backup_path, and one keeps its last set alone",
            "each lists both, and prunes and restores its own",
            (f"{_HOSTS}::test_a_folder_of_sets_that_two_hosts_share",),
        ),
        Case(
            "47",
            "rclone#538",
            "a host that reaches others by an HTTP proxy alone",
            "copies go through it, with the variables that rclone knows",
            (f"{_FAULTS}::test_a_host_that_reaches_others_by_a_proxy_alone",),
        ),
        Case(
            "48",
            "-",
            "a container without CAP_SYS_ADMIN",
            "sets are made; the rehearsal of the night cannot be, and says how to allow it or to have it "
            "quiet (rehearse: off)",
            (_CONTAINER,),
            refused=True,
        ),
        Case(
            "49",
            "duplicati#1943",
            "six good nights, then one with the clock two months ahead, keep_time 7d",
            "nothing is removed, here or elsewhere: so many at once are asked about (prune --yes)",
            (
                f"{_RIGHT_SET}::TestClocks::test_a_clock_that_jumps_removes_nothing_unasked",
                f"{_RIGHT_SET}::TestElsewhere::test_a_repository_and_a_clock_that_jumps",
            ),
        ),
    ),
)
