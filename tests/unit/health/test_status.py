"""The status: what each line makes of the facts, and how all of it is told."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gitlab_mm_backup.checks import failed, not_run
from gitlab_mm_backup.cli import health, terminal
from gitlab_mm_backup.config.retention import SetFacts
from gitlab_mm_backup.config.settings import Settings
from gitlab_mm_backup.container.service import ContainerService
from gitlab_mm_backup.errors import ExitCode, Failure
from gitlab_mm_backup.health import running, set_lights, status
from gitlab_mm_backup.health.lights import StatusInput
from gitlab_mm_backup.health.lines import Figure, State, StatusLine, worst
from gitlab_mm_backup.health.metrics import JobRun
from gitlab_mm_backup.health.scheduler import Scheduler
from gitlab_mm_backup.health.summary import Summary
from gitlab_mm_backup.mattermost import service
from gitlab_mm_backup.mattermost.journal import Journal, Previous, Step
from gitlab_mm_backup.mattermost.service import RunitService, SystemdService
from gitlab_mm_backup.store.check_records import CheckRecord
from gitlab_mm_backup.store.manifest import Part
from gitlab_mm_backup.store.sets import SetEntry
from gitlab_mm_backup.store.soundness import Flaw, Kind
from tests.unit.helpers.builders import HOST
from tests.unit.helpers.reports import GOOD, NOW, ago, found, made_set, record_of

GIB = 1 << 30
TONIGHT = made_set(ago(hours=2))
SETTINGS = Settings(Path("/sets"), timedelta(days=7))
BAD = "it did not pass its verification (checksums: database.dump.zst has a wrong checksum)"
BROKEN = (*GOOD[:2], failed("rows", 'ERROR: key "my message"'), not_run("boot", "rows failed"))


def sized(hours: float, size: int = GIB, **changes: Any) -> SetEntry:
    """A set from that many hours ago, of that many bytes."""
    parts = {"database": Part("database.dump.zst", "pg_dump custom, zstd", size, "a" * 64)}
    return made_set(ago(hours=hours), parts=parts, **changes)


def facts(
    *entries: SetEntry,
    records: Sequence[CheckRecord] = (),
    refuted: Sequence[str] = (),
    **changes: Any,
) -> StatusInput:
    kept = [
        SetFacts(entry.name, entry.set.manifest.made, entry.set.manifest.safety)
        for entry in entries
        if entry.set
    ]
    flaws = {name: [Flaw(Kind.FAILED, BAD)] for name in refuted}
    values: dict[str, Any] = {
        "found": found(entries, records, flaws=flaws),
        "settings": SETTINGS,
        "kept": kept,
        "site": None,
        "no_site": "GitLab is not installed",
        "journal": Journal(Path("/nonexistent")),
        "free": 1000 * GIB,
        "night": Scheduler("by cron", NOW + timedelta(hours=20)),
        "offsite": {},
        "host": HOST,
    }
    return StatusInput(**{**values, **changes})


def test_a_set_of_the_night_is_good() -> None:
    line = set_lights.last_set(facts(TONIGHT))
    assert line.state is State.GOOD
    assert line.words.startswith("2.0 h ago, ") and line.words.endswith(TONIGHT.name)
    assert line.figures["set_age"].value == 7200
    assert (line.figures["set_age"].unit, line.figures["set_age"].bad) == ("s", "93600")


def test_a_set_whose_warnings_are_accepted_is_good_and_tells_them_last() -> None:
    told = [f"'/a{number}' is a link to '/srv/old'" for number in range(4)]
    entry = made_set(ago(hours=2), told=[*told, "'/b' is a device"])
    line = set_lights.last_set(facts(entry))
    assert (line.state, "device" in line.told) == (State.WARNING, False)
    line = set_lights.last_set(
        facts(entry, settings=replace(SETTINGS, accept_warnings=["/srv/old"]))
    )
    assert (line.state, "Warning: '/b' is a device" in line.told) == (State.WARNING, True)
    both = replace(SETTINGS, accept_warnings=["/srv/old", "/b"])
    line = set_lights.last_set(facts(entry, settings=both))
    assert (line.state, "Warning: '/a0'" in line.told) == (State.GOOD, True)


@pytest.mark.parametrize(
    ("entries", "refuted", "state", "words"),
    [
        ([], [], "bad", "there is none in"),
        ([made_set(ago(hours=25.9))], [], "good", "25.9 h ago"),
        ([made_set(ago(hours=26.1))], [], "bad", "26.1 h ago"),
        ([made_set(ago(days=3))], [], "bad", "3 days ago"),
        ([made_set(ago(hours=1), purpose="safety")], [], "bad", "there is none"),
        ([TONIGHT, made_set(ago(hours=20))], [TONIGHT.name], "bad", f"{TONIGHT.name}, is damaged"),
        ([TONIGHT, made_set(ago(hours=20))], [TONIGHT.name], "bad", "sound set is from 20.0 h ago"),
        (
            [TONIGHT, made_set(ago(hours=20))],
            [TONIGHT.name],
            "bad",
            f"{TONIGHT.name}, is damaged: it did not",
        ),
        ([TONIGHT, made_set(ago(hours=20))], [made_set(ago(hours=20)).name], "good", "2.0 h ago"),
        ([TONIGHT], [TONIGHT.name], "bad", "there is no sound set"),
        ([SetEntry("odd", None, "no manifest"), TONIGHT], [], "warning", "; 1 set not complete"),
        ([made_set(NOW + timedelta(minutes=5))], [], "good", "0 s ago"),
    ],
)
def test_the_last_set(entries: list[SetEntry], refuted: list[str], state: str, words: str) -> None:
    line = set_lights.last_set(facts(*entries, refuted=refuted))
    assert line.state.value == state, line
    assert words in line.told
    assert bool(line.fix) is (state != "good")


@pytest.mark.parametrize(
    ("hours", "checks", "rehearse", "state", "words"),
    [
        (None, (), "nightly", "warning", "none was made"),
        (None, (), "off", "off", "rehearse is off"),
        (1, GOOD, "nightly", "good", "passed 60 min ago, recovery in 42 s"),
        (24 * 8.1, GOOD, "weekly", "warning", "passed 8 days ago"),
        (24 * 8.1, GOOD, "off", "good", "passed 8 days ago"),
        (1, (*GOOD[:2], not_run("boot", "-")), "nightly", "warning", "incomplete"),
        (1, BROKEN, "nightly", "bad", "rows: ERROR: key"),
        (1, BROKEN, "off", "bad", "failed"),
    ],
)
def test_the_last_rehearsal(
    hours: float | None, checks: Any, rehearse: str, state: str, words: str
) -> None:
    records = [] if hours is None else [record_of(TONIGHT, ago(hours=hours), *checks)]
    if checks is BROKEN:
        records = [replace(records[0], recovery_seconds=None)]
    line = set_lights.last_rehearsal(
        facts(TONIGHT, records=records, settings=replace(SETTINGS, rehearse=rehearse))
    )
    assert line.state.value == state
    assert words in line.words or words in line.detail
    assert "my message" not in line.text
    assert bool(line.fix) is (state in ("bad", "warning"))


def test_a_host_without_mattermost_is_bad() -> None:
    there = facts(TONIGHT, absent=True)
    lines = {line.name: line for line in status.status(there)}
    assert lines["sign-in"].state is lines["next run"].state is State.OFF
    assert lines["service"].state is worst(list(lines.values())) is State.BAD
    assert "GitLab is not installed" in lines["service"].words
    assert "gitlab-mm backup" not in status.mattermost(facts(absent=True)).text
    assert set_lights.last_set(facts(absent=True)).fix == "gitlab-mm doctor"


@pytest.mark.parametrize(
    ("code", "state", "words", "fix"),
    [
        (0, "good", "the backup was done 60 min ago, in 2 min", ""),
        (4, "good", "was done with warnings", ""),
        (
            1,
            "warning",
            "did not succeed 60 min ago (exit code 1: failed)",
            "journalctl -t gitlab-mm",
        ),
        (2, "warning", "exit code 2: bad usage or settings", "gitlab-mm config check"),
        (5, "warning", "(exit code 5: failed)", "journalctl -t gitlab-mm"),
        (77, "warning", "exit code 77: ended unexpectedly", "journalctl -t gitlab-mm"),
    ],
)
def test_the_last_run(code: int, state: str, words: str, fix: str) -> None:
    run = JobRun(ago(hours=1, minutes=2).timestamp(), 120.0, code, None)
    line = set_lights.last_run(facts(TONIGHT, runs={"backup": run}))
    assert line is not None
    assert (line.state.value, words in line.words, line.fix) == (state, True, fix), line
    assert set_lights.last_run(facts(TONIGHT, runs={"restore": run})) is None


def test_a_set_that_is_cut_short_is_damaged() -> None:
    flaws = {TONIGHT.name: [Flaw(Kind.INCOMPLETE, "it is not complete: /x has 1 bytes")]}
    entries = [TONIGHT, made_set(ago(hours=20))]
    line = set_lights.last_set(facts(found=found(entries, flaws=flaws)))
    assert (line.state, TONIGHT.name in line.words) == (State.BAD, True)
    assert line.told.endswith("is damaged: it is not complete: /x has 1 bytes")


def test_what_is_not_good_ends_in_a_command() -> None:
    """Every line in each state that it can have here."""
    future = {"in_future": [Flaw(Kind.FUTURE, "its date is in the future")]}
    torn = SetEntry("torn", None, "no manifest")
    emptied = {TONIGHT.name: [Flaw(Kind.EMPTIED, "it looks emptied (posts)")]}
    failed_run = {"backup": JobRun(1.0, 1.0, 1, None)}
    cases = [
        facts(runs=failed_run, night=Scheduler(obstacle="none", fix="systemctl start x")),
        facts(TONIGHT, free=1, offsite={"nas": None}),
        facts(TONIGHT, offsite={"nas": 1.0}, away={"nas": "/mnt/nas"}),
        facts(found=found([torn, TONIGHT], flaws=future)),
        facts(found=found([TONIGHT, made_set(ago(hours=20))], flaws=emptied)),
        facts(made_set(ago(hours=2), told=["a warning"])),
        facts(made_set(ago(days=3)), host=replace(HOST, original="f" * 32)),
        facts(TONIGHT, records=[record_of(TONIGHT, ago(hours=1), *BROKEN)]),
        facts(TONIGHT, refuted=[TONIGHT.name]),
    ]
    command = re.compile(r"(gitlab-mm|gitlab-ctl|systemctl|journalctl|mount|timedatectl)( |,)")
    seen = set()
    for case in cases:
        for line in status.status(case):
            amiss = line.state in (State.BAD, State.WARNING)
            assert bool(line.fix) is amiss, line
            if amiss:
                assert line.text.endswith(f". Run: {line.fix}") and command.match(line.fix), line
                seen.add(line.name)
    names = {
        "last set",
        "last run",
        "rehearsal",
        "service",
        "next run",
        "space",
        "off-site",
        "host",
    }
    assert seen == names


def test_the_next_run() -> None:
    line = status.next_run(facts())
    assert line.state is State.GOOD
    assert re.fullmatch(r"2026-11-25 \d\d:00:00 \S+, by cron", line.words)
    assert status.next_run(facts(night=Scheduler("by cron"))).words == "by cron"
    assert status.next_run(facts(night=Scheduler(obstacle="x", fix="y"))).state is State.WARNING


def test_the_room_of_a_repository_is_not_known() -> None:
    line = set_lights.space(facts(settings=replace(SETTINGS, store="restic")))
    assert (line.state, line.figures) == (State.OFF, {})


@pytest.mark.parametrize(
    ("free", "keep", "state", "words"),
    [
        (0.5, None, "bad", "no room for the next set"),
        (1.5, None, "warning", "room for 1 night"),
        (13.5, None, "warning", "room for 13 nights"),
        (14, None, "good", "room for 14 nights"),
        (61, None, "good", "room for 60 nights and more"),
        # Two are there, four are kept: two nights more take room, then each makes its own.
        (3.5, 3, "good", "room for 60 nights and more"),
        (1.5, 3, "warning", "room for 1 night"),
    ],
)
def test_the_room_that_is_left(free: float, keep: int | None, state: str, words: str) -> None:
    days = None if keep is None else timedelta(days=keep)
    entries = (sized(2), sized(26))
    line = set_lights.space(
        facts(*entries, free=int(free * GIB), settings=replace(SETTINGS, keep_time=days))
    )
    assert (line.state.value, words in line.words) == (state, True), line.words


def test_the_room_of_a_host_that_has_no_set() -> None:
    line = set_lights.space(facts(free=5))
    assert (line.state, sorted(line.figures)) == (State.GOOD, ["free"])


def test_an_open_restore(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert status.open_restore(facts(journal=journal)).words == "interrupted restore: none"
    journal.keep([Previous("2026-11-20T00:00:00Z", [])])
    line = status.open_restore(facts(journal=journal))
    assert (line.state, "1 previous state kept" in line.words) == (State.GOOD, True)
    line = status.open_restore(facts(journal=journal, recoveries=[Path("/undo")]))
    assert (line.state, "recover --undo /undo" in line.fix) == (State.WARNING, True)
    journal.write({"set": "x"}, [Step("stop Mattermost", {})], [])
    line = status.open_restore(facts(journal=journal, recoveries=[Path("/undo")]))
    assert (line.state, "--rollback" in line.fix) == (State.BAD, True)
    journal.path.write_text("{", encoding="utf-8")
    assert status.open_restore(facts(journal=journal)).state is State.BAD


def test_all_lines_in_their_order() -> None:
    names = [line.name for line in status.status(facts(TONIGHT))]
    assert names[:4] == ["last set", "rehearsal", "sign-in", "service"]


def test_what_is_live_is_not_asked_where_it_was_seen_before() -> None:
    """A rehearsal leaves the live Mattermost alone."""
    seen = StatusLine("service", State.WARNING, "Mattermost is stopped", fix="start it")
    names = {line.name: line for line in status.status(facts(TONIGHT), {"service": seen})}
    assert names["service"] == seen
    assert "sign-in" not in names
    assert "next run" in names


# how it is told


LINES = [
    StatusLine("last set", State.GOOD, "2 h ago", {"set_age": Figure(7200, "s", "9", "9")}),
    StatusLine("sign-in", State.OFF, "not set up"),
    StatusLine("space", State.GOOD, "word " * 30, {"free": Figure(123456789012, "B")}),
]
WARNED = [*LINES, StatusLine("next run", State.WARNING, "none | at all")]
WRONG = [*WARNED, StatusLine("restore", State.BAD, "one was cut short")]


@pytest.mark.parametrize(
    ("lines", "code", "state"),
    [
        (LINES, ExitCode.DONE, "good"),
        (WARNED, ExitCode.WARNINGS, "warning"),
        (WRONG, ExitCode.FAILED, "bad"),
    ],
)
def test_what_all_comes_to(lines: list[StatusLine], code: ExitCode, state: str) -> None:
    outcome = health.status_result(Summary("git.example.org", NOW, lines), nagios=False)
    assert outcome.exit_code is code
    assert outcome.fields["state"] == state
    assert outcome.lines[0] == f"git.example.org: {state}"
    assert max(map(len, outcome.lines)) <= 79
    assert len(outcome.tones) == len(outcome.lines)


def test_only_the_state_is_in_colour() -> None:
    lines = [*WRONG, StatusLine("off-site", State.OFF, "off and bad")]
    outcome = health.status_result(Summary("bad.example.org", NOW, lines), nagios=False)
    painted = [terminal.toned(line, *tone) for line, tone in zip(outcome.lines, outcome.tones)]
    assert [re.sub(r"\x1b\[\d+m", "", line) for line in painted] == outcome.lines
    assert painted[0].startswith("bad.example.org: \x1b[31m")
    assert painted[1].startswith("  last set   \x1b[32m")
    assert painted[-1].startswith("  off-site   \x1b[34m")


@pytest.mark.parametrize(
    ("lines", "word", "code"),
    [(LINES, "OK", 0), (WARNED, "WARNING", 1), (WRONG, "CRITICAL", 2)],
)
def test_one_line_for_nagios(lines: list[StatusLine], word: str, code: int) -> None:
    """See the Monitoring Plugins Development Guidelines, on return codes and performance data."""
    outcome = health.status_result(Summary("x", NOW, lines), nagios=True)
    assert outcome.status == code
    assert health.status_result(Summary("x", NOW, lines), nagios=False).status is None
    (line,) = outcome.lines
    told, bar, data = line.partition(" | ")
    assert bar and "|" not in told + data
    assert told.startswith(f"MATTERMOST BACKUP {word} - ")
    assert data == "set_age=7200s;9;9;0 free=123456789012B;;;0"
    assert ("one was cut short" in told) is (word == "CRITICAL")


def test_a_failure_is_unknown_to_nagios() -> None:
    outcome = health.unknown_result(Failure("A | B", "line 1\nline 2", "Run: x"))
    assert outcome.status == 3
    assert outcome.lines == ["MATTERMOST BACKUP UNKNOWN - A / B: line 1 line 2. Run: x"]


@pytest.mark.parametrize(
    ("hours", "state", "words"),
    [
        ([3], "good", "r0: 3.0 h ago"),
        ([3, 60], "warning", "r0: 3.0 h ago; r1: 2 days ago"),
        ([None], "warning", "r0: nothing yet"),
    ],
)
def test_copies_outside(hours: list[float | None], state: str, words: str) -> None:
    places = {
        f"r{number}": None if age is None else ago(hours=age).timestamp()
        for number, age in enumerate(hours)
    }
    line = set_lights.off_site(facts(offsite=places))
    assert (line.state.value, line.words) == (state, words)


def test_no_copy_elsewhere_is_a_warning_unless_accepted() -> None:
    line = set_lights.off_site(facts())
    assert (line.state, line.fix) == (State.WARNING, "gitlab-mm config explain offsite")
    accepted = replace(SETTINGS, accept_warnings=["off-site copies"])
    assert set_lights.off_site(facts(settings=accepted)).state is State.OFF
    other = replace(SETTINGS, accept_warnings=["/srv/copies"])
    assert set_lights.off_site(facts(settings=other)).state is State.WARNING


def test_a_copy_with_a_date_in_the_future_is_a_warning() -> None:
    line = set_lights.off_site(facts(offsite={"nas": (NOW + timedelta(days=300)).timestamp()}))
    assert (line.state, "in the future" in line.words) == (State.WARNING, True)


def test_a_place_whose_disk_is_not_mounted_is_bad() -> None:
    line = set_lights.off_site(
        facts(offsite={"disk": ago(hours=1).timestamp(), "nas": None}, away={"disk": "/mnt/disk"})
    )
    assert (line.state, line.fix) == (State.BAD, "mount /mnt/disk")
    assert line.words == "disk: not the expected place; is its disk mounted?; nas: nothing yet"
    assert line.figures == {}


def test_that_sets_are_kept_for_ever_is_said() -> None:
    for_ever = replace(SETTINGS, keep_time=None)
    for found_sets in ((), (sized(2),)):
        assert "kept for ever" in set_lights.space(facts(*found_sets, settings=for_ever)).words
        assert "kept for ever" not in set_lights.space(facts(*found_sets)).words


def test_why_no_set_is_made_is_said() -> None:
    night = Scheduler(obstacle="cron is not running", fix="service cron start")
    line = status.next_run(facts(night=night))
    assert line.text == "no nightly set: cron is not running. Run: service cron start"


def test_a_bug_is_unknown_to_nagios_and_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the set of 1795310000")

    monkeypatch.setattr(health, "_status", broken)
    done = CliRunner().invoke(health.status, ["--nagios"])
    assert done.exit_code == 3
    assert done.stdout.startswith("MATTERMOST BACKUP UNKNOWN - ")
    assert "Traceback" not in done.output and done.stdout.count("\n") == 1
    assert CliRunner().invoke(health.status, []).exit_code == 1


@pytest.mark.parametrize(
    ("ours", "log", "start"),
    [
        (RunitService(Path("x"), Path("x")), "gitlab-ctl tail", "gitlab-ctl start"),
        (SystemdService("x"), "journalctl -u", "systemctl start"),
        (ContainerService("docker", "mm"), "docker logs", "docker start"),
    ],
)
def test_each_service_has_its_own_way_out(
    ours: service.Service, log: str, start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log of one that runs and does not answer; the start of one that is stopped."""
    monkeypatch.setattr(service, "of", lambda site: ours)
    monkeypatch.setattr(running, "service_check", lambda site: failed("service", "x"))
    for runs, command in ((True, log), (False, start)):
        monkeypatch.setattr(running, "runs", lambda site, runs=runs: runs)
        assert status.running_site(Any).fix.startswith(command)  # type: ignore[arg-type]
