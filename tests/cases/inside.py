"""Odd input for the verbs that look into sets: ls, find, extract, open, recover and diff."""

from __future__ import annotations

from tests.cases import Case, Group

_CONTENTS, _RECOVER = "system/cli/test_contents.py", "system/cli/test_recover.py"
_CUT, _OPEN = "system/cli/test_recover_interrupted.py", "system/rehearsal/test_open.py"
_PAGE, _CONVERSATION = "system/cli/test_conversation_page.py", "unit/rehearsal/test_conversation.py"

INSIDE = Group(
    "Looking into a set",
    "What `ls`, `find`, `extract`, `open`, `recover` and `diff` do with what is odd in a set, in the live "
    "Mattermost or on the host.",
    "verbs",
    (
        Case(
            "01",
            "ls, find, extract, recover",
            "a name of a channel that two teams have",
            "both are named with their ids, and one of these is accepted",
            (f"{_CONTENTS}::test_a_name_that_two_teams_have_is_refused_with_both",),
            refused=True,
        ),
        Case(
            "02",
            "ls, find, extract, recover, diff",
            "a user who was renamed since",
            "names are those of the set; recover activates the account and leaves its new name; diff has it "
            "by its id",
            (f"{_CONTENTS}::test_names_that_changed_since_are_those_of_the_set",),
        ),
        Case(
            "03",
            "extract, recover, diff",
            "a channel, team or user that was deleted, and another one with its name",
            "diff has both; recover changes nothing and names the other one; a channel comes back with --as",
            (
                f"{_CONTENTS}::test_names_that_changed_since_are_those_of_the_set",
                f"{_RECOVER}::test_a_taken_name_is_refused_and_another_one_given",
                f"{_RECOVER}::test_a_user_whose_name_is_taken_is_refused",
                f"{_RECOVER}::test_a_team_whose_name_is_taken_is_refused",
            ),
        ),
        Case(
            "04",
            "find, extract, recover",
            "a message whose root is gone, or is itself a reply, or replies in a circle",
            "it is found; a page has it where it was written, marked; recover brings it back as it was",
            (
                f"{_CONVERSATION}::test_replies_stand_below_their_root_whatever_came_between",
                f"{_CONVERSATION}::test_no_message_is_lost_where_rows_are_odd",
                f"{_CONTENTS}::test_a_channel_comes_back_from_wherever_the_set_is",
            ),
        ),
        Case(
            "05",
            "extract, recover",
            "an upload whose file the set lacks",
            "a warning with its name (exit code 4), and the others are written",
            (
                f"{_CONTENTS}::test_a_file_that_the_set_lacks_is_told_and_the_rest_comes",
                f"{_CONTENTS}::test_the_messages_of_each_channel_become_a_page",
                f"{_RECOVER}::test_a_file_that_the_set_lacks_is_told_and_the_rest_comes",
            ),
        ),
        Case(
            "06",
            "all",
            "a set without uploads, or with uploads in object storage",
            "works; for object storage, recover brings the rows back with a warning that names the bucket",
            (
                f"{_RECOVER}::test_a_set_without_uploads_is_read_opened_and_recovered_from",
                f"{_CUT}::test_uploads_in_object_storage_are_named_and_the_rows_come",
            ),
        ),
        Case(
            "07",
            "all",
            "a set that builds on another one, here, on an rclone remote and in a restic repository",
            "works as with any other set",
            (
                f"{_CONTENTS}::test_all_uploads_of_a_set_that_builds_on_another_come_back",
                f"{_CONTENTS}::test_copies_and_repositories_give_the_same",
                f"{_CONTENTS}::test_a_set_opens_from_wherever_it_is",
                f"{_CONTENTS}::test_a_channel_comes_back_from_wherever_the_set_is",
                f"{_CONTENTS}::test_the_sets_of_a_repository_are_searched_and_compared",
            ),
        ),
        Case(
            "08",
            "all",
            "a set of another major version of Mattermost",
            "recover and open refuse it and point to extract; the others work",
            (
                f"{_RECOVER}::test_another_major_version_is_refused_and_points_to_extract",
                f"{_OPEN}::test_what_cannot_be_opened",
            ),
        ),
        Case(
            "09",
            "all",
            "a host without Mattermost, GitLab and PostgreSQL",
            "ls, find, info, extract and diff of two sets work; open, recover and diff with the live "
            "Mattermost say what is missing",
            (
                f"{_CONTENTS}::test_no_server_and_no_mattermost_are_needed",
                f"{_CONTENTS}::test_on_a_host_without_mattermost_what_needs_one_says_so",
            ),
        ),
        Case(
            "10",
            "extract, open, recover, diff",
            "not enough disk space, in any directory that is written",
            "told before anything is written where the size is known; a disk that is full later leaves all as "
            "before",
            (
                f"{_CONTENTS}::test_a_disk_that_is_too_small_is_told",
                f"{_OPEN}::test_no_room_on_the_disk",
                f"{_CUT}::test_a_disk_that_is_full_while_files_are_written",
                f"{_CUT}::test_a_disk_that_is_full_while_the_undo_file_is_written",
                f"{_CUT}::test_a_scratch_directory_that_is_full_is_told",
            ),
            refused=True,
        ),
        Case(
            "11",
            "all",
            "control characters, HTML and paths with .. in names, messages and rows",
            "escaped on a terminal and on a page, where nothing runs and nothing is loaded; no file is written "
            "elsewhere",
            (
                f"{_CONTENTS}::test_hostile_names_lead_nowhere",
                f"{_CONTENTS}::test_diff_to_the_live_mattermost_counts_what_sql_changed",
                f"{_RECOVER}::test_a_hostile_set_reaches_neither_the_terminal_nor_other_places",
                f"{_PAGE}::test_nothing_runs_nothing_is_asked_for_and_nothing_is_too_wide",
                f"{_OPEN}::test_what_cannot_be_opened",
                f"{_OPEN}::test_whoever_cannot_sign_in",
            ),
        ),
        Case(
            "12",
            "recover",
            "kill -9, a signal, or a server that dies, at any moment",
            "as before, or completed: the next recover says which, and names the undo file",
            (
                f"{_CUT}::test_a_killed_recovery_is_completed_by_the_next",
                f"{_CUT}::test_a_killed_recovery_is_taken_back_by_its_undo_file",
                f"{_CUT}::test_a_server_that_dies_in_the_commit_is_told_and_nothing_is_lost",
            ),
        ),
    ),
)
