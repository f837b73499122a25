"""Our settings over GitLab's own."""

from __future__ import annotations

import dataclasses
import os
import re
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gitlab_mm_backup.cli.output import Context
from gitlab_mm_backup.config import settings
from gitlab_mm_backup.config.config_file import BadSettings
from gitlab_mm_backup.config.gitlab_yml import Upload
from gitlab_mm_backup.config.option_text import sample
from gitlab_mm_backup.config.options import leaves
from gitlab_mm_backup.config.schema import OPTIONS
from gitlab_mm_backup.config.settings import Remote, Rules, Settings
from gitlab_mm_backup.errors import ExitCode, Failure
from tests.unit.helpers.builders import ROOT

DEFAULTS = Settings(Path("/var/opt/gitlab/backups/mattermost"), None, 3, 1, 4)

# As Omnibus renders it, shortened.
GITLAB_YML = """
production: &base
  gitlab:
    host: git.example.org
  backup:
    path: "/mnt/backups"
    gitaly_backup_path: /opt/gitlab/embedded/bin/gitaly-backup
    archive_permissions: # Permissions for the resulting backup.tar file (default: 0600)
    keep_time: 604800
    pg_schema:
    upload:
      connection: {"provider":"AWS"}
development:
  <<: *base
"""


class Files:
    """A config.yml and a gitlab.yml."""

    def __init__(self, folder: Path) -> None:
        self.config, self.gitlab = folder / "config.yml", folder / "gitlab.yml"

    def load(self, config: str | bytes | None = None, gitlab: str | None = None) -> Settings:
        for path, text in ((self.config, config), (self.gitlab, gitlab)):
            if text is not None:
                path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return settings.load(self.config, self.gitlab)

    def problems(self, config: str | bytes) -> Failure:
        """What every command says; gitlab-mm config check, which only looks, says the same."""
        with pytest.raises(Failure) as caught:
            self.load(config)
        with pytest.raises(Failure) as checked:
            settings.look(self.config, self.gitlab)
        assert checked.value.detail == caught.value.detail
        assert caught.value.exit_code is ExitCode.USAGE
        assert str(self.config) in caught.value.message
        return caught.value


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


# defaults


def test_without_any_file_the_defaults_hold(files: Files) -> None:
    assert files.load() == DEFAULTS


def test_a_file_that_was_named_must_be_there(files: Files) -> None:
    with pytest.raises(Failure) as caught:
        settings.load(files.config, files.gitlab, required=True)
    assert caught.value.exit_code is ExitCode.USAGE
    files.config.touch()
    assert settings.load(files.config, files.gitlab, required=True) == DEFAULTS


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}\n"])
def test_a_file_without_options_changes_nothing(text: str, files: Files) -> None:
    assert files.load(text) == DEFAULTS


@pytest.mark.parametrize("text", [sample(OPTIONS), (ROOT / "debian/config.yml").read_text()])
def test_the_shipped_files_change_nothing(text: str, files: Files) -> None:
    assert all(line.startswith("#") or not line for line in text.splitlines())
    assert max(map(len, text.splitlines())) <= 100
    assert files.load(text) == DEFAULTS


def test_every_option_stands_in_the_example_at_its_default(files: Files) -> None:
    """And Settings, made without a file, has the same defaults as the table."""
    live = sample(OPTIONS, live=True)
    lines = [line for line in live.splitlines() if line and not line.lstrip().startswith("#")]
    assert [line[1:] for line in sample(OPTIONS).splitlines() if line[1:] in lines] == lines
    assert files.load(live) == DEFAULTS
    found = settings.look(files.config, files.gitlab)
    given = {setting.name for setting in found if setting.origin == "config.yml"}
    empty = {name for name, option in leaves(OPTIONS) if option.kind and option.default is None}
    assert given == {name for name, _ in leaves(OPTIONS)} - empty


# GitLab's values


