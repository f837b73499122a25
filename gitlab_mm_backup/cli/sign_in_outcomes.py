"""What the diagnosis and the repair of the sign-in say to a person and to a machine."""

from __future__ import annotations

from ..errors import ExitCode
from ..result import Outcome
from ..sso.check import Diagnosis, Severity
from ..sso.repair import Repair, Repaired


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
        answer=dry_run,
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
