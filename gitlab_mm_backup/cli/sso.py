"""gitlab-mm sso and gitlab-mm accounts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import ExitCode, Failure
from ..result import CommandResult
from ..sso.check import Diagnosis, Verdict
from ..system import humanize
from . import common
from .common import verb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..sso.accounts import Changed, Person
    from ..sso.repair import Repair, Repaired
    from .output import Context


def conversion_preview_result(found: Changed) -> CommandResult:
    local = ", ".join(found.local_administrators) or "none"
    lines = [
        f"{humanize.number(len(found.people), 'account')} would sign in by e-mail and password",
        *(f"  {_account_line(person)}" for person in found.people),
        f"Administrators with a password of their own: {local}",
    ]
    if not found.people:
        lines = ["No account signs in through GitLab"]
    fields = {**_accounts_fields(found), "local_administrators": found.local_administrators}
    return CommandResult(fields, lines, found.warnings if found.people else [], answer=True)


def conversion_question(found: Changed) -> tuple[list[str], list[str], str]:
    """Return the lines, no warnings, and the question before a conversion."""
    lines = [f"  {_account_line(person)}" for person in found.people]
    people = humanize.number(len(found.people), "account")
    lines.append("They can no longer sign in through GitLab. Mattermost restarts.")
    return lines, [], f"Convert {people}?"


def convert_result(done: Changed) -> CommandResult:
    fields = {
        **_accounts_fields(done),
        "administrator": done.administrator,
        "mapping": str(done.mapping or "") or None,
    }
    lines = [
        f"{humanize.number(len(done.people), 'account')} now sign in by e-mail and password",
        f"  {done.administrator} can sign in without GitLab",
        '  Each sets a new password with "Forgot your password?" on the sign-in page',
        f"  undo: gitlab-mm accounts convert --undo {done.mapping}",
    ]
    return CommandResult(fields, lines if done.people else ["No account to convert"], done.warnings)


def undo_result(done: Changed) -> CommandResult:
    people = humanize.number(len(done.people), "account")
    return CommandResult(
        _accounts_fields(done), [f"{people} sign in through GitLab again"], done.warnings
    )


def _account_line(person: Person) -> str:
    marks = ["administrator"] if person.administrator else []
    marks += ["deactivated"] if person.deleteat else []
    return f"{person.username} <{person.email}>{' (' + ', '.join(marks) + ')' if marks else ''}"


def _accounts_fields(found: Changed) -> dict[str, object]:
    people = [
        {
            "username": person.username,
            "email": person.email,
            "administrator": person.administrator,
            "active": not person.deleteat,
        }
        for person in found.people
    ]
    return {"accounts": people}


@click.group(cls=common.Group)
def accounts() -> None:
    """Convert GitLab accounts to email and password."""


@accounts.command()
@click.option("--from", "before", type=click.Choice(["gitlab"]), help="The current sign-in method.")
@click.option("--to", "after", type=click.Choice(["email"]), help="The new sign-in method.")
@click.option(
    "--admin",
    metavar="NAME",
    help="An administrator with a Mattermost password, whose sign-in is tested first. The password "
    "is asked for, or read from the first line of standard input.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Show the affected accounts; change nothing.")
@common.yes_option
@common.wait_option
@click.option(
    "--undo",
    "mapping",
    type=click.Path(path_type=Path),
    help="Undo a conversion, with the file that it named.",
)
@verb
def convert(
    context: Context,
    before: str | None,
    after: str | None,
    admin: str | None,
    dry_run: bool,
    yes: bool,
    mapping: Path | None,
) -> CommandResult:
    """Convert accounts from GitLab sign-in to email and password; --undo FILE reverts it.

    The affected people then set a new password in Mattermost: "Forgot your password?".
    """
    from ..mattermost import detect
    from ..sso import accounts as sso_accounts
    from . import terminal

    if mapping is None and not (before and after):
        raise click.UsageError("Give --from gitlab --to email, or --undo FILE.")
    with context.only_run():
        site = detect.find()
        if mapping is not None:
            return undo_result(sso_accounts.undo(site, mapping))
        preview = sso_accounts.preview(site)
        if dry_run or not preview.people:
            return conversion_preview_result(preview)
        if admin is None:
            raise Failure(
                "No administrator who can sign in without GitLab is given",
                f"known: {', '.join(preview.local_administrators) or 'none'}",
                "Give --admin NAME. To create one: mmctl user create --local --system-admin",
                ExitCode.USAGE,
            )
        password = terminal.ask_password(admin)
        if not yes:
            terminal.ask(*conversion_question(preview))
        return convert_result(sso_accounts.convert(site, admin, password))


_VERDICTS = {
    Verdict.WORKS: ("sign-in works", "works", "green"),
    Verdict.BROKEN: ("sign-in is BROKEN", "BROKEN", "red"),
    Verdict.UNKNOWN: ("sign-in is unknown", "unknown", "yellow"),
}


def check_result(diagnosis: Diagnosis, fixes: Sequence[str]) -> CommandResult:
    """Return the verdict first, then why, then the fix, then what it is based on."""
    verdict = diagnosis.verdict
    code = ExitCode.DONE if verdict is Verdict.WORKS else ExitCode.FAILED
    if code is ExitCode.DONE and diagnosis.findings:
        code = ExitCode.WARNINGS
    head, word, colour = _VERDICTS[verdict]
    why = [finding.detail for finding in diagnosis.broken]
    if verdict is Verdict.UNKNOWN:
        why = list(dict.fromkeys(finding.detail for finding in diagnosis.findings))
    lines = [head, *(f"  why: {detail}" for detail in why or [diagnosis.probe.reason])]
    marks = ["  fix:", *["      "] * len(fixes)]
    lines += [f"{mark} {line}" for mark, line in zip(marks, fixes)]
    fields = {"verdict": verdict.value, "fix": list(fixes), **_sign_in_fields(diagnosis)}
    lines += ["", *_sign_in_lines(diagnosis)]
    return CommandResult(fields, lines, code=code, answer=True, tones=[(word, colour)])


def repair_result(repaired: Repaired) -> CommandResult:
    """Return the layers that were, or would be, written; remaining findings are warnings."""
    repair, after, dry_run = repaired.repair, repaired.after, repaired.wish.dry_run
    layers = repair.layers if repair else []
    left = [f"{finding.code} ({finding.layer}): {finding.detail}" for finding in after.findings]
    return CommandResult(
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
        # In a restore, remaining findings do not fail the hook: the restore reports them.
        lenient=repaired.wish.if_possible,
    )


def _repair_line(repair: Repair | None, verb: str) -> str:
    if repair is None:
        return "Nothing written: GitLab accepts none of the credentials that were found"
    pair = f"id {repair.pair.id[:4]}…, secret {repair.pair.secret.hint()}"
    if not repair.changes:
        return f"Already correct ({pair})"
    return f"{verb} the credentials from {repair.source} to {', '.join(repair.layers)} ({pair})"


def _sign_in_fields(diagnosis: Diagnosis) -> dict[str, object]:
    return {
        "candidates": [
            {"source": candidate.source, "id": candidate.pair.id, "verified": candidate.verified}
            for candidate in diagnosis.candidates
        ],
        "findings": [
            {
                "code": finding.code,
                "layer": finding.layer,
                "detail": finding.detail,
                "severity": finding.severity.value,
            }
            for finding in diagnosis.findings
        ],
        "probe": diagnosis.probe.verdict.value,
        "judged_by": "probe" if diagnosis.applications is None else "database",
    }


def _sign_in_lines(diagnosis: Diagnosis) -> list[str]:
    words = {True: "accepted", False: "refused", None: "not known"}
    lines = [
        f"{candidate.source}: id {candidate.pair.id[:4]}…, secret {candidate.pair.secret.hint()}: "
        f"{words[candidate.verified]}"
        for candidate in diagnosis.candidates
    ]
    lines += [
        f"{finding.severity.value:8} {finding.code} ({finding.layer}): {finding.detail}"
        for finding in diagnosis.findings
    ]
    if diagnosis.applications is None:
        lines.append("GitLab's database is not available on this host; the probe decides")
    return [*lines, f"Probe: {diagnosis.probe.reason}"]


@click.group(cls=common.Group)
def sso() -> None:
    """Check and repair sign-in through GitLab."""


_FROM = click.option(
    "--from",
    "named",
    multiple=True,
    metavar="SET|DIRECTORY",
    help="Also look for credentials there; may be repeated.",
)


@sso.command("check")
@_FROM
@verb
def sso_check(context: Context, named: tuple[str, ...]) -> CommandResult:
    """Check whether people can sign in through GitLab; if not, show why and the fix.

    Exit code 0: it works; 4: it works, with warnings; 1: it is broken, or not known because GitLab
    or its database does not answer.
    """
    from ..config import hooks
    from ..mattermost import detect
    from ..sso import advice, check

    store = context.store()
    site = detect.find(hooks.site_kind())
    found = check.examine_folders(site, store, named)
    return check_result(found, advice.fixes(site, found))


@sso.command("repair")
@_FROM
@click.option(
    "--rotate", is_flag=True, help="If no credentials work: write a new secret into GitLab's row."
)
@click.option(
    "--register", is_flag=True, help="If no credentials work: register a new application in GitLab."
)
@click.option(
    "--if-possible", is_flag=True, help="If no credentials work: warn instead of failing."
)
@click.option("-n", "--dry-run", is_flag=True, help="Show what would be written; change nothing.")
@click.option("--undo", is_flag=True, help="Undo the last repair: write back the former files.")
@verb
def sso_repair(
    context: Context,
    named: tuple[str, ...],
    rotate: bool,
    register: bool,
    if_possible: bool,
    dry_run: bool,
    undo: bool,
) -> CommandResult:
    """Write the credentials that GitLab accepts into Mattermost's configuration."""
    from ..config import hooks
    from ..mattermost import detect
    from ..sso import repair

    context.load_everything()
    with hooks.our_turn():
        site = detect.find(hooks.site_kind())
        if undo:
            layers = repair.undo(site)
            return CommandResult({"written": layers}, [f"Restored: {', '.join(layers)}"])
        kept = Path(os.environ.get(repair.UNDO_VARIABLE, repair.UNDO_FILE))
        wish = repair.RepairOptions(named, rotate, register, if_possible, dry_run)
        done = repair.repair(site, context.store(), wish, kept)
        return repair_result(done)
