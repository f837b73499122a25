"""What each job's result says to a person and to a machine."""

from __future__ import annotations

from collections.abc import Sequence

from . import text
from .backup import Made
from .doctor import Check, Result
from .errors import ExitCode
from .gate import Passed
from .gitlab import Verdict
from .manifest import Manifest
from .outcome import Outcome
from .preview import Preview
from .recovery import RolledBack
from .repair import Repair, Repaired
from .restore import Restored
from .retention import Decision
from .sign_in import Diagnosis, Severity
from .store.local import BackupSet, Entry

_BRIEF = 4  # lines


def of_backup(made: Made) -> Outcome:
    manifest = made.set.manifest
    return Outcome(
        {
            "set": made.set.name,
            "path": str(made.set.path),
            "parts": {
                name: {"file": part.file, "bytes": part.bytes, "sha256": part.sha256}
                for name, part in manifest.parts.items()
            },
            "rows": manifest.rows,
            "files": manifest.files.files,
            "bytes": manifest.bytes,
            "removed": made.removed,
        },
        [
            f"Made {made.set.path}",
            f"  {_amounts(manifest)} in {manifest.seconds:.1f} s",
            *(f"Removed {name}" for name in made.removed),
        ],
        made.warnings,
    )


def of_gate(passed: Passed) -> Outcome:
    fields = {"set": passed.set or None}
    return Outcome(fields, passed.lines, passed.warnings, answer=True, lasting=True)


def of_restore(set_: BackupSet, restored: Restored) -> Outcome:
    warnings = list(restored.warnings)
    if restored.sign_in.verdict is not Verdict.ACCEPTED:
        warnings.append(f"Sign-in through GitLab: {restored.sign_in.reason}")
    changed = restored.settings_changed
    return Outcome(
        {
            "set": set_.name,
            "parts": list(restored.parts),
            "rows": restored.rows,
            "files": restored.files,
            "bytes": restored.bytes,
            "settings_changed": changed,
            "sign_in": restored.sign_in.verdict.value,
            "safety_set": restored.safety_set or None,
        },
        [
            f"Restored {set_.name}",
            f"  {text.number(restored.rows, 'row')}, {text.number(restored.files, 'file')}, "
            f"{text.size(restored.bytes)}",
            f"  {text.number(len(changed), 'setting')} changed" if changed else "  Same settings",
            *([f"  Before it: {restored.safety_set}"] if restored.safety_set else []),
            f"  Sign-in: {restored.sign_in.reason}",
        ],
        warnings,
    )


def of_recovery(taken: RolledBack) -> Outcome:
    """Tell which state is live after --rollback or --continue."""
    words = {
        "old": "Everything is as it was before the restore",
        "new": "The restore was complete; what was left of the previous state is removed",
    }
    return Outcome({"state": taken.state}, [words[taken.state]], taken.warnings, answer=True)


def of_preview(preview: Preview) -> Outcome:
    code = ExitCode.FAILED if preview.obstacle else ExitCode.DONE
    changed = preview.settings_changed
    lines = [
        f"Set {preview.set.name}: {_amounts(preview.set.manifest)}",
        *(f"  {number}. {step}" for number, step in enumerate(preview.steps, 1)),
        *(f"Room: {room}" for room in preview.room),
        f"Settings that change: {', '.join(changed) or 'none'}",
        f"Time: about {text.duration(preview.seconds)}",
    ]
    if preview.obstacle:
        lines.append(f"It would be refused: {preview.obstacle}")
    fields = {
        "set": preview.set.name,
        "steps": preview.steps,
        "room": preview.room,
        "settings_changed": changed,
        "expected_seconds": round(preview.seconds),
        "obstacle": preview.obstacle or None,
    }
    return Outcome(fields, lines, code=code, answer=True)


def of_list(entries: Sequence[Entry], folder: str) -> Outcome:
    lines = [_list_line(entry) for entry in entries]
    fields = [_list_fields(entry) for entry in entries]
    return Outcome({"sets": fields}, lines or [f"There is no set in {folder}"], answer=True)


def _list_line(entry: Entry) -> str:
    if entry.set is None:
        return f"{entry.name}  NOT COMPLETE: {entry.problem}"
    manifest = entry.set.manifest
    size = text.size(manifest.bytes)
    safety = "  (safety set)" if manifest.safety else ""
    moment = text.moment(manifest.made)
    return f"{entry.name}  {moment}  {size:>10}  {_amounts(manifest)}{safety}"


def _list_fields(entry: Entry) -> dict[str, object]:
    if entry.set is None:
        return {"name": entry.name, "complete": False, "problem": entry.problem}
    manifest = entry.set.manifest
    return {
        "name": entry.name,
        "complete": True,
        "path": str(entry.set.path),
        "made": manifest.started,
        "purpose": manifest.purpose,
        "host": manifest.host,
        "gitlab": manifest.gitlab,
        "mattermost": manifest.mattermost,
        "rows": manifest.rows,
        "files": manifest.files.files,
        "bytes": manifest.bytes,
    }