def test_gitlab_s_own_values_count(files: Files) -> None:
    found = files.load(gitlab=GITLAB_YML)
    upload = Upload({"provider": "AWS"}, "", {"connection": {"provider": "AWS"}})
    assert found == Settings(Path("/mnt/backups/mattermost"), timedelta(days=7), upload=upload)


def test_ours_win_over_gitlab_s(files: Files) -> None:
    found = files.load("backup_path: /srv/b\nkeep_time: 0\n", GITLAB_YML)
    assert dataclasses.replace(found, upload=None) == Settings(Path("/srv/b/mattermost"), None)


@pytest.mark.parametrize("keep", ["", "0", "~", '""'])
def test_gitlab_keeps_for_ever_unless_it_says_otherwise(keep: str, files: Files) -> None:
    text = GITLAB_YML.replace("keep_time: 604800", f"keep_time: {keep}")
    assert files.load(gitlab=text).keep_time is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "production:\n",
        "production: {}\n",
        "production: []\n",
        "production: {backup: }\n",
        "production: {backup: text}\n",
        "production: {backup: {path: , keep_time: }}\n",
        "development: {backup: {path: /x}}\n",
        "- a\n- b\n",
        "just text\n",
    ],
)
def test_what_gitlab_does_not_say_is_at_omnibus_s_default(text: str, files: Files) -> None:
    assert files.load(gitlab=text) == DEFAULTS


@pytest.mark.parametrize(
    "text",
    [
        "production: [secret-0123456789",
        "production:\n\tsecret-0123456789: x\n",
        "production: {secret: !!python/object:x secret-0123456789}\n",
        "production: &a {x: *secret-0123456789}\n",
        "production: {backup: {path: [/a, /b]}}\n",
        "production: {backup: {path: 7}}\n",
        "production: {backup: {path: relative/secret-0123456789}}\n",
        "production: {backup: {keep_time: 99999999999999999}}\n",
        "production: {backup: {since: 2026-13-45}}\n",
        "\0secret-0123456789",
    ],
)
def test_a_malformed_gitlab_yml_is_a_failure_without_a_word_of_it(text: str, files: Files) -> None:
    with pytest.raises(Failure) as caught:
        files.load(gitlab=text)
    assert caught.value.exit_code is ExitCode.USAGE
    assert "secret" not in f"{caught.value} {caught.value.hint}"


def test_a_gitlab_yml_that_cannot_be_read_is_a_failure(files: Files) -> None:
    files.gitlab.mkdir()
    with pytest.raises(Failure, match="GitLab's own settings"):
        files.load()


# our file


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("0", None),
        ("0d", None),
        ("90", timedelta(seconds=90)),
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("12h", timedelta(hours=12)),
        ("7d", timedelta(days=7)),
        ("4w", timedelta(weeks=4)),
        ('"7d"', timedelta(days=7)),
    ],
)
def test_keep_times(text: str, wanted: timedelta | None, files: Files) -> None:
    assert files.load(f"keep_time: {text}\n", GITLAB_YML).keep_time == wanted


def test_what_is_kept_beyond_the_keep_time(files: Files) -> None:
    text = "keep: {last: 2, hourly: 24, daily: 7, weekly: 5, monthly: 12, yearly: 3, within: 14d}\n"
    week = timedelta(days=7)
    assert files.load(text, GITLAB_YML).rules == Rules(week, 2 * week, 2, 24, 7, 5, 12, 3)
    assert files.load("keep: {daily: 7}\nkeep_time: 0\n").rules == Rules(daily=7)
    assert files.load("keep:\n#  daily: 7\n").rules == Rules(timedelta(days=7))


def test_a_restic_repository(files: Files) -> None:
    text = (
        "store: restic\nrestic:\n  repository: sftp:u@h:/srv/x\n  password_file: /etc/word\n"
        "  password_command: [pass, show, x]\n  environment_file: /etc/env\n  host: git.example\n"
    )
    found = files.load(text)
    assert found.store == "restic"
    assert found.restic == settings.Restic(
        "sftp:u@h:/srv/x", Path("/etc/word"), ("pass", "show", "x"), Path("/etc/env"), "git.example"
    )
    assert (DEFAULTS.store, DEFAULTS.restic) == ("local", settings.Restic())


