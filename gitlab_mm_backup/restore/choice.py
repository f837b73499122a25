"""The sets to choose from, with their flaws; and the choice where none is named."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from .. import clock
from ..backup.live import Live
from ..config import identity, keys
from ..config.identity import Host
from ..config.keys import Ring
from ..config.origin import Origin
from ..config.settings import Remote
from ..errors import ExitCode, Failure
from ..offsite import copies, ledger
from ..offsite.copies import RemoteEntry as Copied
from ..store import check_records, inventory, prune, soundness
from ..store import manifest as store_manifest
from ..store.check_records import CheckRecord, Records
from ..store.inventory import Lineage, Store, lineage_of
from ..store.manifest import Manifest
from ..store.sets import BackupSet, SetEntry, cut_short
from ..store.soundness import Flaw, Kind
from ..system import humanize
from ..translation import Text, amount, joined, phrase

ELSEWHERE = """Say where the sets are:
--from gitlab: where GitLab uploads its own backups
--from nas:backups/mattermost: a remote of rclone
--from restic:REPOSITORY: a restic repository
/path/of/a/set: on a disk of this host"""
_SHOWN = 8  # digits of an installation's id that tell it from others


@dataclass(frozen=True)
class Found:
    """A set to choose from, in any place."""

    name: str
    manifest: Manifest | None  # None where it is not complete
    flaws: Sequence[Flaw] = ()
    origin: Origin | None = None  # None where it is not complete
    records: Sequence[CheckRecord] = ()  # of its checks, oldest first; a copy has none

    def has(self, *kinds: Kind) -> bool:
        return any(flaw.kind in kinds for flaw in self.flaws)


@dataclass(frozen=True)
class Want:
    """The host that needs a set, and the conditions on it."""

    host: Host
    host_name: str
    live: Live
    before: datetime | None = None  # the newest made before a moment
    installation: str = ""  # its id, or the first digits of it
    of_host: str = ""  # the host that made it, by id or name
    sound: bool = True  # whether a set that is not sound will not do


@dataclass(frozen=True)
class Chosen:
    """The chosen set, with warnings and notes about the choice."""

    name: str
    warnings: Sequence[str] = ()
    notes: Sequence[str] = ()


class Several(Failure):
    """Sets of several installations or hosts match; ``choices`` has the newest of each."""

    choices: Sequence[Manifest] = ()


Groups = Mapping[Lineage, Sequence[Found]]


def choose(found: Sequence[Found], want: Want, where: str) -> Chosen:
    """Return the set of ``found`` to restore, never a safety set.

    Raises Several where only the operator can decide, and Failure where there is none.
    """
    wanted = [candidate for candidate in found if _counts(candidate, want)]
    groups = _groups(wanted, want)
    usable = _usable(groups, want.sound)
    if not usable:
        raise _none(found, want, where)
    picked = _pick(usable, want, where)
    chosen = usable[picked][0]
    warnings, notes = _passed_over(found, chosen, picked, want)
    return Chosen(chosen.name, warnings, [*notes, *_others(usable, picked, want)])


def _counts(set_: Found, want: Want) -> bool:
    if set_.manifest is None or set_.manifest.safety:
        return False
    if want.before is not None and set_.manifest.made >= want.before:
        return False
    if want.of_host and not prune.matches(set_.manifest, want.of_host):
        return False
    return set_.manifest.installation.startswith(want.installation)


def _whose(manifest: Manifest, want: Want) -> Lineage:
    """Return a set's lineage; this host's sets have one, and old sets count as current."""
    lineage = lineage_of(manifest)
    if not want.host.owns(lineage.host):
        return lineage
    known = lineage.installation or want.live.installation or want.host.installation
    return Lineage(known, want.host.id)


def _groups(found: Iterable[Found], want: Want) -> Groups:
    groups: dict[Lineage, list[Found]] = {}
    for set_ in sorted(found, key=_age, reverse=True):
        assert set_.manifest is not None
        groups.setdefault(_whose(set_.manifest, want), []).append(set_)
    return groups


def _age(set_: Found) -> tuple[datetime, str]:
    assert set_.manifest is not None
    return set_.manifest.made, set_.name


def _usable(groups: Groups, sound: bool) -> Groups:
    """Return the sets of each lineage that may be chosen.

    A set with a wrong date and a forged one never are. With ``sound``, neither is a set that looks
    emptied, nor an empty one where a fuller one exists; one that failed a check or has an unproven
    origin is used only where its lineage has no better one.
    """
    never = (Kind.INCOMPLETE, Kind.FUTURE, Kind.FORGED, *((Kind.EMPTIED,) if sound else ()))
    left = {
        lineage: [set_ for set_ in sets if not set_.has(*never)] for lineage, sets in groups.items()
    }
    if sound:
        left = {lineage: _best(sets) for lineage, sets in left.items()}
        full = {
            lineage: [set_ for set_ in sets if not _empty(set_)] for lineage, sets in left.items()
        }
        left = full if any(full.values()) else left
    return {lineage: sets for lineage, sets in left.items() if sets}


def _best(sets: list[Found]) -> list[Found]:
    proven = [set_ for set_ in sets if not set_.has(Kind.UNPROVEN)] or sets
    return [set_ for set_ in proven if not set_.has(Kind.FAILED)] or proven


def _empty(set_: Found) -> bool:
    return set_.manifest is not None and set_.manifest.empty


def _pick(usable: Groups, want: Want, where: str) -> Lineage:
    """Return the lineage of the live data, else this host's former one, else the only one."""
    had = [want.live.installation] if want.live.used else []
    for installation in filter(None, [*had, want.host.installation]):
        ours = [lineage for lineage in usable if lineage.installation == installation]
        if ours:
            return _pick_host(ours, usable, want, where)
    if len({lineage.installation for lineage in usable}) > 1:
        many = phrase("{where} has sets of several installations", where=where)
        raise _several(many, "--installation", usable.values())
    return _pick_host(list(usable), usable, want, where)


