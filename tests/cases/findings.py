"""What operators see: findings of people who tried the program as new users, and what holds each.

`python -m tests.cases` makes docs/what-operators-see.md of it; tests/unit/package/test_cases.py holds both.
"""

from __future__ import annotations

from tests.cases import Finding, Topic

_STATUS, _LIGHTS = "system/health/test_status.py", "unit/health/test_status.py"
_REPORT, _PAGE = "unit/health/test_report.py", "system/health/test_report_page.py"
_MONITORING, _ALERTS = "system/health/test_monitoring.py", "unit/health/test_alerts.py"
_METRICS = "unit/health/test_metrics.py"
_FIRE = f"{_MONITORING}::test_the_alerts_fire_and_resolve"
_SETS, _MAIN, _LIST = "system/cli/test_sets.py", "unit/cli/test_main.py", "unit/cli/test_listing.py"
_LIFE, _CHECK = "system/upgrade/test_package_life.py", "system/sso/test_sign_in_check.py"
_PROMPT, _BACK = "system/restore/test_restore_prompt.py", "system/restore/test_configuration.py"
_OWN, _KIT = "unit/backup/test_configuration.py", "unit/offsite/test_recovery_kit.py"
_QUESTION = "unit/restore/test_preview_question.py"
_ROLE, _REPOSITORY = "system/package/test_ansible.py", "system/package/test_repository.py"
_RELEASES, _COMPLETION = "system/package/test_releases.py", "system/cli/test_completion.py"
_EMPTY = "system/offsite/test_offsite_restore.py"
_CONFIG, _SETTINGS = "unit/cli/test_config.py", "unit/config/test_settings.py"
_MANUAL = "unit/package/test_manual.py"
_FIRST_LINE = f"{_CHECK}::test_the_first_line_is_the_verdict_and_the_fix_works_as_printed"

_TRUE = Topic(
    "Status, doctor, report and metrics",
    (
        Finding(
            "status was good after a failed backup",
            "a warning until a backup succeeds, with the command that shows why",
            (
                f"{_STATUS}::test_a_backup_that_failed_is_not_good_before_one_succeeds",
                f"{_LIGHTS}::test_the_last_run",
            ),
        ),
        Finding(
            "status was good without a cron daemon",
            "a warning, with the command that starts it: cron's file alone makes no set",
            (
                f"{_LIFE}::test_without_cron_and_timer_nobody_makes_a_set",
                f"{_LIGHTS}::test_the_next_run",
            ),
        ),
        Finding(
            "status was good with a timer that is enabled but not started, or masked",
            "a warning with the command that helps, unless cron makes the set",
            (
                f"{_LIFE}::test_a_timer_that_is_enabled_but_not_started",
                f"{_LIFE}::test_a_timer_that_runs_and_one_whose_service_is_masked",
                f"{_LIFE}::test_a_timer_that_is_masked_and_no_line_for_cron",
            ),
        ),
        Finding(
            "status was good without any off-site copy",
            "a warning, unless accept_warnings accepts it",
            (
                f"{_STATUS}::test_no_copy_elsewhere_is_a_warning",
                f"{_LIGHTS}::test_no_copy_elsewhere_is_a_warning_unless_accepted",
            ),
        ),
        Finding(
            "status showed the age of a damaged newest set, and not the damage",
            "bad: it names the set and the damage",
            (
                f"{_STATUS}::test_a_damaged_newest_set_is_named",
                f"{_LIGHTS}::test_a_set_that_is_cut_short_is_damaged",
            ),
        ),
        Finding(
            "status was good on a host without GitLab",
            "bad, and nothing is said of a sign-in or a next run",
            (
                f"{_STATUS}::test_a_host_without_gitlab_is_bad",
                f"{_LIGHTS}::test_a_host_without_mattermost_is_bad",
            ),
        ),
        Finding(
            "a light that is not green named no way out",
            "each ends in the command that helps",
            (f"{_LIGHTS}::test_what_is_not_good_ends_in_a_command",),
        ),
        Finding(
            "the report was green though its newest proof was old",
            "amber",
            (
                f"{_REPORT}::test_a_proof_of_an_old_set_is_out_of_date",
                f"{_PAGE}::test_an_old_proof_is_amber",
            ),
        ),
        Finding(
            "the report did not name the last proven set",
            "it does, whatever the verdict",
            (f"{_REPORT}::test_the_last_proven_set_is_named_whatever_the_verdict",),
        ),
        Finding(
            "the report had nothing of copies, retention and encryption",
            "it has a section of them",
            (
                f"{_REPORT}::test_copies_retention_and_encryption_are_on_the_page",
                f"{_REPORT}::test_retention_in_words",
            ),
        ),
        Finding(
            "the report mixed verifications and rehearsals",
            "two tables",
            (f"{_REPORT}::test_verifications_are_apart_from_rehearsals",),
        ),
        Finding(
            "names of sets broke over lines, and the result was off a narrow screen",
            "names do not break; below 700 pixels each row is a card, its result first; nothing is wider than 375, "
            "800 and 1280 pixels",
            (
                f"{_PAGE}::test_names_of_sets_do_not_break",
                f"{_PAGE}::test_cards_below_700_pixels_have_their_result_first",
                f"{_PAGE}::test_nothing_is_wider_than_the_window",
            ),
        ),
        Finding(
            "list, status, Nagios and metrics counted different sets",
            "one rule",
            (
                f"{_STATUS}::test_list_status_nagios_and_metrics_count_the_same",
                f"{_METRICS}::test_list_status_nagios_and_metrics_count_the_same_sets",
            ),
        ),
    ),
)

