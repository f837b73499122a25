"""gitlab-mm status: one function for each line, from data that is collected first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta

from ..checks import Result, guarded
from ..errors import Failure
from ..mattermost import service
from ..mattermost.site import Site
from ..store import inventory
from ..system import humanize, lock
from . import running
from .lights import StatusInput
from .lines import Figure, State, StatusLine
from .set_lights import last_rehearsal, last_run, last_set, off_site, space


def which_host(facts: StatusInput) -> StatusLine:
    """Return the line about this host, and about former hosts whose sets are not assigned yet."""
    here, words = facts.host, facts.host.id[:8] or "without an id until the first backup"
    fix = "gitlab-mm host take-over, or gitlab-mm host new"
    if here.installation:
        words += f", installation {here.installation[:8]}"
    kin = inventory.kin(here, facts.seen)
    if here.original:
        words += f"; its disk comes from host {here.original[:8]}"
        return StatusLine("host", State.WARNING, words, fix=fix)
    if kin:
        sets = humanize.number(sum(seen.sets for seen in kin), "set")
        words += f"; {sets} of host {kin[0].name} are not pruned"
        return StatusLine("host", State.WARNING, words, fix=fix)
    return StatusLine("host", State.GOOD, words)


def sign_in(facts: StatusInput) -> StatusLine:
    """Return the line about sign-in through GitLab."""
    site = facts.site
    if site is None:
        return StatusLine("sign-in", State.OFF, "not known without Mattermost")
    return sign_in_of(site)


def sign_in_of(site: Site) -> StatusLine:
    """Return the line about sign-in of a site."""
    check = guarded("sign-in", lambda: running.sign_in_check(site))
    states = {
        Result.PASSED: State.GOOD,
        Result.FAILED: State.BAD,
        Result.NOT_RUN: State.OFF,
        Result.WARNING: State.WARNING,
    }
    state = states[check.result]
    fix = "gitlab-mm sso check" if state in (State.BAD, State.WARNING) else ""
    return StatusLine("sign-in", state, check.detail, fix=fix)


def mattermost(facts: StatusInput) -> StatusLine:
    """Return the line about the service: whether Mattermost runs and answers."""
    site = facts.site
    if site is None:
        words = f"no Mattermost can be backed up on this host: {facts.no_site}"
        return StatusLine("service", State.BAD, words, fix="gitlab-mm doctor")
    return running_site(site)


def running_site(site: Site) -> StatusLine:
    """Return the line about the service of a site."""
    check = guarded("service", lambda: running.service_check(site))
    if check.result is Result.PASSED:
        return StatusLine("service", State.GOOD, check.detail)
    ours = service.of(site)
    fix = ours.log_by_hand if running.runs(site) else ours.start_by_hand
    return StatusLine("service", State.WARNING, check.detail, fix=fix)


def next_run(facts: StatusInput) -> StatusLine:
    """Return the line about the next backup, and what starts it."""
    night = facts.night
    if not night.by:
        return StatusLine("next run", State.WARNING, night.words, fix=night.fix)
    if facts.absent:
        return StatusLine("next run", State.OFF, "no nightly set is made without Mattermost")
    if night.plan is None:
        return StatusLine("next run", State.GOOD, night.words)
    loss = night.plan.longest_wait
    if facts.good is not None:  # a set has the state of its start, and counts from its end on
        loss += timedelta(seconds=facts.good.manifest.seconds)
    words = (
        f"{night.words}; changes of at most {humanize.duration(loss.total_seconds())} are in no set"
    )
    figures = {"loss": Figure(int(loss.total_seconds()), "s")}
    return StatusLine("next run", State.GOOD, words, figures)


def open_restore(facts: StatusInput) -> StatusLine:
    """Return the line about an interrupted restore or recovery, and about previous states."""
    try:
        record, previous = facts.journal.read(), facts.journal.previous()
        uploads = facts.journal.pending()
    except Failure as failure:
        return StatusLine("restore", State.BAD, str(failure), fix="gitlab-mm restore --rollback")
    if record is not None:
        fix = "gitlab-mm restore --rollback, or gitlab-mm restore --continue"
        return StatusLine("restore", State.BAD, "interrupted", fix=fix)
    if facts.recoveries:
        text = "gitlab-mm recover was interrupted"
        fix = f"gitlab-mm recover --undo {facts.recoveries[0]}, or the same recover again"
        return StatusLine("restore", State.WARNING, text, fix=fix)
    if uploads is not None:
        holder = lock.holder(lock.UPLOADS_FILE)
        text = f"{uploads.words}; at work: {holder}" if holder else uploads.words
        fix = "gitlab-mm restore --continue" + (", if that run ends before" if holder else "")
        return StatusLine("restore", State.WARNING, text, fix=fix)
    words = "interrupted restore: none"
    if previous:
        words += (
            f"; {humanize.number(len(previous), 'previous state')} kept: gitlab-mm prune --previous"
        )
    return StatusLine("restore", State.GOOD, words)


# In the order of the output.  A line that does not apply to this host is None.
_Line = Callable[[StatusInput], StatusLine | None]
LINES: tuple[_Line, ...] = (
    last_set,
    last_run,
    last_rehearsal,
    sign_in,
    mattermost,
    next_run,
    space,
    off_site,
    open_restore,
    which_host,
)


# These ask the live Mattermost and GitLab.
_LIVE: Mapping[_Line, str] = {sign_in: "sign-in", mattermost: "service"}


def status(facts: StatusInput, seen: Mapping[str, StatusLine] | None = None) -> list[StatusLine]:
    """Return every line that applies to this host.

    With ``seen``, nothing live is asked: what it has of these lines was seen before.
    """

    def made(line_of: _Line) -> StatusLine | None:
        if seen is not None and line_of in _LIVE:
            return seen.get(_LIVE[line_of])
        return line_of(facts)

    return [line for line in map(made, LINES) if line is not None]
