"""The recovery kit: all that is needed to restore Mattermost on an empty machine, for print."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from .. import version
from ..config import identity, keys
from ..config.settings import GITLAB, NO_CONFIG, RCLONE_CONFIG, Remote, Settings
from ..errors import Failure
from ..mattermost import omnibus_files
from ..store import inventory, soundness
from ..store.inventory import Store
from ..store.manifest import Manifest
from ..system import humanize
from ..system.redaction import Secret
from . import ledger, package, sync
from .package import Package

RESTIC = "restic"  # of settings.store
_EDITIONS = {"gitlab-ce": "Community Edition", "gitlab-ee": "Enterprise Edition"}
_KEY = "/root/key.txt"  # where the private key of age is to be put
_LARGEST = 1 << 20  # bytes; a larger file is no file of keys

_LACKS = "Not restored from the newest set"


@dataclass(frozen=True)
class Place:
    """A location of sets."""

    name: str
    path: str
    newest: str  # name of the newest set there, "" where there is none
    sets: int
    recipients: tuple[str, ...] = ()


@dataclass(frozen=True)
class Needed:
    """Something without which a restore is impossible."""

    what: str
    why: str


@dataclass(frozen=True)
class Step:
    """Commands, and their purpose."""

    title: str
    commands: tuple[str, ...]


@dataclass(frozen=True)
class Held:
    """The package of this program, and the directories and remotes that have it."""

    package: Package
    places: Sequence[str]


@dataclass(frozen=True)
class Kit:
    """The content of the kit; ``secrets`` is empty unless requested."""

    host: str
    made: datetime
    places: Sequence[Place]
    needed: Sequence[Needed]
    key: str  # fingerprint of the one that signs the sets, "" before the first
    versions: Mapping[str, str]
    editions: Mapping[str, str]  # of GitLab and Mattermost, as far as known
    held: Held | None
    steps: Sequence[Step]
    told: Sequence[str]  # what the newest set cannot hold, or lacks
    warnings: list[str]
    secrets: Mapping[str, Secret] = field(default_factory=dict)


def kit(
    settings: Settings,
    store: Store,
    *,
    with_secrets: bool,
    root: Path = Path("/"),
    deb: Path | None = None,
) -> Kit:
    """Return the kit of this host, and put this program's package next to the sets and copies.

    The package is ``deb``, or the one that this host has. Raises Failure for another one.
    """
    warnings: list[str] = []
    found = package.find(deb)
    try:
        remotes = sync.remotes(settings)
    except Failure as failure:
        warnings.append(str(failure))
        remotes = [remote for remote in settings.offsite if remote.name != GITLAB]
    places = [_here(settings, store), *map(_there, remotes)]
    if settings.store != RESTIC and not any(place.newest for place in places[1:]):
        warnings.append("No set has an off-site copy. If this disk fails, all backups are lost")
    own = inventory.own_sets(identity.known(), store.sets())
    newest = next((set_.manifest for set_ in own if not set_.manifest.safety), None)
    held = _put(found, store, remotes, warnings)
    return Kit(
        host=identity.full_hostname(),
        made=datetime.now(timezone.utc),
        places=places,
        needed=[*_needed(settings, remotes, newest), *_package_needed(remotes, held)],
        key=_key(),
        versions=_versions(newest, root),
        editions=_editions(newest, root),
        held=held,
        steps=_steps(settings, remotes, places, newest, root, held),
        told=_lacks(newest) if newest else [],
        warnings=warnings,
        secrets=_secrets(settings, remotes) if with_secrets else {},
    )


def _put(
    found: Package | None, store: Store, remotes: Sequence[Remote], warnings: list[str]
) -> Held | None:
    """Put the package next to sets and copies; problems are added to ``warnings``."""
    if found is None:
        return None
    there, problems = package.put(found, store, remotes)
    warnings += problems
    return Held(found, there)


def _here(settings: Settings, store: Store) -> Place:
    own = inventory.own_sets(identity.known(), store.sets())
    names = [set_.name for set_ in own if not set_.manifest.safety]
    kind = "restic repository" if settings.store == RESTIC else "this machine"
    return Place(kind, store.where, names[0] if names else "", len(names))


def _there(remote: Remote) -> Place:
    host = identity.known()
    known = ledger.of(remote).sets.items()
    names = sorted((name for name, there in known if host.owns(there.host)), reverse=True)
    return Place(remote.name, remote.path, names[0] if names else "", len(names), remote.recipients)


def _of_gitlab(newest: Manifest | None) -> str:
    has = soundness.gitlab_settings(newest) if newest else ""
    return f" The newest set has {has}, in etc-gitlab.tar.zst" if has else ""


def _needed(settings: Settings, remotes: Sequence[Remote], newest: Manifest | None) -> list[Needed]:
    found = [
        Needed(
            "GitLab's own backup, and /etc/gitlab (gitlab.rb, gitlab-secrets.json)",
            f"GitLab is restored first: people sign in to Mattermost through it.{_of_gitlab(newest)}",
        )
    ]
    if settings.store == RESTIC:
        why = "restic needs it to open the repository; without it the sets cannot be read"
        found += [Needed(str(path), why) for path in _keys_of_restic(settings)]
        if settings.restic.password_command:
            command = " ".join(settings.restic.password_command)
            found.append(Needed(f"the password that {command} prints", why))
    for remote in remotes:
        if remote.name == GITLAB:
            why = f"rclone reads from it how to reach {remote.path}"
            found.append(Needed("backup_upload_connection in gitlab.rb", why))
        if remote.config != NO_CONFIG:
            section = remote.path.partition(":")[0]
            found.append(
                Needed(f"{remote.config}, section [{section}]", f"rclone's remote {remote.name}")
            )
        if remote.recipients:
            keys = "; ".join(remote.recipients)
            why = f"copies at {remote.name} are encrypted; without it they cannot be read"
            found.append(Needed(f"the private key of one of: {keys}", why))
    return found


def _key() -> str:
    found = keys.ring().own
    return found.fingerprint if found else ""


def _keys_of_restic(settings: Settings) -> list[Path]:
    files = (settings.restic.password_file, settings.restic.environment_file)
    return [path for path in files if path is not None]


def _versions(newest: Manifest | None, root: Path) -> dict[str, str]:
    found = {
        "gitlab-mm-backup": version.tool(),
        "GitLab": omnibus_files.gitlab_version(root),
        "Mattermost": omnibus_files.bundled_mattermost(root),
        "PostgreSQL": "",
    }
    if newest is not None:
        found.update(GitLab=newest.gitlab, Mattermost=newest.mattermost)
        found["PostgreSQL"] = newest.database.server
    return {name: number or "unknown" for name, number in found.items()}


def _editions(newest: Manifest | None, root: Path) -> dict[str, str]:
    found = {"GitLab": _EDITIONS.get(omnibus_files.gitlab_package(root), "")}
    bundled = newest.kind == "omnibus" if newest else omnibus_files.bundled_mattermost(root)
    found["Mattermost"] = "Team Edition, bundled with GitLab" if bundled else ""
    return {name: edition for name, edition in found.items() if edition}


def _lacks(newest: Manifest) -> list[str]:
    """Return, as text, what a restore of the newest set does not bring back."""
    left = (f"{path}: {why}" for path, why in newest.left_out.items())
    return [humanize.plain(words) for words in (*newest.told, *left)]


def _package_needed(remotes: Sequence[Remote], held: Held | None) -> list[Needed]:
    """Return the package as something to keep elsewhere, where no remote has it."""
    places = held.places if held else ()
    if any(remote.path in places for remote in remotes):
        return []
    why = "no remote has it; to put it there: gitlab-mm recovery-kit --package DEB"
    if places:
        why = f"only {places[0]} on this machine has it; keep it elsewhere too"
    return [Needed(f"{package.NAME} {version.tool()} as a package (.deb)", why)]


def _steps(
    settings: Settings,
    remotes: Sequence[Remote],
    places: Sequence[Place],
    newest: Manifest | None,
    root: Path,
    held: Held | None,
) -> list[Step]:
    steps = _gitlab(newest, root)
    programs = "restic" if settings.store == RESTIC else "rclone age"
    steps.append(Step("Install what fetches and opens copies", (f"apt install {programs}",)))
    configured = {remote.config for remote in remotes} - {NO_CONFIG, RCLONE_CONFIG}
    steps += [
        Step(
            f"Put back {file}, and use it for rclone",
            (f"install -D -m 0600 {shlex.quote(file)} {RCLONE_CONFIG}",),
        )
        for file in sorted(configured)
    ]
    steps.append(_install(remotes, held))
    if _key():
        text = "Trust the signing key of the old machine"
        steps.append(Step(text, (f"gitlab-mm host trust {_key()}",)))
    if settings.store == RESTIC:
        steps.append(_way_back_from_restic(settings))
    steps += [_way_back(remote, first=not number) for number, remote in enumerate(remotes)]
    if settings.store != RESTIC and places[0].newest:
        command = f"gitlab-mm restore {shlex.quote(f'{places[0].path}/{places[0].newest}')}"
        steps.append(
            Step("Or from a directory with a set, on a disk of the old machine", (command,))
        )
    steps.append(Step("Check that people can sign in", ("gitlab-mm sso check",)))
    text = "Make the first set of this machine, and see what is left to do"
    steps.append(Step(text, ("gitlab-mm backup", "gitlab-mm doctor")))
    text = "When everything works, take over the old machine's sets so that they are pruned"
    steps.append(Step(text, (f"gitlab-mm host take-over {identity.known().id}",)))
    return steps


def _gitlab(newest: Manifest | None, root: Path) -> list[Step]:
    """Return the steps for GitLab: these are its own commands."""
    number = (newest.gitlab if newest else "") or omnibus_files.gitlab_version(root)
    name = omnibus_files.gitlab_package(root) or "gitlab-ce"
    exact = f"={number}-{name.partition('-')[2]}.0" if number else ""
    return [
        Step(
            "Install the same GitLab, and put /etc/gitlab back from its own backup",
            (f"apt install {name}{exact}", "gitlab-ctl reconfigure"),
        ),
        Step("Restore GitLab itself", ("gitlab-backup restore", "gitlab-ctl reconfigure")),
    ]


def _install(remotes: Sequence[Remote], held: Held | None) -> Step:
    """Return the step that installs this program."""
    if held is None or not held.places:
        title = "Install this program, from where the old machine had it"
        return Step(title, (f"apt install ./{package.NAME}_{version.tool()}_all.deb",))
    reached = [remote for remote in remotes if remote.path in held.places and remote.name != GITLAB]
    place = reached[0].path if reached else held.places[0]
    file = shlex.quote(reached[0].place(package.FILE) if reached else f"{place}/{package.FILE}")
    fetch = f"cp {file} ." if place.startswith("/") else f"rclone copyto {file} {package.FILE}"
    title = (
        f"Install this program: from {reached[0].name if reached else place}, if the sum matches"
    )
    check = f"echo '{held.package.sha256}  {package.FILE}' | sha256sum --check"
    return Step(title, (fetch, f"{check} && apt install ./{package.FILE}"))


def _way_back_from_restic(settings: Settings) -> Step:
    access = settings.restic
    if access.repository and access.password_file and not access.environment_file:
        file, place = shlex.quote(str(access.password_file)), shlex.quote(access.repository)
        text = f"Put back {access.password_file}; then restore the newest set"
        restore = f"RESTIC_PASSWORD_FILE={file} gitlab-mm restore --from restic:{place}"
        return Step(text, (restore,))
    text = "Put back /etc/gitlab-mm-backup/config.yml and the files that restic needs; then"
    return Step(text, ("gitlab-mm list", "gitlab-mm restore"))


def _way_back(remote: Remote, *, first: bool) -> Step:
    place = shlex.quote(remote.name if remote.name == GITLAB else remote.path)
    key = f" --identity {_KEY}" if remote.recipients else ""
    text = "Fetch the newest set from" if first else "Or from"
    title = f"{text} {remote.name}" + (f" ({_KEY}: the private key)" if key else "")
    return Step(title, (f"gitlab-mm list --from {place}", f"gitlab-mm restore --from {place}{key}"))


def _secrets(settings: Settings, remotes: Sequence[Remote]) -> dict[str, Secret]:
    """Return the secrets for rclone and restic by their place; unreadable files are reported."""
    found: dict[str, Secret] = {}
    if settings.store == RESTIC:
        found.update((str(path), _content(path)) for path in _keys_of_restic(settings))
    for remote in remotes:
        for name, value in remote.environment.items():
            found[name] = value if isinstance(value, Secret) else Secret(value)
        if remote.config != NO_CONFIG:
            found[remote.config] = _content(Path(remote.config))
    return found


def _content(path: Path) -> Secret:
    try:
        with open(path, "rb") as file:
            return Secret(file.read(_LARGEST).decode(errors="replace"))
    except OSError as error:
        return Secret(f"(cannot be read: {error.strerror})")


def versions(made: Kit) -> list[str]:
    """Return the versions with the editions: GitLab 18.11.9, Community Edition."""
    return [
        ", ".join(filter(None, (f"{name} {number}", made.editions.get(name, ""))))
        for name, number in made.versions.items()
    ]


def lines(made: Kit) -> list[str]:
    """Return the kit as text."""
    texts = [
        f"Recovery kit of Mattermost on {made.host}, {humanize.moment(made.made)}",
        "",
        "Where sets are",
    ]
    for place in made.places:
        newest = f"newest {place.newest} of {place.sets}" if place.newest else "none yet"
        texts.append(f"  {place.name}: {place.path}: {newest}")
        texts += [f"    encrypted to {key}" for key in place.recipients]
    texts += ["", "What is needed"]
    texts += [f"  - {need.what}: {need.why}" for need in made.needed]
    if made.key:
        texts += ["", "The key that signs the sets", f"  {made.key}"]
    texts += ["", "Versions", *(f"  {text}" for text in versions(made))]
    if made.held is not None and made.held.places:
        texts += ["", "The package of this program"]
        texts += [f"  {package.FILE}, version {made.held.package.version}"]
        texts += [f"  SHA-256 {made.held.package.sha256}"]
        texts += [f"  in {place}" for place in made.held.places]
    texts += ["", "On the empty machine, as root"]
    for number, step in enumerate(made.steps, 1):
        texts += [f"  {number}. {step.title}", *(f"       {command}" for command in step.commands)]
    if made.told:
        texts += ["", _LACKS, *(f"  - {words}" for words in made.told)]
    for name, value in made.secrets.items():
        texts += ["", f"Secret: {name}", *(f"  {line}" for line in value.reveal().splitlines())]
    return texts
