"""What each job's result says to a person and to a machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..backup.job import Made
from ..checks import LASTING, Check, Result
from ..config import identity
from ..config.identity import Host
from ..config.origin import Origin
from ..errors import ExitCode, Failure
from ..health import remarks
from ..health.report import Report
from ..health.upgrade_gate import Passed
from ..result import Outcome
from ..store import soundness
from ..store.check_records import (
    Record,
    Verdict,
    as_fields,
    damaged,
    latest_rehearsal,
    latest_verification,
)
from ..store.inventory import Store
from ..store.prune import Plan, Pruned
from ..store.retention import FOR_EVER, Decision
from ..store.sets import BackupSet, Entry
from ..store.soundness import Flaw
from ..system import humanize

if TYPE_CHECKING:  # whoever calls has these already, and a list needs no restore
    from ..backup.job import Made
    from ..config.identity import Host
    from ..config.origin import Origin
    from ..health.report import Report
    from ..health.upgrade_gate import Passed
    from ..store.inventory import Store
    from ..store.prune import Plan, Pruned
    from ..store.retention import Decision
    from ..store.sets import BackupSet, Entry
    from ..store.soundness import Flaw

_VERDICTS = {
    Verdict.PASSED: "passed",
    Verdict.INCOMPLETE: "passed as far as it went",
    Verdict.FAILED: "FAILED",
}
_BRIEF = 4  # lines


def of_backup(made: Made) -> Outcome:
    manifest = made.set.manifest
    return Outcome(
        {
            "set": made.set.name,
            "path": made.set.reference,
            "parts": {
                name: {"file": part.file, "bytes": part.bytes, "sha256": part.sha256}
                for name, part in manifest.parts.items()
            },
            "rows": manifest.rows,
            "files": manifest.files.files,
            "bytes": manifest.bytes,
            "base": made.set.base and made.set.base.name,
            "removed": made.removed,
            "notes": made.notes,
            "shrunken": list(manifest.shrunken),
            "salvaged": manifest.salvaged,
            "told": list(manifest.told),
        },
        [
            f"Made {made.set.reference}{_builds_on(made.set)}",
            f"  {humanize.amounts(manifest.rows, manifest.files.files)} in {manifest.seconds:.1f} s",
            *(f"Removed {name}" for name in made.removed),
            *made.notes,
        ],
        made.warnings,
    )


def of_gate(passed: Passed) -> Outcome:
    fields = {"set": passed.set or None}
    return Outcome(fields, passed.lines, passed.warnings, answer=True, lasting=True)


@dataclass(frozen=True)
class Listed:
    """A set of a list, or what is no complete one, with all that is known of it."""

    entry: Entry
    proven: Sequence[Record] = ()
    flaws: Sequence[Flaw] = ()
    origin: Origin | None = None  # None where it is not complete


def of_list(listed: Sequence[Listed], store: Store, here: Host) -> Outcome:
    """Tell the sets of a store, and how many of other hosts it does not show."""
    newest = {one.entry.name: latest_verification(one.proven) for one in listed}
    damaged = {name for name, record in newest.items() if record and not record.whole}
    lines = [_list_line(one, damaged, here) for one in listed]
    fields = [_list_fields(one, damaged, here) for one in listed]
    others = store.others()
    lines += [
        f"{humanize.number(one.sets, 'set')} of host {one.name} ({identity.shown(one.host)[:8]}), "
        f"the newest {one.newest}: not shown"
        for one in others
    ]
    hidden = [{"host": one.name, "sets": one.sets, "newest": one.newest} for one in others]
    told = lines or [f"There is no set in {store.where}"]
    return Outcome({"sets": fields, "others": hidden}, told, answer=True)


def _builds_on(set_: BackupSet) -> str:
    return f"  (builds on {set_.base.name})" if set_.base else ""


def _damaged_base(set_: BackupSet, damaged: set[str]) -> str | None:
    """Return the lowest set below ``set_`` whose newest verification found it damaged.

    What builds on it is damaged by that alone.
    """
    return next((one.name for one in set_.chain[:-1] if one.name in damaged), None)


def _list_line(one: Listed, damaged: set[str], here: Host) -> str:
    entry = one.entry
    if entry.set is None:
        return f"{entry.name}  NOT COMPLETE: {entry.problem}"
    manifest = entry.set.manifest
    size = humanize.size(manifest.bytes)
    safety = "  (safety set)" if manifest.safety else ""
    safety += "  (salvaged)" if manifest.salvaged is not None else ""
    moment = humanize.moment(manifest.made)
    head = f"{entry.name}  {moment}  {size:>10}  {humanize.amounts(manifest.rows, manifest.files.files)}{safety}"
    lines = [
        head + _builds_on(entry.set),
        f"  {_proof(one.proven)}",
        *remarks.origin_lines(one.origin),
    ]
    lines += [f"  {remark}" for remark in remarks.of(manifest, one.flaws, here)]
    base = _damaged_base(entry.set, damaged)
    if base is not None:
        lines.append(f"  NOT SOUND: {base}, which it builds on, is DAMAGED")
    lines += [f"  {line}" for line in soundness.caveat_lines(manifest.told)]
    return "\n".join(lines)


def _proof(proven: Sequence[Record]) -> str:
    """Return in words what the newest verification and rehearsal of a set came to."""
    verified, rehearsed = latest_verification(proven), latest_rehearsal(proven)
    if verified is None:
        return "never verified, never rehearsed"
    words = f"{'whole' if verified.whole else 'DAMAGED'} on {humanize.moment(verified.made)}"
    if rehearsed is None:
        return f"{words}, never rehearsed"
    result = _VERDICTS[rehearsed.verdict]
    return f"{words}, rehearsal {result} on {humanize.moment(rehearsed.made)}"


def _list_fields(one: Listed, damaged: set[str], here: Host) -> dict[str, object]:
    entry, proven = one.entry, one.proven
    if entry.set is None:
        return {"name": entry.name, "complete": False, "problem": entry.problem}
    manifest = entry.set.manifest
    verified, rehearsed = latest_verification(proven), latest_rehearsal(proven)
    return {
        "name": entry.name,
        "complete": True,
        "path": entry.set.reference,
        "made": manifest.started,
        "purpose": manifest.purpose,
        "base": entry.set.base and entry.set.base.name,
        "damaged_base": _damaged_base(entry.set, damaged),
        "salvaged": manifest.salvaged,
        "told": list(manifest.told),
        "host": manifest.host,
        **remarks.fields(manifest, one.flaws, here),
        **remarks.origin_fields(one.origin),
        "gitlab": manifest.gitlab,
        "mattermost": manifest.mattermost,
        "rows": manifest.rows,
        "files": manifest.files.files,
        "bytes": manifest.bytes,
        "verified": verified and {"at": verified.started, "whole": verified.whole},
        "rehearsed": rehearsed
        and {
            "at": rehearsed.started,
            "result": rehearsed.verdict.value,
            "depth": rehearsed.depth.value,
            "recovery_seconds": rehearsed.recovery_seconds,
        },
    }


def of_verify(set_: BackupSet, record: Record, origin: Origin, warnings: list[str]) -> Outcome:
    error = damaged(set_.name, record.checks)
    return Outcome(
        {
            "set": set_.name,
            **remarks.origin_fields(origin),
            "checks": _check_fields(record.checks),
        },
        [] if error else [f"{set_.name} is whole, and {origin.words}"],
        warnings,
        answer=True,
        error=error,
    )


def of_rehearse(made: Sequence[Record], warnings: list[str], *, expected: bool) -> Outcome:
    """Tell what rehearsals came to; ``expected``: it is no news that something was not run."""
    only = made[0] if len(made) == 1 else None
    if not expected:
        warnings = warnings + [
            f"{one.set}: {check.name} was not run: {check.detail}"
            for one in made
            for check in one.checks
            if check.result is Result.NOT_RUN and one.verdict is not Verdict.FAILED
        ]
    return Outcome(
        {
            "set": only and only.set,
            "result": only and only.verdict.value,
            "checks": _check_fields(only.checks) if only else [],
            "recovery_seconds": only and only.recovery_seconds,
            "rehearsals": [{**as_fields(one), "result": one.verdict.value} for one in made],
        },
        [line for one in made for line in _rehearsal_lines(one)] or ["There is no set to rehearse"],
        warnings,
        error=_unproven(made),
    )


def _unproven(made: Sequence[Record]) -> Failure | None:
    bad = [one for one in made if one.verdict is Verdict.FAILED]
    if not bad:
        return None
    failed = [(one, check) for one in bad for check in one.checks if check.result is Result.FAILED]
    found = [f"{one.set}: {check.name}: {check.detail}" for one, check in failed]
    lasting = any(LASTING in check.detail for _, check in failed)
    return Failure(
        f"{humanize.number(len(bad), 'set')} did not pass the rehearsal",
        "; ".join(found),
        "Do what the detail says; the page what-a-backup-contains tells more."
        if lasting
        else "Make a new set and rehearse it: gitlab-mm backup; gitlab-mm rehearse",
    )


def _rehearsal_lines(record: Record) -> list[str]:
    name = f"Rehearsal of {record.set}"
    lines = [
        f"{name} {_VERDICTS[record.verdict]} in {humanize.duration(record.seconds)}",
        *(f"  {_check_line(one)}" for one in record.checks),
    ]
    if record.recovery_seconds is not None:
        took = humanize.duration(max(1, record.recovery_seconds))
        without = ", without the indexes of the search" if record.left_out else ""
        lines.append(f"  Recovery time to expect: {took}{without}")
    return lines


def of_report(made: Report, path: Path) -> Outcome:
    """Tell where the page is; that nothing is proven is no failure of writing it."""
    verdict = f"{made.judgement.standing.value.capitalize()}: {made.judgement.reason}"
    lines = [str(path), f"  {verdict}", *(f"  {one}" for one in made.concerns)]
    return Outcome({"path": str(path), **made.fields()}, lines, answer=True)


def of_prune(
    done: Sequence[Plan | Pruned], removed: list[str], problems: list[str], *, dry_run: bool
) -> Outcome:
    """Tell what became of each set; of several hosts' sets at once, what went counts."""
    known: dict[str, Decision] = {}
    for one in (decision for each in done for decision in each.decisions):
        if one.name not in known or not one.keep:
            known[one.name] = one
    decisions = list(known.values())
    lines = [f"{'keep' if one.keep else 'remove':6}  {one.name}  {one.reason}" for one in decisions]
    fields = [{"name": one.name, "keep": one.keep, "reason": one.reason} for one in decisions]
    return Outcome({"sets": fields, "removed": removed}, lines, problems, answer=dry_run)


