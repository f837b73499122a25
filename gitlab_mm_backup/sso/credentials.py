"""GitLab credentials: the layers that Mattermost takes them from, and every candidate."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import Failure
from ..mattermost import gitlab_rb, json_file, json_text, omnibus_files
from ..mattermost.json_file import JsonFile, Operations
from ..mattermost.json_text import Keys
from ..mattermost.site import Kind, Site
from ..system import files
from ..system.redaction import Secret
from .oauth import Application, Pair
from .stored_secret import matches

ENVIRONMENT_KEYS: tuple[Keys, Keys] = (
    ("MM_GITLABSETTINGS_ID",),
    ("MM_GITLABSETTINGS_SECRET",),
)
_CONFIG_KEYS: tuple[Keys, Keys] = (("GitLabSettings", "Id"), ("GitLabSettings", "Secret"))
SECRETS_KEYS: tuple[Keys, Keys] = (("mattermost", "gitlab_id"), ("mattermost", "gitlab_secret"))


@dataclass(frozen=True)
class Candidate:
    """A pair, where it was found, and whether GitLab's database accepts it (None: not known)."""

    source: str
    pair: Pair
    verified: bool | None = None


@dataclass(frozen=True)
class Layer:
    """A place on this host with the pair, as a document.

    The environment folder is a document too: file name -> content.
    """

    name: str  # environment, config.json or gitlab-secrets.json
    path: Path
    document: Mapping[str, Any]
    keys: tuple[Keys, Keys]
    file: JsonFile | None  # None for the environment folder

    def pair(self) -> Pair | None:
        return pair_in(self.document, self.keys)

    def half(self) -> bool:
        """Tell whether it holds an id without a secret, or the reverse."""
        return [bool(_text_at(self.document, path)) for path in self.keys].count(True) == 1


def pair_in(document: Mapping[str, Any], keys: tuple[Keys, Keys]) -> Pair | None:
    """Return the pair at ``keys`` of ``document``; None unless both are there, as text."""
    client_id, secret = (_text_at(document, path) for path in keys)
    return Pair(client_id, Secret(secret)) if client_id and secret else None


def _text_at(document: Mapping[str, Any], path: Keys) -> str:
    """Return the first line at ``path``, as chpst(8) takes a variable; "" where there is none."""
    value: Any = document
    for step in path:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value.split("\n", 1)[0].strip(" \t") if isinstance(value, str) else ""


def layers(site: Site) -> tuple[list[Layer], dict[str, str]]:
    """Return the layers that this GitLab uses, the effective one first, and unreadable ones.

    GitLab 10 renders config.json from gitlab-secrets.json at every reconfigure; from 11 on it
    renders the environment folder, which overrides config.json. On 10 variables in that folder
    override it too.
    """
    wanted: list[tuple[str, Path]] = []
    folder, rendered = site.environment_folder, not site.gitlab.version.startswith("10.")
    if folder is not None and (rendered or _environment_document(folder)):
        wanted.append(("environment", folder))
    wanted.append(("config.json", site.config_file))
    if site.kind is Kind.OMNIBUS:
        wanted.append(("gitlab-secrets.json", site.root / omnibus_files.SECRETS))
    readable, unreadable = [], {}
    for name, path in wanted:
        try:
            readable.append(_layer(name, path))
        except Failure as failure:
            unreadable[name] = str(failure)
    return readable, unreadable


def read_again(layer: Layer) -> Layer:
    """Return ``layer``, read again; raises Failure when it cannot be read any more."""
    return _layer(layer.name, layer.path)


def _layer(name: str, path: Path) -> Layer:
    if name == "environment":
        return Layer(name, path, _environment_document(path), ENVIRONMENT_KEYS, None)
    ours = name == "config.json"
    file = json_file.read_config(path) if ours else json_file.read(path)
    keys = _CONFIG_KEYS if ours else SECRETS_KEYS
    return Layer(name, path, file.document, keys, file)


def _environment_document(folder: Path) -> dict[str, str]:
    document = {}
    for (name,) in ENVIRONMENT_KEYS:
        content = omnibus_files.variable(folder / name)
        if content is not None:
            document[name] = content
    return document


def collect(site: Site, found: Iterable[Layer]) -> list[Candidate]:
    """Return the candidates on this host: its layers, gitlab.rb, places of older versions."""
    candidates = [Candidate(layer.name, pair) for layer in found for pair in [layer.pair()] if pair]
    literal = literal_pair(site)
    if literal is not None:
        candidates.append(Candidate("gitlab.rb", literal))
    for folder in (site.root / omnibus_files.ENVIRONMENT, site.folders.home / "env"):
        if folder != site.environment_folder and folder.is_dir():
            pair = pair_in(_environment_document(folder), ENVIRONMENT_KEYS)
            if pair is not None:
                candidates.append(Candidate(str(folder), pair))
    return candidates


