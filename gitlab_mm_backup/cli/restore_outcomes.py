"""What a restore says to a person and to a machine: done, taken back, or only looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..config import identity
from ..config.identity import Host
from ..errors import ExitCode
from ..restore.choice import Chosen
from ..restore.job import Restored
from ..restore.preview import Preview
from ..restore.rollback import RolledBack
from ..restore.search_index import Built
from ..result import Outcome
from ..sso.oauth import Verdict
from ..store import manifest, soundness
from ..store.sets import BackupSet
from ..system import humanize
from . import search_outcomes

if TYPE_CHECKING:  # whoever calls has these already
    from ..config.identity import Host
    from ..restore.choice import Chosen
    from ..restore.job import Restored
    from ..restore.preview import Preview
    from ..restore.rollback import RolledBack
    from ..restore.search_index import Built
    from ..store.sets import BackupSet

_SHOWN = 8  # digits of an id that tell a host from others


def of_restore(set_: BackupSet, restored: Restored, chosen: Chosen, here: Host) -> Outcome:
    """Tell of a restore onto the host ``here``, and of how its set was ``chosen``."""
    warnings = [*chosen.warnings, *restored.warnings]
    notes = [*chosen.notes, *_former_host(set_, here)]
    if restored.sign_in.verdict is not Verdict.ACCEPTED:
        warnings.append(f"Sign-in through GitLab: {restored.sign_in.reason}")
    changed, times, search = restored.settings_changed, restored.times, restored.search
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
            "downtime_seconds": round(times.down, 3),
            "fill_seconds": round(times.fill, 3),
            "exchange_seconds": round(times.exchange, 3),
            "search": search_outcomes.fields(search),
            "gitlab_side": restored.gitlab_side,
            "notes": notes,
        },
        [
            f"Restored {set_.name}",
            f"  {humanize.number(restored.rows, 'row')}, {humanize.number(restored.files, 'file')}, "
            f"{humanize.size(restored.bytes)}",
            f"  {humanize.number(len(changed), 'setting')} changed"
            if changed
            else "  Same settings",
            *([f"  Before it: {restored.safety_set}"] if restored.safety_set else []),
            f"  Mattermost was down for {humanize.duration(times.down)}, {humanize.duration(times.fill)} "
            "of it to load and unpack",
            *([search_outcomes.line(search)] if search else []),
            f"  Sign-in: {restored.sign_in.reason}",
            *restored.gitlab_side,
            *(f"  {note}" for note in notes),
        ],
        warnings,
    )


def _former_host(set_: BackupSet, here: Host) -> list[str]:
    """Return what is left to say where another host had made the set: whether it was this one."""
    former = manifest.host_of(set_.manifest)
    if here.owns(former) or former in here.others:
        return []
    name = identity.shown(former)[:_SHOWN] if identity.has_id(former) else identity.shown(former)
    return [
        f"Sets of the former host ({set_.manifest.host}) are kept, and pruned only after: "
        f"gitlab-mm host take-over {name}"
    ]


def of_recovery(taken: RolledBack, search: Built | None = None) -> Outcome:
    """Tell which state is live after --rollback or --continue."""
    words = {
        "old": "Everything is as it was before the restore",
        "new": "The restore was complete; what was left of the previous state is removed",
    }
    lines = [words[taken.state], *([search_outcomes.line(search)] if search else [])]
    problems = search.problems if search else []
    fields = {"state": taken.state, "search": search_outcomes.fields(search)}
    return Outcome(fields, lines, taken.warnings + problems, answer=True)


def of_preview(preview: Preview, chosen: Chosen) -> Outcome:
    manifest = preview.set.manifest
    code = ExitCode.FAILED if preview.obstacle else ExitCode.DONE
    changed = preview.settings_changed
    lines = [
        f"Set {preview.set.name}: {humanize.amounts(manifest.rows, manifest.files.files)}",
        *(f"  {note}" for note in chosen.notes),
        *(f"  {number}. {step}" for number, step in enumerate(preview.steps, 1)),
        *soundness.caveat_lines(preview.told),
        *(f"Room: {room}" for room in preview.room),
        f"Settings that change: {', '.join(changed) or 'none'}",
        *(["What is done to the set's config.json:"] if preview.patch else []),
        *(f"  {line}" for line in preview.patch),
        f"Time: about {humanize.duration(preview.seconds)}",
    ]
    if preview.obstacle:
        lines.append(f"It would be refused: {preview.obstacle}")
    fields = {
        "set": preview.set.name,
        "steps": preview.steps,
        "room": preview.room,
        "settings_changed": changed,
        "patch": preview.patch,
        "expected_seconds": round(preview.seconds),
        "obstacle": preview.obstacle or None,
        "notes": list(chosen.notes),
        "told": preview.told,
    }
    warnings = [*chosen.warnings, *preview.warnings]
    return Outcome(fields, lines, warnings, code=code, answer=True)