def test_a_password_in_the_name_of_a_repository_is_refused_and_not_told(files: Files) -> None:
    told = files.problems("restic: {repository: 'rest:https://me:hunter22@host/'}\n").detail
    assert "without a password in it" in told and "hunter22" not in told


@pytest.mark.parametrize("text", ["last: -1", "daily: 7d", "daily: 10000", "yearly: true"])
def test_what_is_no_number_of_sets_is_refused(text: str, files: Files) -> None:
    assert "must be a whole number" in files.problems(f"keep: {{{text}}}\n").detail


@pytest.mark.parametrize("word", ["nightly", "weekly", "off", '"off"'])
def test_how_often_to_rehearse(word: str, files: Files) -> None:
    assert files.load(f"rehearse: {word}\n").rehearse == word.strip('"')


@pytest.mark.parametrize("word", ["sometimes", "on", "true", "7", "[]"])
def test_what_is_no_rhythm_is_refused(word: str, files: Files) -> None:
    assert "must be one of nightly, weekly, off" in files.problems(f"rehearse: {word}\n").detail


def test_where_to_rehearse(files: Files) -> None:
    assert files.load("scratch_dir: /srv/scratch\n").scratch_dir == Path("/srv/scratch")
    assert "absolute path" in files.problems("scratch_dir: scratch\n").detail


def test_levels_and_threads(files: Files) -> None:
    text = "compression: {database_level: 19, files_level: 2, threads: 64}\n"
    assert files.load(text) == Settings(DEFAULTS.sets, None, 19, 2, 64)
    assert files.load(text).packers == min(64, os.cpu_count() or 1)
    assert files.load("compression: {threads: 1}\n").packers == 1


@pytest.mark.parametrize("text", ["off", '"off"', "warn", "block"])
def test_the_gate(text: str, files: Files) -> None:
    """A bare off, a boolean in YAML 1.1, is read as the word."""
    assert files.load(f"upgrade_gate: {text}\n").upgrade_gate == text.strip('"')
    assert DEFAULTS.upgrade_gate == "block"


def test_all_problems_are_told_at_once_with_their_lines(files: Files) -> None:
    failure = files.problems(
        "# our settings\n"
        "backup_path: relative\n"
        "keep_time: 7 days\n"
        "keep_tiem: 7d\n"
        "compression:\n"
        "  database_level: 20\n"
        "  files_level: fast\n"
        "  thread: 2\n"
        "  threads: 2\n"
        "  threads: 3\n"
    )
    assert failure.message == f"{files.config} has 7 problems"
    problems = re.split("; (?=line )", failure.detail)
    assert [problem.partition(": ")[0] for problem in problems] == [
        "line 2",
        "line 3",
        "line 4",
        "line 6",
        "line 7",
        "line 8",
        "line 10",
    ]
    for name, problem in zip(
        (
            "backup_path: must be an absolute path",
            "keep_time: must be seconds",
            "keep_tiem: unknown option; did you mean keep_time?",
            "compression.database_level: must be a whole number between 1 and 19",
            "compression.files_level: must be a whole number between 1 and 19",
            "compression.thread: unknown option; did you mean threads?",
            "compression.threads: given twice",
        ),
        problems,
    ):
        assert problem.partition(": ")[2].startswith(name)


def test_files_in_config_d_are_read_after_it_in_the_order_of_their_names(files: Files) -> None:
    folder = files.config.parent / "config.d"
    folder.mkdir()
    (folder / "20-site.yml").write_text("keep_time: 9d\nallow_links: [/srv/b]\n")
    (folder / "10-fleet.yml").write_text("keep_time: 5d\nnice: 3\n")
    (folder / "30-other.yml.dpkg-old").write_text("nice: 4\n")
    ours = files.load("keep_time: 3d\nallow_links: [/srv/a]\nkeep: {last: 2}\n")
    assert (ours.keep_time, ours.nice, ours.keep.last) == (timedelta(days=9), 3, 2)
    assert ours.allow_links == (Path("/srv/b"),)
    values = {value.name: value for value in settings.look(files.config, files.gitlab)}
    assert (values["nice"].origin, values["nice"].line) == ("10-fleet.yml", 2)
    assert values["keep.last"].origin == "config.yml"