_ALARM = Topic(
    "Alerts, Grafana and Nagios",
    (
        Finding(
            "no alert for a host without a good set while another host has one",
            "MattermostBackupMissing fires for each host by itself",
            (_FIRE, f"{_ALERTS}::test_a_rule_has_a_runbook_and_names_the_host"),
        ),
        Finding(
            "no alert for a rehearsal that never passed",
            "MattermostRehearsalNever",
            (_FIRE, f"{_METRICS}::test_the_newest_rehearsal_and_the_newest_that_passed"),
        ),
        Finding(
            "no alert for a copy that never was",
            "MattermostOffsiteStale and MattermostOffsiteMissing",
            (_FIRE, f"{_METRICS}::test_how_old_the_copies_outside_are"),
        ),
        Finding(
            "sign-in that was repaired stayed an alert until the next backup",
            "normal at once",
            (
                f"{_MONITORING}::test_sign_in_that_is_repaired_is_normal_at_once",
                f"{_METRICS}::test_sign_in_is_that_of_now",
            ),
        ),
        Finding(
            "a host that never ran a job had no metrics",
            "the installation writes them, and MattermostBackupMissing fires",
            (_FIRE, f"{_METRICS}::test_without_anything_the_version_is_told"),
        ),
        Finding(
            "dates in the future looked young",
            "such sets do not count; MattermostBackupFromTheFuture",
            (_FIRE, f"{_LIGHTS}::test_a_copy_with_a_date_in_the_future_is_a_warning"),
        ),
        Finding(
            "rules without a runbook line, or without a test",
            "every rule has both; promtool runs the tests",
            (
                f"{_ALERTS}::test_a_rule_has_a_runbook_and_names_the_host",
                f"{_ALERTS}::test_every_rule_is_tried_by_promtool_and_every_section_has_its_rule",
                _FIRE,
            ),
        ),
        Finding(
            "Grafana mixed hosts, without legends, a table of all hosts, or descriptions",
            "a variable for instances, the host in each legend, one table of all hosts, a description of each panel",
            (
                f"{_ALERTS}::test_each_panel_is_of_the_chosen_hosts_and_its_legend_names_them",
                f"{_ALERTS}::test_one_table_has_all_hosts",
                f"{_ALERTS}::test_the_dashboard_has_the_documented_structure",
                f"{_ALERTS}::test_rules_and_dashboard_use_metrics_that_are_written",
                f"{_MONITORING}::test_every_metric_in_use_is_written",
            ),
        ),
        Finding(
            "status --nagios did not use the exit codes of Nagios",
            "0, 1, 2 and 3 as Nagios defines them",
            (
                f"{_LIGHTS}::test_one_line_for_nagios",
                f"{_LIGHTS}::test_a_failure_is_unknown_to_nagios",
                f"{_STATUS}::test_wrong_settings_are_unknown_to_nagios",
            ),
        ),
        Finding(
            "the metric of the version did not end in _info",
            "gitlab_mm_tool_info",
            (f"{_METRICS}::test_without_anything_the_version_is_told",),
        ),
        Finding(
            "the JSON objects had no version",
            "schema: 1 in each",
            ("unit/cli/test_json_schemas.py::test_every_answer_has_the_version_of_its_schema",),
        ),
    ),
)

