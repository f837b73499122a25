"""What became of off-site copies, for a person and for a machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..config.identity import Host
from ..config.settings import Remote
from ..errors import Failure
from ..health import remarks
from ..offsite.copies import RemoteEntry
from ..offsite.sync import Served
from ..restore.choice import Found
from ..result import Outcome
from ..store import soundness
from ..system import humanize

Known = Mapping[str, Found]  # by set

_CHECKS = {"pieces": "the hashes of their pieces", "read back": "all of them read again"}


def with_copies(outcome: Outcome, served: Sequence[Served], warnings: list[str]) -> Outcome:
    """Return the outcome of a backup with what became of its copies."""
    return replace(
        outcome,
        fields={**outcome.fields, "copies": fields(served)},
        lines=outcome.lines + lines(served),
        warnings=outcome.warnings + warnings,
    )


def of_offsite(served: Sequence[Served], warnings: list[str]) -> Outcome:
    """Tell of gitlab-mm offsite, which was asked for copies alone: without them it has failed."""
    told = lines(served)
    if not served and not warnings:
        told = ["No place outside this machine is known: offsite in config.yml"]
    elif not told and not warnings:
        told = [f"All copies are there: {', '.join(one.remote.name for one in served)}"]
    error = Failure("Not all sets have their copies", "; ".join(warnings)) if warnings else None
    return Outcome({"copies": fields(served)}, told, error=error)


def with_places(listed: Outcome, copies: Mapping[str, Sequence[str]]) -> Outcome:
    """Return the list of sets with where each has a checked copy; ``copies`` tells that by set."""
    sets = list(listed.fields["sets"])
    lines = list(listed.lines)
    for number, one in enumerate(sets):
        if one["complete"]:
            places = list(copies.get(one["name"], ()))
            sets[number] = {**one, "copies": places}
            lines[number] += f"\n  copies: {', '.join(places)}" if places else ""
    return replace(listed, fields={**listed.fields, "sets": sets}, lines=lines)


def of_copies(remote: Remote, entries: Sequence[RemoteEntry], known: Known, here: Host) -> Outcome:
    """Tell the copies at one remote, as the list of sets does."""
    return Outcome(
        {"sets": [_entry_fields(remote, one, known[one.name], here) for one in entries]},
        [_entry_line(one, known[one.name], here) for one in entries]
        or [f"There is no copy of a set at {remote.name}"],
        answer=True,
    )


def _entry_line(one: RemoteEntry, found: Found, here: Host) -> str:
    if one.manifest is None or one.copy is None:
        return f"{one.name}  NOT COMPLETE: {one.problem}"
    moment, size = humanize.moment(one.manifest.made), humanize.size(one.bytes)
    increment = one.manifest.increment
    builds = f"  (builds on {increment.base})" if increment else ""
    line = f"{one.name}  {moment}  {size:>10}  from {one.manifest.host}{builds}"
    told = remarks.of(one.manifest, found.flaws, here)
    lines = [line, *remarks.origin_lines(found.origin), *(f"  {words}" for words in told)]
    if one.copy.recipients:
        lines.append(f"  encrypted to {'; '.join(one.copy.recipients)}")
    return "\n".join(lines + [f"  {words}" for words in soundness.caveat_lines(one.manifest.told)])


def _entry_fields(remote: Remote, one: RemoteEntry, found: Found, here: Host) -> dict[str, object]:
    manifest = one.manifest
    if manifest is None or one.copy is None:
        return {"name": one.name, "complete": False, "problem": one.problem}
    return {
        "name": one.name,
        "complete": True,
        "path": remote.place(one.name),
        "made": manifest.started,
        "purpose": manifest.purpose,
        "base": manifest.increment.base if manifest.increment else None,
        "host": manifest.host,
        **remarks.fields(manifest, found.flaws, here),
        **remarks.origin_fields(found.origin),
        "gitlab": manifest.gitlab,
        "mattermost": manifest.mattermost,
        "rows": manifest.rows,
        "files": manifest.files.files,
        "bytes": one.bytes,
        "told": list(manifest.told),
        "recipients": list(one.copy.recipients),
    }


def fields(served: Sequence[Served]) -> list[dict[str, object]]:
    return [
        {
            "remote": one.remote.name,
            "encrypted": bool(one.remote.recipients),
            "copied": {
                name: {"bytes": there.bytes, "checks": list(there.checks)}
                for name, there in one.copied.items()
            },
            "removed": one.removed,
            "beyond_rules": one.staying,
            "problems": one.problems,
        }
        for one in served
    ]


def lines(served: Sequence[Served]) -> list[str]:
    told = []
    for one in served:
        for name, there in one.copied.items():
            how = ", ".join(_CHECKS.get(check, check) for check in there.checks)
            told.append(
                f"Copied {name} to {one.remote.name}: {humanize.size(there.bytes)}, checked by {how}"
            )
        told += [f"Removed {name} from {one.remote.name}" for name in one.removed]
        if one.staying:
            copies = humanize.number(one.staying, "copy", "copies")
            told.append(f"{copies} beyond the rules stay at {one.remote.name} (add_only)")
    return told