def test_an_unknown_option_like_none_is_answered_with_all(files: Files) -> None:
    assert "unknown option; known: accept_warnings, " in files.problems("zzzzzzzz: 1\n").detail


def test_an_option_given_twice_is_told_though_the_first_is_wrong(files: Files) -> None:
    assert "given twice" in files.problems("keep_time: x\nkeep_time: 7d\n").detail


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("compression: fast\n", "line 1: compression must hold options"),
        ("compression:\n  - threads\n", "line 2: compression must hold options"),
        ("- backup_path\n", "line 1: the file must hold options"),
        ("text\n", "line 1: the file must hold options"),
    ],
)
def test_a_section_that_is_none(text: str, told: str, files: Files) -> None:
    assert files.problems(text).detail == told


def test_a_section_whose_options_are_all_comments_is_at_its_defaults(files: Files) -> None:
    assert files.load("compression:\n#  threads: 4\n") == DEFAULTS


@pytest.mark.parametrize(
    "text",
    [
        "keep_time: true\n",
        "keep_time: -1\n",
        "keep_time: 1.5\n",
        "keep_time: 7x\n",
        "keep_time: d\n",
        "keep_time: [7d]\n",
        "keep_time: {d: 7}\n",
        "keep_time: 99999999999999999999\n",
        "keep_time: 999999999999w\n",
        f"keep_time: {'9' * 5000}d\n",
        "keep_time: ٣d\n",
        "keep_time:\n",
        "keep_time: 2026-13-45\n",
        "keep_time: !!python/name:os.system x\n",
        'keep_time: !!int ""\n',
        "keep_time: !!bool x\n",
        "backup_path: ''\n",
        "backup_path: 7\n",
        "backup_path: [/a]\n",
        "backup_path: &a [*a]\n",
        'backup_path: "/a\\0b"\n',
        "compression: {threads: 0}\n",
        "compression: {threads: 65}\n",
        "compression: {threads: true}\n",
        "compression: {threads: '4'}\n",
        "upgrade_gate: true\n",
        "upgrade_gate: stop\n",
        "upgrade_gate: [off]\n",
        "compression: {files_level: 1.0}\n",
        "? [a, b]\n: 1\n",
        "1: 2\n",
        "? {backup_path: /a}\n: 1\n",
        "<<: {backup_path: /a}\n",
        "unknown: &a [*a]\n",
        "backup_path: [\n",
        "backup_path: /a: b: c\n",
        "\tbackup_path: /a\n",
        "a: 1\n---\nb: 2\n",
        "backup_path: \0\n",
    ],
)
def test_a_wrong_value_is_a_failure(text: str, files: Files) -> None:
    files.problems(text)


@pytest.mark.parametrize("data", [b"\xff\xfe\xfa", b"backup_path: /\xff\n"])
def test_a_file_that_is_no_text_is_a_failure(data: bytes, files: Files) -> None:
    files.problems(data)


def test_a_file_that_cannot_be_read_is_a_failure(files: Files) -> None:
    files.config.mkdir()
    with pytest.raises(Failure) as caught:
        files.load()
    assert caught.value.exit_code is ExitCode.USAGE


WORDS = st.sampled_from(
    ["backup_path", "keep_time", "compression", "threads", ": ", "\n", "\n  ", "- ", "[", "]", "{",
     "}", "&a ", "*a", "!!int ", "!!str ", "7d", "/a", "'", '"', "# ", "? ", "| ", "~", "0x1", "1_0",
     "%YAML 9\n", "---\n", "<<", ","]
)  # fmt: skip


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(WORDS, max_size=12).map("".join))
def test_any_text_gives_settings_or_a_failure(files: Files, text: str) -> None:
    try:
        found = files.load(text)
    except Failure as failure:
        assert failure.exit_code is ExitCode.USAGE
        return
    assert found.sets.is_absolute()