_TERMINAL = Topic(
    "Terminal",
    (
        Finding(
            "list did not fit 80 columns and had no headings",
            "a table with SET, AGE, SIZE, POSTS, FILES, VERIFIED, REHEARSED and COPIES; at 80 columns the name is on a "
            "separate line",
            (
                f"{_LIST}::test_a_set_is_one_line_where_there_is_room",
                f"{_LIST}::test_at_80_columns_the_name_has_a_line_of_its_own",
                f"{_MAIN}::test_the_list_of_sets",
            ),
        ),
        Finding(
            "few verbs had colour",
            "on a terminal the word of a result has its colour in every command; nothing in a pipe",
            (
                "unit/cli/test_terminal.py::test_the_word_of_a_result_has_its_colour_in_every_command",
                f"{_STATUS}::test_plain_in_a_pipe_and_in_colour_on_a_terminal",
                f"{_LIGHTS}::test_only_the_state_is_in_colour",
                f"{_LIST}::test_what_is_wrong_with_a_set_is_red",
                "unit/cli/test_terminal.py::test_no_colour_where_none_is_wanted",
            ),
        ),
        Finding(
            "backup did not say how large the set is, what was pruned, and what is next",
            "its last lines have the size, of the database and the files, each removed set, and the next run",
            (
                "unit/cli/test_result.py::test_a_backup_ends_with_sizes_and_what_was_pruned",
                "unit/cli/test_result.py::test_the_last_line_of_a_backup_is_about_the_next",
                "system/health/test_captures.py::test_a_terminal_shows_what_the_manual_shows",
            ),
        ),
        Finding(
            "restore asked without a word of what it replaces",
            "posts, last post, users and uploads of the live Mattermost and of the set side by side, about how long it "
            "will be down, and that a safety backup comes first",
            (
                f"{_PROMPT}::test_the_live_state_and_the_set_are_compared",
                f"{_PROMPT}::test_a_live_state_that_cannot_be_read_is_not_known",
                f"{_QUESTION}::test_it_fits_80_columns",
                f"{_QUESTION}::test_a_safety_backup_is_promised_where_one_is_made",
                f"{_QUESTION}::test_the_downtime_follows_from_what_is_loaded",
            ),
        ),
        Finding(
            "silence while indexes are built, and in long waits",
            "the number of indexes built, and the seconds of each wait of more than two",
            (
                "unit/postgresql/test_index_builds.py::test_the_one_that_is_being_built_is_not_done",
                "unit/system/test_progress.py::test_every_wait_is_shown",
                "unit/cli/test_terminal.py::test_waits_are_shown_by_their_names_and_seconds",
                "system/health/test_captures.py::test_the_bars_of_a_restore",
            ),
        ),
        Finding(
            "a dry run showed no plan for a copy elsewhere, and a refusal stood below it",
            "restore --dry-run --from shows the plan; a refusal is the first line",
            (
                f"{_EMPTY}::test_a_plan_for_a_copy_changes_nothing_here",
                f"{_EMPTY}::test_a_plan_for_a_set_of_a_repository",
                f"{_EMPTY}::test_what_is_refused_before_anything_is_fetched",
            ),
        ),
        Finding(
            "the manual did not show what it looks like",
            "docs/terminal.md and docs/terminal-wide.md, at 80 and at 120 columns",
            (
                "system/health/test_captures.py::test_a_terminal_shows_what_the_manual_shows",
                "system/health/test_captures.py::test_the_examples_fit",
            ),
        ),
        Finding(
            "Ctrl-C and no at the question did not say what had happened",
            "Cancelled; nothing changed, in Japanese too; or what has changed already",
            (
                "unit/cli/test_terminal.py::test_what_is_said_after_a_question_is_true",
                "unit/cli/test_consent.py::test_no_to_any_question_changes_nothing",
                f"{_PROMPT}::test_no_in_japanese_changes_nothing",
                f"{_PROMPT}::test_another_locale_is_asked_in_english",
                "system/restore/test_restore_options.py::test_somebody_says_no",
            ),
        ),
    ),
)