def _pick_host(ours: Sequence[Lineage], usable: Groups, want: Want, where: str) -> Lineage:
    """Return the lineage of this host, else the only one, else that of a host with its name."""
    own = [lineage for lineage in ours if lineage.host == want.host.id]
    named = [lineage for lineage in ours if _name(usable[lineage][0]) == want.host_name]
    for few in (own, ours, named):
        if len(few) == 1:
            return few[0]
    many = phrase("{where} has sets of several hosts", where=where)
    raise _several(many, "--host", [usable[lineage] for lineage in ours])


def _name(set_: Found) -> str:
    return set_.manifest.host if set_.manifest else ""


def _several(many: Text, option: str, groups: Iterable[Sequence[Found]]) -> Several:
    newest = [group[0].manifest for group in groups if group[0].manifest is not None]
    failure = Several(
        many,
        "; ".join(describe(manifest) for manifest in newest),
        f"Choose one: {option} with the first digits of an id, or the name of a set.",
        ExitCode.USAGE,
    )
    failure.choices = newest
    return failure


def describe(manifest: Manifest) -> Text:
    """Return a line that distinguishes an installation and host by its newest sound set."""
    host = store_manifest.host_of(manifest)
    digits = f" {host[:_SHOWN]}" if identity.has_id(host) else ""
    whose = {
        "installation": manifest.installation[:_SHOWN] or phrase("without an id"),
        "host": f"{manifest.host}{digits}",
    }
    people = manifest.contents
    if people is None:
        return phrase(
            "installation {installation}, host {host}: {rows}, made {made}",
            **whose,
            rows=amount("{count} row", "{count} rows", manifest.rows),
            made=humanize.moment(manifest.made),
        )
    return phrase(
        "installation {installation}, host {host}: {posts}, {users}, last post {last}",
        **whose,
        posts=amount("{count} post", "{count} posts", people.posts),
        users=amount("{count} user", "{count} users", people.users),
        last=people.last_post or phrase("never"),
    )


def _passed_over(
    found: Sequence[Found], chosen: Found, picked: Lineage, want: Want
) -> tuple[list[str], list[str]]:
    """Return the flaws of the chosen set, and why newer sets were not chosen."""
    if not want.sound:
        return [], []
    # The operator is asked about an unproven origin anyway.
    notes: list[str] = [
        phrase("{name}: {flaw}", name=chosen.name, flaw=flaw.words)
        for flaw in chosen.flaws
        if flaw.kind is Kind.UNPROVEN
    ]
    warnings: list[str] = [
        phrase("{name}: {flaw}; no better set was found", name=chosen.name, flaw=flaw.words)
        for flaw in chosen.flaws
        if flaw.kind is not Kind.UNPROVEN
    ]
    for set_ in found:
        newer = set_.name[:10] > chosen.name[:10] or (set_.has(Kind.FUTURE))
        if not set_.flaws or set_ is chosen or not newer or not _kin(set_, picked, want):
            continue
        why = joined("; ", (flaw.words for flaw in set_.flaws))
        text = phrase("{name} is newer and is not taken: {flaws}", name=set_.name, flaws=why)
        # Skipping a set that looks emptied is no loss, whatever its other flaws.
        (notes if set_.has(Kind.EMPTIED) else warnings).append(text)
    if warnings or notes:
        notes.append(phrase("Taking {name}", name=chosen.name))
    return warnings, notes


def _kin(set_: Found, picked: Lineage, want: Want) -> bool:
    """Tell whether the operator might expect this set: of this host or the chosen installation."""
    if set_.manifest is None:
        return True
    if set_.manifest.safety:
        return False
    lineage = _whose(set_.manifest, want)
    return lineage.host == want.host.id or lineage.installation == picked.installation


def _others(usable: Groups, picked: Lineage, want: Want) -> list[str]:
    """Return notes about a set of another host, and about other installations."""
    notes: list[str] = []
    if picked.host != want.host.id:
        newest = usable[picked][0].manifest
        assert newest is not None
        notes.append(phrase("It is of {host}", host=describe(newest)))
    for lineage, sets in usable.items():
        if lineage.installation != picked.installation and sets[0].manifest is not None:
            notes.append(phrase("There is also {host}", host=describe(sets[0].manifest)))
    return notes