# old names of options


def test_old_names_are_read_with_their_new_names_told(files: Files) -> None:
    found = files.load(
        "rehearse_in: /srv/scratch\n"
        "gate: warn\n"
        "notices:\n"
        "  - kind: mail\n"
        "    to: admin@example.org\n"
        "    when: always\n"
        "  - {type: ping, to: 'https://example.org/x'}\n"
    )
    assert (found.scratch_dir, found.upgrade_gate) == (Path("/srv/scratch"), "warn")
    assert [
        (notification.type, notification.to.reveal(), notification.on)
        for notification in found.notifications
    ] == [
        ("mail", "admin@example.org", "always"),
        ("ping", "https://example.org/x", "failure"),
    ]
    assert found.old_names == (
        "line 1: rehearse_in is now scratch_dir",
        "line 2: gate is now upgrade_gate",
        "line 3: notices is now notifications",
        "line 4: notices[1].kind is now type",
        "line 6: notices[1].when is now on",
    )


def test_the_old_limit_of_bandwidth_is_that_of_restic(files: Files) -> None:
    """Backups to a directory have none any more."""
    found = files.load("bandwidth: 20M\n")
    assert found.restic.bandwidth == 20 << 20
    assert found.old_names == ("line 1: bandwidth is now restic.bandwidth, for restic alone",)
    found = files.load("restic: {bandwidth: 20M}\n")
    assert (found.restic.bandwidth, found.old_names) == (20 << 20, ())


def test_the_new_names_are_read_without_a_warning(files: Files) -> None:
    text = "notifications: [{type: mail, to: a@example.org, on: warning}]\n"
    found = files.load(f"scratch_dir: /srv/x\nupgrade_gate: off\n{text}")
    assert (found.scratch_dir, found.upgrade_gate) == (Path("/srv/x"), "off")
    assert [(notification.type, notification.on) for notification in found.notifications] == [
        ("mail", "warning")
    ]
    assert found.old_names == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "gate: off\nupgrade_gate: off\n",
            "line 2: upgrade_gate: given twice, as gate and as upgrade_gate; keep upgrade_gate",
        ),
        (
            "scratch_dir: /x\nrehearse_in: /x\n",
            "line 2: rehearse_in: given twice, as scratch_dir and as rehearse_in; keep scratch_dir",
        ),
        (
            "notices: [{kind: mail, type: mail, to: x}]\n",
            "line 1: notices[1].type: given twice, as kind and as type; keep type",
        ),
        (
            "bandwidth: 1M\nrestic:\n  bandwidth: 2M\n",
            "line 3: restic.bandwidth: given twice, as bandwidth and as restic.bandwidth; "
            "keep restic.bandwidth",
        ),
        (
            "restic: {bandwidth: 2M}\nbandwidth: 1M\n",
            "line 2: bandwidth: given twice, as bandwidth and as restic.bandwidth; "
            "keep restic.bandwidth",
        ),
        ("bandwidth: 1M\nbandwidth: 1M\n", "line 2: bandwidth: given twice"),
        ("gate: off\ngate: off\n", "line 2: gate: given twice"),
        ("rehearse_in: x\n", "line 1: rehearse_in: must be an absolute path"),
        ("notifications: [{to: x}]\n", "line 1: notifications[1]: type must be given"),
    ],
)
def test_problems_with_old_names(text: str, told: str, files: Files) -> None:
    assert files.problems(text).detail == told


# off-site copies

RCLONE = "/root/.config/rclone/rclone.conf"
KEY = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"