_NIGHT = Topic(
    "After a disaster",
    (
        Finding(
            "gitlab-mm-restore on a new server suggested to back up the empty one",
            "it lists the ways: --from gitlab, a remote, restic, a path",
            (f"{_SETS}::test_an_empty_host_is_told_the_ways_and_a_wrong_place_what_is_there",),
        ),
        Finding(
            "a damaged newest set was a dead end",
            "the message has the commands for its copy and for the newest sound set",
            (f"{_SETS}::test_a_damaged_set_is_answered_with_what_is_next_best",),
        ),
        Finding(
            "/path/of/sets, a parent directory or a wrong remote were only refused",
            "the message says what was found there, and the path to give",
            (
                f"{_SETS}::test_an_empty_host_is_told_the_ways_and_a_wrong_place_what_is_there",
                "unit/store/test_sets.py::test_what_is_no_set_says_what_it_has",
            ),
        ),
        Finding(
            "the package itself was nowhere to be had",
            "recovery-kit puts the .deb with its SHA-256 next to the sets and the copies, and prints the sum",
            (
                f"{_EMPTY}::test_the_commands_of_the_kit_bring_everything_back",
                f"{_KIT}::test_the_package_is_put_beside_sets_and_copies",
                f"{_KIT}::test_another_package_is_refused",
            ),
        ),
        Finding(
            "the recovery kit named neither editions nor the version of this program",
            "it names both, of GitLab and Mattermost, and installs that edition",
            (f"{_KIT}::test_editions_are_named_and_installed",),
        ),
        Finding(
            "commands of the recovery kit were not complete",
            "each is run as it is printed, from the package to the sign-in; GitLab's own two steps excepted",
            (
                f"{_EMPTY}::test_the_commands_of_the_kit_bring_everything_back",
                f"{_KIT}::test_places_keys_versions_and_commands_are_told",
            ),
        ),
        Finding(
            "config.yml and config.d were in no set",
            "they are, and come back to a host that has no settings; what a host has is never replaced",
            (
                f"{_BACK}::test_a_new_host_has_it_again",
                f"{_BACK}::test_what_a_host_has_stays_and_the_set_s_can_be_read",
                f"{_BACK}::test_a_set_without_proof_brings_none",
                f"{_OWN}::test_files_that_the_settings_do_not_name_are_not_written",
            ),
        ),
        Finding(
            "rclone.conf and other files with secrets were in no set",
            "they are with store: restic, or with secrets_in_sets; otherwise a line of the run names them",
            (
                f"{_BACK}::test_secrets_are_in_a_set_only_with_consent",
                f"{_OWN}::test_settings_are_in_a_set_and_secrets_only_with_consent",
                f"{_OWN}::test_a_secret_that_a_later_file_replaces_is_one_all_the_same",
                f"{_OWN}::test_a_restic_repository_is_encrypted",
            ),
        ),
    ),
)

_SIGN_IN = Topic(
    "GitLab sign-in",
    (
        Finding(
            "sso check began with findings",
            'first "sign-in works" or "sign-in is BROKEN", then why, then the fix',
            (_FIRST_LINE,),
        ),
        Finding(
            "a broken redirect URI was described",
            "the lines to paste are printed",
            (_FIRST_LINE, f"{_CHECK}::test_a_site_url_of_https_with_addresses_of_http"),
        ),
        Finding(
            "a database that is down looked like a broken sign-in",
            "unknown, exit code 1",
            (f"{_CHECK}::test_a_database_that_is_down_is_unknown",),
        ),
    ),
)

_FLEETS = Topic(
    "Settings and packages for fleets",
    (
        Finding(
            "one file for all settings",
            "config.d/*.yml is read after config.yml, in the order of names",
            (f"{_SETTINGS}::test_files_in_config_d_are_read_after_it_in_the_order_of_their_names",),
        ),
        Finding(
            "config check put all problems into one line",
            'one problem a line, with "did you mean"; --json has objects of file, line, key and message',
            (
                f"{_CONFIG}::test_each_problem_is_a_line_and_an_object",
                f"{_SETTINGS}::test_all_problems_are_told_at_once_with_their_lines",
                f"{_SETTINGS}::test_an_unknown_option_like_none_is_answered_with_all",
            ),
        ),
        Finding(
            "secrets in files that every user can read",
            "config check and doctor warn, also where a later file replaces the value",
            (f"{_CONFIG}::test_secrets_that_every_user_can_read_are_told",),
        ),
        Finding(
            "dpkg asked about config.yml on upgrades",
            "a file of four lines, written once; all options are an example",
            (
                f"{_LIFE}::test_a_file_that_was_a_conffile_is_left_alone",
                f"{_LIFE}::test_what_is_removed_and_installed_again_is_as_before",
            ),
        ),
        Finding(
            "nothing to roll it out with",
            "an Ansible role among the examples, whose second run changes nothing",
            (
                f"{_ROLE}::test_the_first_run_changes_and_the_second_nothing",
                f"{_ROLE}::test_wrong_settings_stop_it_before_anything_is_written",
                f"{_ROLE}::test_check_mode_before_the_first_run_changes_nothing",
            ),
        ),
        Finding(
            "no apt repository",
            "make repo builds a signed one for both releases; README has its three lines",
            (
                f"{_REPOSITORY}::test_the_three_lines_of_the_readme_install_it_and_apt_upgrades_it",
                f"{_REPOSITORY}::test_the_apt_of_trixie_takes_it_without_a_word",
                f"{_REPOSITORY}::test_apt_refuses_what_has_a_changed_byte",
                f"{_REPOSITORY}::test_apt_refuses_another_key",
            ),
        ),
        Finding(
            "a package of more than 300 kB",
            "not met: 482 kB, most of it readable modules; docs/packaging.md says why",
            (f"{_RELEASES}::test_trixie_builds_it_the_same_twice_and_lintian_is_silent",),
        ),
    ),
)

