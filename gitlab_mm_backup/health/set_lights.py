"""The lines of gitlab-mm status on backups: sets, runs, rehearsals, copies and disk space."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from .. import clock
from ..checks import Result
from ..config import retention, settings
from ..config.retention import SetFacts
from ..errors import ExitCode
from ..store import check_records, soundness
from ..store.check_records import CheckVerdict
from ..store.sets import BackupSet
from ..store.soundness import Kind
from ..system import humanize, redaction
from . import rating
from .lights import StatusInput
from .lines import Figure, State, StatusLine, ago

NIGHTS = 60  # of the forecast
_SOON = 14  # nights: time to buy a disk
_DAY = timedelta(days=1)
STALE = timedelta(days=2)  # of an off-site copy
# A text of it in accept_warnings turns this light off.
NO_COPY = "no off-site copies are configured"


def last_set(facts: StatusInput) -> StatusLine:
    """Return the line about the newest sound set, and about newer ones that are not sound."""
    newest = facts.good
    figures = {"sets": Figure(len(facts.found.counted))}
    trouble = _trouble(facts)
    if newest is None:
        words = f"there is none in {facts.found.folder}"
        fix = "gitlab-mm doctor" if facts.absent else "gitlab-mm backup"
        if trouble:
            words, fix = f"there is no sound set in {facts.found.folder}; {trouble[0]}", trouble[2]
        return StatusLine("last set", State.BAD, words, figures, fix, trouble[1] if trouble else "")
    manifest = newest.manifest
    age, oldest = facts.found.age(newest), facts.found.oldest
    limit = str(int(oldest.total_seconds()))
    figures["set_age"] = Figure(int(age.total_seconds()), "s", limit, limit)
    figures["set_bytes"] = Figure(manifest.bytes, "B")
    words = f"{ago(age)}, {humanize.size(manifest.bytes)}, {humanize.number(manifest.rows, 'row')}"
    words += f", {humanize.number(manifest.files.files, 'file')}: {newest.name}"
    if newest.name in facts.found.confirmed:
        words += ", unchanged since"
    if trouble:
        # The detail follows the words, so what it is about comes last.
        words = f"the newest sound set is from {words}; {trouble[0]}"
        return StatusLine("last set", State.BAD, words, figures, trouble[2], trouble[1])
    if age > oldest:
        fix = "gitlab-mm doctor" if facts.absent else "gitlab-mm backup"
        return StatusLine("last set", State.BAD, f"too old: {words}", figures, fix)
    return _with_doubts(facts, newest, words, figures)


def _with_doubts(
    facts: StatusInput, newest: BackupSet, words: str, figures: dict[str, Figure]
) -> StatusLine:
    """Return the line of a sound set that is new enough: its warnings, and sets that do not count."""
    doubts, fix = _doubts(facts)
    words = "; ".join([words, *doubts])
    told, detail = newest.manifest.told, ""
    open_ = soundness.unaccepted(told, facts.settings.accept_warnings)
    if told:
        accepted = [caveat for caveat in told if caveat not in open_]
        detail = soundness.caveat_sentence([*open_, *accepted])
    if open_ and not fix:
        fix = "gitlab-mm config explain accept_warnings"
    state = State.WARNING if doubts or open_ else State.GOOD
    return StatusLine("last set", state, words, figures, fix, detail)


def _trouble(facts: StatusInput) -> tuple[str, str, str] | None:
    """Return words, detail and fix for the newest set that is newer than the sound one, and flawed."""
    found, sound = facts.found, facts.good
    for entry in found.entries:
        if sound is not None and entry.name == sound.name:
            return None
        if entry.set is None or entry.set.manifest.safety or entry.name in found.foreign:
            continue
        for flaw in found.flaws.get(entry.name, ()):
            if flaw.kind is Kind.EMPTIED:
                back = f"gitlab-mm restore {sound.name}, or " if sound else ""
                words = f"{entry.name} {flaw.words.replace('it looks', 'looks', 1)}"
                return words, "", f"{back}gitlab-mm prune --accept {entry.name}"
            if flaw.kind in (Kind.FAILED, Kind.INCOMPLETE):
                fix = "gitlab-mm doctor" if facts.absent else "gitlab-mm backup"
                return f"the newest set, {entry.name}, is damaged", flaw.words, fix
    return None


def _doubts(facts: StatusInput) -> tuple[list[str], str]:
    """Return words on sets that do not count, and the fix: dates in the future, incomplete ones."""
    doubts, fix = [], ""
    future = [name for name in facts.found.flaws if facts.found.has(name, Kind.FUTURE)]
    if future:
        doubts.append(
            f"{humanize.number(len(future), 'set')} with a date in the future: {future[0]}"
        )
        fix = "timedatectl, and gitlab-mm list"
    broken = facts.found.incomplete
    if broken:
        doubts.append(f"{humanize.number(len(broken), 'set')} not complete: {broken[0]}")
        fix = fix or "gitlab-mm list"
    return doubts, fix


def last_run(facts: StatusInput) -> StatusLine | None:
    """Return the line about the result of the newest backup run; None if none was ever made."""
    run = facts.runs.get("backup")
    if run is None:
        return None
    when = ago(timedelta(seconds=facts.now.timestamp() - run.ended))
    known = {int(code): code for code in ExitCode}
    meaning = known[run.exit_code].meaning if run.exit_code in known else "ended unexpectedly"
    # What the live state needs now, the line about restores tells.
    meaning = meaning.partition(",")[0]
    if run.good:
        with_ = " with warnings" if run.exit_code else ""
        words = f"the backup was done{with_} {when}, in {humanize.duration(run.seconds)}"
        return StatusLine("last run", State.GOOD, words)
    words = f"the backup did not succeed {when} (exit code {run.exit_code}: {meaning})"
    fix = "gitlab-mm config check" if run.exit_code == ExitCode.USAGE else "journalctl -t gitlab-mm"
    return StatusLine("last run", State.WARNING, words, fix=fix)


def last_rehearsal(facts: StatusInput) -> StatusLine:
    """Return the line about the newest rehearsal of any set, and its recovery time."""
    record = check_records.latest_rehearsal(facts.found.history)
    wanted = facts.settings.rehearse != "off"
    if record is None:
        if not wanted:
            return StatusLine("rehearsal", State.OFF, "none was made; rehearse is off")
        return StatusLine("rehearsal", State.WARNING, "none was made", fix="gitlab-mm rehearse")
    age = facts.now - record.made
    limit = str(int(rating.REHEARSAL_AGE.total_seconds()))
    figures = {"rehearsal_age": Figure(int(age.total_seconds()), "s", limit if wanted else "")}
    words = f"{record.verdict.value} {ago(age)}"
    if record.recovery_seconds is not None:
        figures["recovery"] = Figure(round(record.recovery_seconds, 1), "s")
        words += f", recovery in {humanize.duration(max(1, record.recovery_seconds))}"
    if record.verdict is CheckVerdict.FAILED:
        bad = [check for check in record.checks if check.result is Result.FAILED]
        detail = "; ".join(f"{check.name}: {redaction.without_rows(check.detail)}" for check in bad)
        words += f", of {record.set}"
        return StatusLine("rehearsal", State.BAD, words, figures, "gitlab-mm rehearse", detail)
    if record.verdict is CheckVerdict.INCOMPLETE:
        return StatusLine("rehearsal", State.WARNING, words, figures, "gitlab-mm report")
    if wanted and age > rating.REHEARSAL_AGE:
        return StatusLine("rehearsal", State.WARNING, words, figures, "gitlab-mm rehearse")
    return StatusLine("rehearsal", State.GOOD, words, figures)


def space(facts: StatusInput) -> StatusLine:
    """Return the line about disk space, with a forecast from the size of the last sets."""
    if facts.settings.store != "local":
        return StatusLine("space", State.OFF, f"not known of {facts.found.folder}")
    nights = _nights(facts)
    told = NIGHTS if nights is None else nights
    figures = {"free": Figure(facts.free, "B"), "nights": Figure(told, "", f"{_SOON}:", "1:")}
    words = f"{humanize.size(facts.free)} free in {facts.found.folder}"
    for_ever = f"; {retention.FOR_EVER}" if facts.settings.rules == settings.Rules() else ""
    if facts.good is None:
        return StatusLine("space", State.GOOD, words + for_ever, {"free": figures["free"]})
    if nights is None:
        room = f"room for {NIGHTS} nights and more{for_ever}"
        return StatusLine("space", State.GOOD, f"{words}, {room}", figures)
    state = State.BAD if nights < 1 else State.WARNING if nights < _SOON else State.GOOD
    room = f"room for {humanize.number(nights, 'night')}" if nights else "no room for the next set"
    fix = "" if state is State.GOOD else "gitlab-mm prune --dry-run"
    return StatusLine("space", state, f"{words}, {room}{for_ever}", figures, fix)


def _nights(facts: StatusInput) -> int | None:
    """Return for how many nights the disk space lasts, None for NIGHTS or more.

    Each night one set is added, or those of a day by the schedule, of the average size of the last
    seven, and then old sets are pruned.
    """
    sets = {entry.name: entry.set.manifest.bytes for entry in facts.found.entries if entry.set}
    last = list(sets.values())[:7]
    one_set = sum(last) // len(last) if last else 0
    plan = facts.settings.schedule
    added = plan.per_day if plan else 1
    free, there = facts.free - facts.reserve, list(facts.kept)
    if free >= one_set * added * NIGHTS:  # also if nothing is pruned
        return None
    for night in range(NIGHTS):
        free -= one_set * added
        if free < 0:
            return night
        now = facts.now + (night + 1) * _DAY
        there += [
            SetFacts(f"night {night} {number}", now - _DAY / added * number)
            for number in range(added)
        ]
        going = {
            decision.name
            for decision in retention.decide(there, facts.settings.rules, now)
            if not decision.keep
        }
        free += sum(sets.get(name, one_set) for name in going)
        there = [kept for kept in there if kept.name not in going]
    return None


def no_copy_accepted(accept_warnings: Sequence[str]) -> bool:
    """Return whether the administrator does without copies that this program makes."""
    return not soundness.unaccepted([NO_COPY], accept_warnings)


def off_site(facts: StatusInput) -> StatusLine:
    """Return the line about the newest copy at each place outside this host."""
    if not facts.offsite:
        if no_copy_accepted(facts.settings.accept_warnings):
            return StatusLine("off-site", State.OFF, f"{NO_COPY}; accept_warnings accepts it")
        words = f"{NO_COPY}: if this disk fails, all backups are lost"
        return StatusLine("off-site", State.WARNING, words, fix="gitlab-mm config explain offsite")
    figures: dict[str, Figure] = {}
    limit, stale = STALE.total_seconds(), False
    lines = [f"{remote}: not the expected place; is its disk mounted?" for remote in facts.away]
    for remote, moment in facts.offsite.items():
        if remote in facts.away:
            continue
        if moment is None:
            lines.append(f"{remote}: nothing yet")
            stale = True
            continue
        age = facts.now.timestamp() - moment
        if clock.ahead(clock.moment_of(moment), facts.now):
            lines.append(f"{remote}: the newest copy has a date in the future")
            stale = True
            continue
        lines.append(f"{remote}: {ago(timedelta(seconds=age))}")
        figures[f"offsite_age_{remote}"] = Figure(int(age), "s", f"{limit:.0f}")
        stale = stale or age > limit
    words = "; ".join(lines)
    if facts.away:
        fix = f"mount {next(iter(facts.away.values()))}"
        return StatusLine("off-site", State.BAD, words, figures, fix)
    if stale:
        again = "gitlab-mm backup" if facts.settings.store == "restic" else "gitlab-mm offsite"
        return StatusLine("off-site", State.WARNING, words, figures, again)
    return StatusLine("off-site", State.GOOD, words, figures)