def test_places_outside_this_machine(files: Files) -> None:
    found = files.load(
        "follow_gitlab: false\n"
        "offsite:\n"
        "  - remote: nas:backups/mm\n"
        f"    recipients: [{KEY}]\n"
        "    bandwidth: 10M\n"
        "    retries: 0\n"
        "    keep_last: 3\n"
        "    keep_time: 12w\n"
        "  - {remote: /mnt/disk/mm, name: disk}\n"
        "  - {remote: gitlab, bandwidth: 1G}\n"
    )
    assert not found.follow_gitlab
    rules = Rules(keep_time=timedelta(weeks=12), last=3)
    assert found.offsite == (
        Remote(
            "nas",
            "nas:backups/mm",
            config=RCLONE,
            bandwidth=10 << 20,
            retries=0,
            recipients=(KEY,),
            rules=rules,
        ),
        Remote("disk", "/mnt/disk/mm"),
        Remote("gitlab", "", bandwidth=1 << 30),
    )
    assert found.offsite[0].place("set", "file") == "nas:backups/mm/set/file"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("offsite: nas:x", "must be a list"),
        ("offsite: [nas:x]", "must hold options"),
        ("offsite: [{name: x}]", "remote must be given"),
        ("offsite: [{remote: nas}]", "nas:backups, or an absolute path"),
        ("offsite: [{remote: ':s3,secret_access_key=x:b'}]", "nas:backups, or an absolute path"),
        ("offsite: [{remote: 'nas:x', passwort: y}]", "unknown option"),
        ("offsite: [{remote: 'nas:x'}, {remote: 'nas:y'}]", "two remotes are called nas"),
        ("offsite: [{remote: 'nas:x', name: gitlab}]", "cannot be the name"),
        ("offsite: [{remote: 'nas:x', name: a/b}]", "letters, digits"),
        ("offsite: [{remote: 'my nas:x'}]", "cannot be the name"),
        ("offsite: [{remote: gitlab, name: x}]", "name and settings from GitLab"),
        ("offsite: [{remote: 'nas:x', bandwidth: 10}]", "number with a unit"),
        ("offsite: [{remote: 'nas:x', retries: 99}]", "between 0 and 20"),
        ("offsite: [{remote: 'nas:x', recipients: [AGE-SECRET-KEY-1]}]", "public key"),
        ("offsite: [{remote: 'nas:x', keep_lost: 1}]", "unknown option"),
        ("offsite: [{remote: 'nas:x', keep_time: soon}]", "must be seconds"),
        ("offsite: [{remote: 'nas:x', rclone_config: x}]", "absolute path"),
        ("follow_gitlab: perhaps", "true or false"),
    ],
)
def test_a_place_that_makes_no_sense(text: str, reason: str, files: Files) -> None:
    assert reason in files.problems(text).detail


def test_two_places_of_one_name_are_told_with_their_file_and_line(files: Files) -> None:
    fleet = files.config.parent / "config.d/50-fleet.yml"
    fleet.parent.mkdir()
    fleet.write_text("# ours\noffsite: [{remote: 'nas:x'}, {remote: 'nas:y'}]\n")
    with pytest.raises(BadSettings) as caught:
        files.load("offsite: [{remote: 'b2:x'}]\n")
    (problem,) = caught.value.problems
    assert (problem.file, problem.line, problem.key) == (fleet, 2, "offsite")


def test_no_private_key_is_quoted(files: Files) -> None:
    secret = "AGE-SECRET-KEY-1QYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQS"
    assert (
        secret not in files.problems(f"offsite: [{{remote: 'a:b', recipients: [{secret}]}}]").detail
    )


def test_what_an_option_names_is_read_by_all_of_the_process(tmp_path: Path) -> None:
    """Also where a lower module reads the settings, such as the rule for links."""
    named = tmp_path / "other.yml"
    named.write_text("allow_links: [/srv/uploads]\n", encoding="utf-8")
    Context("status", as_json=False, quiet=True, verbose=False, config=named)
    assert settings.file() == named
    assert settings.load(gitlab_yml=tmp_path / "none").allow_links == (Path("/srv/uploads"),)