_TYPED = Topic(
    "Command line as people type it",
    (
        Finding(
            "a typing error got no suggestion",
            "did you mean, for commands, options and keys of the settings",
            (
                f"{_MAIN}::test_a_misspelt_command_is_answered_with_what_may_have_been_meant",
                f"{_SETTINGS}::test_all_problems_are_told_at_once_with_their_lines",
            ),
        ),
        Finding(
            "completion offered the files of the root directory, and no remotes, settings or latest",
            "sets, latest, remotes after --from, and settings after config explain; files once a path is begun",
            (
                f"{_COMPLETION}::test_a_set_may_be_the_latest_or_a_path_that_is_begun",
                f"{_COMPLETION}::test_remotes_of_the_settings",
                f"{_COMPLETION}::test_options_of_the_settings",
            ),
        ),
        Finding(
            "help, version and -V were unknown",
            "they work",
            (f"{_MAIN}::test_help_and_version_are_words_too",),
        ),
        Finding(
            "common options had to come after the verb, and had no short names",
            "they may come before it; -n, -y, -c and -q",
            (
                f"{_MAIN}::test_common_options_may_come_before_the_command",
                f"{_MAIN}::test_a_set_that_is_pinned_is_not_deleted",
            ),
        ),
        Finding(
            "a second run was refused at once",
            "--wait waits for the first",
            (f"{_SETS}::test_a_run_waits_for_another_where_it_is_told_to",),
        ),
        Finding(
            "no command for a single set",
            "info, delete, pin, unpin, and backup --note",
            (
                f"{_MAIN}::test_what_is_known_of_a_set",
                f"{_SETS}::test_a_set_is_removed_and_its_copy_stays",
                f"{_SETS}::test_a_pinned_set_and_its_copy_outlive_the_rules",
                f"{_MAIN}::test_a_set_that_is_pinned_is_not_deleted",
            ),
        ),
        Finding(
            "manual pages without examples, in section 1, in no order",
            "section 8, EXAMPLES in each, the verbs in the order of use",
            (
                f"{_MANUAL}::test_every_verb_has_a_page",
                f"{_MANUAL}::test_every_page_has_examples",
                f"{_MANUAL}::test_every_example_is_understood",
                f"{_MANUAL}::test_the_commands_are_in_the_order_of_use",
            ),
        ),
    ),
)

_PLAIN = Topic(
    "Logs, errors and other accounts",
    (
        Finding(
            "logs and errors had Python's own texts",
            "the words of the system, and a place in the log for the rest",
            (
                "unit/test_errors.py::test_why_it_failed",
                "unit/system/test_log_bug.py::test_what_the_kernel_refuses_is_told_in_its_own_words_alone",
                "unit/system/test_log_bug.py::test_the_traceback_has_all_causes_and_no_text_of_theirs",
            ),
        ),
        Finding(
            "the message about a lock named only a process",
            "verb, start and process",
            (
                "unit/system/test_lock.py::test_the_refusal_names_command_start_and_process",
                "system/backup/test_backup.py::test_a_second_run_is_refused_while_one_works",
            ),
        ),
        Finding(
            "status was for root alone",
            "other accounts get it from a summary without details and secrets",
            (
                f"{_STATUS}::test_other_accounts_see_what_root_saw",
                "unit/health/test_summary.py::test_it_is_for_everybody_and_has_no_details",
                f"{_MAIN}::test_everybody_may_ask_for_the_status",
            ),
        ),
    ),
)

TOPICS = (_TRUE, _ALARM, _TERMINAL, _NIGHT, _SIGN_IN, _FLEETS, _TYPED, _PLAIN)
