"""What a conversion of accounts says to a person and to a machine."""

from __future__ import annotations

from ..result import Outcome
from ..sso.accounts import Changed, Person
from ..system import humanize


def of_preview(found: Changed) -> Outcome:
    local = ", ".join(found.local_administrators) or "none"
    lines = [
        f"{humanize.number(len(found.people), 'account')} would sign in by e-mail and password",
        *(f"  {_line(one)}" for one in found.people),
        f"Administrators with a password of their own: {local}",
    ]
    if not found.people:
        lines = ["No account signs in through GitLab"]
    fields = {**_fields(found), "local_administrators": found.local_administrators}
    return Outcome(fields, lines, found.warnings if found.people else [], answer=True)


def question(found: Changed) -> tuple[list[str], list[str], str]:
    """Return what the operator is told before a conversion, no loud warning, and the question."""
    told = [f"  {_line(one)}" for one in found.people]
    people = humanize.number(len(found.people), "account")
    told.append("GitLab no longer signs them in; Mattermost restarts.")
    return told, [], f"Convert {people}?"


def of_convert(done: Changed) -> Outcome:
    fields = {
        **_fields(done),
        "administrator": done.administrator,
        "mapping": str(done.mapping or "") or None,
    }
    lines = [
        f"{humanize.number(len(done.people), 'account')} now sign in by e-mail and password",
        f"  {done.administrator} can sign in without GitLab",
        "  Each asks Mattermost for a new password: Forgot your password?, at the sign-in page",
        f"  To take it back: gitlab-mm accounts convert --undo {done.mapping}",
    ]
    return Outcome(fields, lines if done.people else ["Nobody is left to convert"], done.warnings)


def of_undo(done: Changed) -> Outcome:
    people = humanize.number(len(done.people), "account")
    return Outcome(_fields(done), [f"{people} sign in through GitLab again"], done.warnings)


def _line(one: Person) -> str:
    marks = ["administrator"] if one.administrator else []
    marks += ["deactivated"] if one.deleteat else []
    return f"{one.username} <{one.email}>{' (' + ', '.join(marks) + ')' if marks else ''}"


def _fields(found: Changed) -> dict[str, object]:
    people = [
        {
            "username": one.username,
            "email": one.email,
            "administrator": one.administrator,
            "active": not one.deleteat,
        }
        for one in found.people
    ]
    return {"accounts": people}