def of_verify(set_: BackupSet) -> Outcome:
    checks = [
        {"name": name, "result": "passed", "detail": ""} for name in ("checksums", "structure")
    ]
    return Outcome({"set": set_.name, "checks": checks}, [f"{set_.name} is whole"], answer=True)


def of_prune(
    decisions: Sequence[Decision], removed: list[str], problems: list[str], dry_run: bool
) -> Outcome:
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
        {
            "checks": [
                {"name": one.name, "result": one.result.value, "detail": one.detail}
                for one in checks
            ]
        },
        _brief_lines(checks)
        if brief
        else [f"{one.name:16} {one.result.value:8} {one.detail}" for one in checks],
        code=code,
        answer=True,
    )


def _brief_lines(checks: Sequence[Check]) -> list[str]:
    """Return what the installation of the package says, in _BRIEF lines at most."""
    gitlab, mattermost, *others = checks
    found = [gitlab.detail] + (
        [mattermost.detail] if mattermost.result is not Result.NOT_RUN else []
    )
    amiss = [
        f"  {one.name}: {one.detail}"
        for one in others
        if one.result in (Result.FAILED, Result.WARNING)
    ]
    if len(amiss) >= _BRIEF:
        amiss = [*amiss[: _BRIEF - 2], "  and more: gitlab-mm doctor"]
    return [f"gitlab-mm-backup: {'; '.join(found)}", *amiss]


def of_check(diagnosis: Diagnosis) -> Outcome:
    severities = {finding.severity for finding in diagnosis.findings}
    code = ExitCode.DONE
    if Severity.BROKEN in severities:
        code = ExitCode.FAILED
    elif Severity.WARNING in severities:
        code = ExitCode.WARNINGS
    return Outcome(_sign_in_fields(diagnosis), _sign_in_lines(diagnosis), code=code, answer=True)


def of_repair(repaired: Repaired) -> Outcome:
    """Tell what was, or would be, written; a finding that is left is a warning."""
    repair, after, dry_run = repaired.repair, repaired.after, repaired.wish.dry_run
    layers = repair.layers if repair else []
    left = [f"{one.code} ({one.layer}): {one.detail}" for one in after.findings]
    return Outcome(
        {
            **_sign_in_fields(after),
            "source": repair.source if repair else None,
            "written": [] if dry_run else layers,
            "planned": layers,
            "restarted": repaired.restarted,
        },
        [
            _repair_line(repair, "Would write" if dry_run else "Wrote"),
            *(["Restarted Mattermost"] if repaired.restarted else []),
            f"Probe: {after.probe.reason}",
        ],
        [] if dry_run else left,
        # Within a restore what is left is no failure of the hook: the restore tells it at its end.
        lenient=repaired.wish.if_possible,
    )


def _repair_line(repair: Repair | None, verb: str) -> str:
    if repair is None:
        return "Nothing was written: there are no credentials that GitLab accepts"
    pair = f"id {repair.pair.id[:4]}…, secret {repair.pair.secret.hint()}"
    if not repair.changes:
        return f"Nothing had to be written ({pair})"
    return f"{verb} the credentials from {repair.source} to {', '.join(repair.layers)} ({pair})"


def _sign_in_fields(diagnosis: Diagnosis) -> dict[str, object]:
    return {
        "candidates": [
            {"source": one.source, "id": one.pair.id, "verified": one.verified}
            for one in diagnosis.candidates
        ],
        "findings": [
            {
                "code": one.code,
                "layer": one.layer,
                "detail": one.detail,
                "severity": one.severity.value,
            }
            for one in diagnosis.findings
        ],
        "probe": diagnosis.probe.verdict.value,
        "judged_by": "probe" if diagnosis.applications is None else "database",
    }


def _sign_in_lines(diagnosis: Diagnosis) -> list[str]:
    words = {True: "accepted", False: "refused", None: "not known"}
    lines = [
        f"{one.source}: id {one.pair.id[:4]}…, secret {one.pair.secret.hint()}: "
        f"{words[one.verified]}"
        for one in diagnosis.candidates
    ]
    lines += [
        f"{one.severity.value:8} {one.code} ({one.layer}): {one.detail}"
        for one in diagnosis.findings
    ]
    if diagnosis.applications is None:
        lines.append("GitLab's database could not be asked on this host: the probe decides")
    return [*lines, f"Probe: {diagnosis.probe.reason}"]


def _amounts(manifest: Manifest) -> str:
    rows = text.number(manifest.rows, "row")
    files = text.number(manifest.files.files, "file")
    return f"{rows}, {files}"