def literal_pair(site: Site) -> Pair | None:
    """Return the pair that gitlab.rb states literally; the next reconfigure uses it.

    If it states only one half, the other comes from gitlab-secrets.json.
    """
    text = gitlab_rb.text(site.root)
    stated = gitlab_rb.literals(text)
    keys = [key for _, key in SECRETS_KEYS]
    if not stated.keys() & set(keys) or gitlab_rb.unknown(text) & set(keys):
        return None
    try:
        document = json_file.read(site.root / omnibus_files.SECRETS).document
    except Failure:
        document = {}
    halves = [
        stated[key] if key in stated else _text_at(document, (section, key))
        for section, key in SECRETS_KEYS
    ]
    return Pair(halves[0], Secret(halves[1])) if all(halves) else None


def from_settings_part(document: Mapping[str, Any], source: str) -> list[Candidate]:
    """Return the candidates in a set's settings.json: its environment, then its config.json."""
    places = [
        ("environment", document.get("environment"), ENVIRONMENT_KEYS),
        ("config.json", document.get("config"), _CONFIG_KEYS),
    ]
    pairs = [
        (name, pair_in(inside, keys))
        for name, inside, keys in places
        if isinstance(inside, Mapping)
    ]
    return [Candidate(f"{source}: {name}", pair) for name, pair in pairs if pair]


def from_config_file(path: Path, source: str) -> list[Candidate]:
    """Return the candidate in another config.json; none where it cannot be read."""

    def read() -> str:
        return path.read_text(encoding="utf-8", errors="surrogateescape")

    return _from_json(read, _CONFIG_KEYS, source) if path.is_file() else []


def from_secrets(texts: Mapping[str, str], source: str) -> list[Candidate]:
    """Return the candidate in gitlab-secrets.json, if that is among the files of a copy."""
    text = texts.get(omnibus_files.SECRETS)
    return [] if text is None else _from_json(lambda: text, SECRETS_KEYS, source)


def _from_json(read: Callable[[], str], keys: tuple[Keys, Keys], source: str) -> list[Candidate]:
    try:
        parse = json_text.parse_config if keys is _CONFIG_KEYS else json_text.parse
        pair = pair_in(parse(read(), source), keys)
    except (Failure, OSError):
        return []
    return [Candidate(source, pair)] if pair else []


def verify(
    candidates: Iterable[Candidate], applications: list[Application] | None
) -> list[Candidate]:
    """Return ``candidates`` with GitLab's verdict on each."""
    return [
        Candidate(candidate.source, candidate.pair, _verdict(candidate.pair, applications))
        for candidate in candidates
    ]


def _verdict(pair: Pair, applications: list[Application] | None) -> bool | None:
    if applications is None:
        return None
    for application in applications:
        if application.uid == pair.id:
            return matches(application.stored.reveal(), pair.secret)
    return False


def plan(layer: Layer, pair: Pair) -> Operations:
    """Return the patch that writes ``pair`` to ``layer``; [] when it has it."""
    if layer.pair() == pair:
        return []
    values = dict(zip(layer.keys, (pair.id, pair.secret.reveal())))
    return json_file.setting(layer.document, values)


def write(layer: Layer, operations: Operations) -> None:
    """Apply ``operations`` to ``layer``; raises Failure when its pair has changed.

    It is read again first, so that changes of other programs are kept.
    """
    layer = read_again(layer)
    if layer.file is not None:
        json_file.write(layer.path, json_file.apply(layer.file, operations))
        return
    after = json_file.applied(layer.document, operations, str(layer.path))
    try:
        _write_environment(layer.path, layer.document, after)
    except BaseException:
        _write_environment(layer.path, {}, layer.document)
        raise


def _write_environment(folder: Path, before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """Change the files in ``folder``; in a home its account could replace the directory."""
    place = Path(os.path.realpath(folder.parent)) / folder.name  # /opt/gitlab may be root's link
    try:
        with files.open_directory(place) as there:
            for name in before.keys() - after.keys():
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=there)
            for name, content in after.items():
                if before.get(name) != content:
                    _write_variable(there, name, content)
    except OSError as error:
        raise Failure(f"{folder} cannot be written", str(error.strerror)) from error


def _write_variable(folder: int, name: str, content: str) -> None:
    """Write a file of the environment folder with its owner and mode, or those of its like."""
    owner, group, mode = 0, 0, 0o600
    for like in (name, "MM_SERVICESETTINGS_SITEURL"):
        try:
            before = os.stat(like, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            continue
        if stat.S_ISREG(before.st_mode):
            owner, group, mode = before.st_uid, before.st_gid, before.st_mode & 0o7777
            break
    data = content.encode(errors="surrogateescape")
    files.replace_in(folder, name, data, owner, group, mode, alike=True)