def of_doctor(checks: Sequence[Check], brief: bool = False) -> Outcome:
    """Tell every check, or in ``brief`` what there is and what is amiss."""
    results = {check.result for check in checks}
    code = ExitCode.DONE
    if Result.FAILED in results:
        code = ExitCode.FAILED
    elif Result.WARNING in results:
        code = ExitCode.WARNINGS
    return Outcome(
        {"checks": _check_fields(checks)},
        _brief_lines(checks) if brief else [_check_line(one) for one in checks],
        code=code,
        answer=True,
    )


def _check_fields(checks: Sequence[Check]) -> list[dict[str, str]]:
    return [{"name": one.name, "result": one.result.value, "detail": one.detail} for one in checks]


def _brief_lines(checks: Sequence[Check]) -> list[str]:
    """Return what the installation of the package says, in _BRIEF lines at most."""
    gitlab, mattermost, *others = checks
    found = [gitlab.detail] + (
        [mattermost.detail] if mattermost.result is not Result.NOT_RUN else []
    )
    amiss = [
        f"  {one.name}: {one.detail}"
        for one in others
        if one.result in (Result.FAILED, Result.WARNING) or one.detail == FOR_EVER
    ]
    if len(amiss) >= _BRIEF:
        amiss = [*amiss[: _BRIEF - 2], "  and more: gitlab-mm doctor"]
    return [f"gitlab-mm-backup: {'; '.join(found)}", *amiss]


def _check_line(check: Check) -> str:
    return f"{check.name:16} {check.result.value:8} {check.detail}".rstrip()