def _none(found: Sequence[Found], want: Want, where: str) -> Failure:
    """Return the failure where no set can be used: there is none, or each has a flaw."""
    when = f" from before {want.before:%Y-%m-%d %H:%M}" if want.before else ""
    bad = [candidate for candidate in found if candidate.flaws]
    if not bad:
        return Failure(
            f"There is no set{when} in {where}",
            hint=ELSEWHERE,
        )
    lines = [
        f"{candidate.name}: {'; '.join(flaw.words for flaw in candidate.flaws)}"
        for candidate in bad[:3]
    ]
    return Failure(
        f"There is no sound set{when} in {where}",
        "; ".join(lines),
        "Use an off-site copy (--from), or name a set: gitlab-mm restore SET",
    )


def of_store(store: Store) -> list[Found]:
    """Return all sets of a store, complete or not; raises Failure where it cannot be read."""
    return of_entries(store.every())


def of_entries(entries: Iterable[SetEntry]) -> list[Found]:
    """Return sets that were looked for already, in their order."""
    known, now, ring, records = soundness.accepted_names(), clock.now(), keys.ring(), Records()
    return [_of_entry(entry, known, now, ring, records) for entry in entries]


def of_set(set_: BackupSet) -> Found:
    """Return a set that was named, with its flaws."""
    return of_entries([SetEntry(set_.name, set_, "")])[0]


def _of_entry(
    entry: SetEntry, known: Collection[str], now: datetime, ring: Ring, read: Records
) -> Found:
    if entry.set is None:
        return Found(entry.name, None, [_incomplete(entry.problem)])
    records = read.of(entry.set)
    found = soundness.flaws(entry.set.manifest, records, known, now)
    below = entry.set.base
    for base in below.chain if below is not None and read.refuted(below) else ():
        found += [
            Flaw(
                flaw.kind,
                phrase("set {name}, which it builds on: {flaw}", name=base.name, flaw=flaw.words),
            )
            for flaw in soundness.flaws(base.manifest, read.of(base), known, now)
            if flaw.kind is Kind.FAILED
        ]
    origin = inventory.origin_of(entry.set, ring)
    found += soundness.of_origin(origin, elsewhere=entry.set.said is not None)
    if entry.set.source is None:
        short = cut_short(entry.set.path, entry.set.manifest.parts.values())
        found += [_incomplete(short)] if short else []
    return Found(entry.name, entry.set.manifest, found, origin, records)


def of_remote(remote: Remote) -> list[Found]:
    """Return all copies at a remote; records of checks here are found by the sets' names."""
    return of_copies(copies.entries(remote))


def of_copies(entries: Sequence[Copied]) -> list[Found]:
    """Return copies that were looked for already, in their order."""
    known, now, history, ring = (
        soundness.accepted_names(),
        clock.now(),
        check_records.history(),
        keys.ring(),
    )
    return [_of_copy(entry, history, known, now, ring) for entry in entries]


def _of_copy(
    entry: Copied, history: Sequence[CheckRecord], known: Collection[str], now: datetime, ring: Ring
) -> Found:
    if entry.manifest is None or entry.said is None:
        return Found(entry.name, None, [_incomplete(entry.problem)])
    proven = [record for record in history if record.set == entry.name]
    origin = ring.origin(entry.manifest.host_id, entry.manifest.made, entry.said, elsewhere=True)
    found = soundness.flaws(entry.manifest, proven, known, now)
    found += soundness.of_origin(origin, elsewhere=True)
    return Found(entry.name, entry.manifest, found, origin)


def unproven(set_: BackupSet) -> list[str]:
    """Return a warning where nothing proves who made a set from elsewhere."""
    found = soundness.of_origin(inventory.origin_of(set_), elsewhere=set_.said is not None)
    return [
        phrase("{name}: {flaw}", name=set_.name, flaw=flaw.words)
        for flaw in found
        if flaw.kind is Kind.UNPROVEN
    ]


def instead_of(set_: BackupSet, store: Store) -> str:
    """Return the commands that restore what is next best where ``set_`` is damaged."""
    places = ledger.by_set().get(set_.name, [])
    lines = [f"A copy of it: gitlab-mm restore --from {place} {set_.name}" for place in places[:1]]
    sound = [found for found in of_store(store) if not found.flaws and found.name != set_.name]
    newest = max(
        (found for found in sound if found.manifest and not found.manifest.safety),
        key=lambda found: found.name,
        default=None,
    )
    if newest is not None:
        lines.append(f"The newest sound set: gitlab-mm restore {newest.name}")
    return "\n".join(lines or ["Other places: gitlab-mm restore --from PLACE"])


def _incomplete(problem: str) -> Flaw:
    return Flaw(Kind.INCOMPLETE, phrase("it is not complete: {problem}", problem=problem))
