"""Sign-in through GitLab: the credentials in use, and what is wrong with them."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from ..config import identity
from ..errors import Failure
from ..mattermost import json_text, omnibus_files
from ..mattermost.site import Site
from ..store import inventory
from ..store.inventory import Store
from ..store.manifest import MANIFEST
from ..store.sets import BackupSet, open_set
from ..system import process
from ..system.process import DECOMPRESS
from ..system.redaction import Secret
from . import credentials, oauth
from .credentials import Candidate, Layer
from .oauth import APPLICATION_NAME, Application, Pair, Probe, ProbeResult

_ENDPOINTS = ("AuthEndpoint", "TokenEndpoint", "UserApiEndpoint")


class Severity(enum.Enum):
    """Whether a finding breaks sign-in now, or may do so later."""

    BROKEN = "broken"
    WARNING = "warning"


class Verdict(enum.Enum):
    """Whether people can sign in through GitLab now."""

    WORKS = "works"
    BROKEN = "broken"
    UNKNOWN = "unknown"  # GitLab or its database does not answer


@dataclass(frozen=True)
class Finding:
    """One problem; ``layer`` is its place, or gitlab for GitLab's own side."""

    code: str
    layer: str
    detail: str
    severity: Severity = Severity.BROKEN


@dataclass(frozen=True)
class Diagnosis:
    """Everything known about a site's sign-in."""

    layers: list[Layer]
    unreadable: list[str]
    candidates: list[Candidate]
    applications: list[Application] | None  # None: GitLab's database could not be asked
    findings: list[Finding]
    probe: Probe

    @property
    def broken(self) -> list[Finding]:
        """The findings that break sign-in now."""
        return [finding for finding in self.findings if finding.severity is Severity.BROKEN]

    @property
    def verdict(self) -> Verdict:
        """A finding decides; without one, the answer of the running GitLab."""
        if self.broken:
            return Verdict.BROKEN
        works = self.probe.verdict is ProbeResult.ACCEPTED
        return Verdict.WORKS if works else Verdict.UNKNOWN

    def in_use(self, site: Site) -> bool:
        """Tell whether any setting here refers to signing in through GitLab."""
        return site.settings.flag("GitLabSettings", "Enable") or bool(self.candidates)

    def chosen(self) -> Candidate | None:
        """Return the first candidate that GitLab accepts; those of this host come first."""
        return next((candidate for candidate in self.candidates if candidate.verified), None)


def effective_pair(site: Site) -> Pair | None:
    """Return the pair that Mattermost really uses."""
    client_id = site.settings.text("GitLabSettings", "Id")
    secret = site.settings.secret("GitLabSettings", "Secret")
    return Pair(client_id, secret) if client_id and secret else None


def accepted(site: Site) -> bool | None:
    """Tell whether GitLab accepts the effective pair; None if unknown.

    Where its database is not on this host, the running GitLab is asked.
    """
    pair = effective_pair(site)
    if pair is None:
        return None
    try:
        rows = oauth.applications(site, [pair.id])
    except Failure:
        return None
    return _verified(site, [Candidate("effective settings", pair)], rows)[0].verified


def probe(site: Site) -> Probe:
    """Ask the live GitLab about the pair in use."""
    pair = effective_pair(site)
    if pair is None:
        return Probe(ProbeResult.UNKNOWN, "Mattermost has no GitLab credentials")
    return oauth.probe(site, pair)


def check(site: Site, more: Iterable[Candidate] = ()) -> Diagnosis:
    """Collect every candidate, ask GitLab about each, and name what breaks sign-in."""
    layers, unreadable = credentials.layers(site)
    candidates = [*credentials.collect(site, layers), *more]
    findings = [Finding("unreadable", name, why) for name, why in unreadable.items()]
    rows: list[Application] | None = None
    try:
        rows = oauth.applications(site, [candidate.pair.id for candidate in candidates])
    except Failure as failure:
        findings.append(Finding("gitlab-unknown", "gitlab", str(failure), Severity.WARNING))
    candidates = _verified(site, candidates, rows)
    asked = probe(site)
    findings += _pair_findings(site, layers, candidates, rows)
    findings += _settings_findings(site, asked)
    findings += _application_findings(site, rows)
    if asked.verdict is ProbeResult.UNKNOWN and effective_pair(site) is not None:
        findings.append(Finding("gitlab-unknown", "gitlab", asked.reason, Severity.WARNING))
    if asked.verdict is ProbeResult.REFUSED and not _broken(findings):
        findings.append(Finding("refused", "gitlab", asked.reason))
    return Diagnosis(layers, list(unreadable), candidates, rows, findings, asked)


def _verified(
    site: Site, candidates: list[Candidate], rows: list[Application] | None
) -> list[Candidate]:
    """Check each candidate with GitLab's database, or where that is elsewhere, with the probe."""
    if rows is not None:
        return credentials.verify(candidates, rows)
    words = {ProbeResult.ACCEPTED: True, ProbeResult.REFUSED: False, ProbeResult.UNKNOWN: None}
    answers: dict[tuple[str, Secret], bool | None] = {}
    for candidate in candidates:
        key = (candidate.pair.id, candidate.pair.secret)
        if None in answers.values():  # it does not answer, and would keep each of them waiting
            answers[key] = None
        elif key not in answers:
            answers[key] = words[oauth.probe(site, candidate.pair).verdict]
    return [
        replace(candidate, verified=answers[(candidate.pair.id, candidate.pair.secret)])
        for candidate in candidates
    ]


def _broken(findings: list[Finding]) -> bool:
    return any(finding.severity is Severity.BROKEN for finding in findings)


def _pair_findings(
    site: Site,
    layers: list[Layer],
    candidates: list[Candidate],
    rows: list[Application] | None,
) -> list[Finding]:
    """Say for each layer, and for gitlab.rb, whether GitLab accepts what it holds."""
    effective = effective_pair(site)
    findings = []
    if effective is None:
        findings.append(
            Finding("no-credentials", "effective", "Mattermost has no GitLab id and secret")
        )
    in_use = next((layer.name for layer in layers if layer.pair() == effective), "")
    verdicts = {candidate.source: candidate.verified for candidate in candidates}
    pairs = {layer.name: layer.pair() for layer in layers}
    literal = credentials.literal_pair(site)
    if literal is not None:
        pairs["gitlab.rb"] = literal
    findings += [
        Finding("missing", layer.name, "it holds only one of id and secret")
        for layer in layers
        if layer.half() and effective is not None
    ]
    halves = [layer.name for layer in layers if layer.half()]
    for name, pair in pairs.items():
        severity = Severity.BROKEN if name == in_use else Severity.WARNING
        if pair is None:
            if name == "gitlab-secrets.json" and name not in halves:
                detail = "it holds no id and secret; the next reconfigure will change sign-in"
                findings.append(Finding("missing", name, detail, Severity.WARNING))
        elif rows is not None and verdicts.get(name) is not True:
            findings.append(_refusal(name, pair, rows, severity))
        elif verdicts.get(name) is False:
            detail = f"GitLab refuses this id and secret (invalid_client){_LATER.get(name, '')}"
            findings.append(Finding("refused", name, detail, severity))
        elif effective is not None and pair != effective:
            detail = "its id or secret differs from Mattermost's"
            findings.append(Finding("differs", name, detail, Severity.WARNING))
    return findings


def _refusal(name: str, pair: Pair, rows: list[Application], severity: Severity) -> Finding:
    """Return the reason why GitLab does not accept a layer's pair."""
    later = "" if severity is Severity.BROKEN else _LATER.get(name, "")
    row = next((application for application in rows if application.uid == pair.id), None)
    if row is None:
        detail = f"GitLab has no application with the id {pair.id[:8]}…{later}"
        return Finding("unknown-application", name, detail, severity)
    if credentials.verify([Candidate(name, pair)], rows)[0].verified is None:
        detail = "GitLab stores this application's secret in an unknown format"
        return Finding("unknown-form", name, detail, Severity.WARNING)
    detail = f"GitLab has a different secret for application {row.name!r}{later}"
    return Finding("wrong-secret", name, detail, severity)


_LATER = {
    "config.json": "; the environment folder overrides it now",
    "gitlab-secrets.json": "; the next reconfigure would make it the one in use",
    "gitlab.rb": "; the next reconfigure would make it the one in use",
}


def _settings_findings(site: Site, asked: Probe) -> list[Finding]:
    findings = []
    if not site.settings.flag("GitLabSettings", "Enable"):
        findings.append(Finding("disabled", "effective", "GitLabSettings.Enable is false"))
    known = asked.verdict is ProbeResult.ACCEPTED
    for key in _ENDPOINTS if site.gitlab.url else ():
        value = site.settings.text("GitLabSettings", key)
        if not f"{value}/".startswith(f"{site.gitlab.url}/"):
            # The probe has proved the token endpoint; browsers go to the first of them.
            inner = known and key != "AuthEndpoint"
            severity = Severity.WARNING if inner else Severity.BROKEN
            detail = f"{key} is {value or 'empty'}, but GitLab is at {site.gitlab.url}"
            findings.append(Finding("endpoint-elsewhere", "effective", detail, severity))
    return findings


def _application_findings(site: Site, rows: list[Application] | None) -> list[Finding]:
    """Look at GitLab's row for the pair in use: name, redirect addresses, scope."""
    pair = effective_pair(site)
    findings = []
    named = [application for application in rows or [] if application.name == APPLICATION_NAME]
    if len(named) > 1:
        detail = f"{len(named)} applications are called {APPLICATION_NAME!r}"
        findings.append(Finding("duplicate-applications", "gitlab", detail, Severity.WARNING))
    row = next(
        (application for application in rows or [] if pair and application.uid == pair.id), None
    )
    if row is None:
        return findings
    if row.name != APPLICATION_NAME:
        detail = f"its name is {row.name!r}; reconfigure looks for {APPLICATION_NAME!r}"
        findings.append(Finding("application-renamed", "gitlab", detail, Severity.WARNING))
    scope = site.settings.text("GitLabSettings", "Scope").split()
    if row.scopes and not set(scope) <= set(row.scopes.split()):
        detail = f"Mattermost asks for {' '.join(scope)!r}, GitLab allows {row.scopes!r}"
        findings.append(Finding("scope", "gitlab", detail))
    return findings + _redirect_findings(site, row)


def _redirect_findings(site: Site, row: Application) -> list[Finding]:
    """The first address is the one that Mattermost uses; reconfigure looks for both, CR LF."""
    findings = []
    given = row.redirect_uri.split()
    for place, wanted in enumerate(oauth.redirect_uris(site)):
        if wanted not in given:
            severity = Severity.BROKEN if place == 0 else Severity.WARNING
            code, seen = _nearest_redirect(wanted, given)
            detail = f"Redirect URI {wanted} is not registered in GitLab (registered: {seen})."
            findings.append(Finding(code, "gitlab", detail, severity))
    if not findings and row.redirect_uri != "\r\n".join(oauth.redirect_uris(site)):
        detail = "the redirect URIs are not stored in the form that reconfigure expects (two lines, CR LF)"
        findings.append(Finding("redirect-line-ends", "gitlab", detail, Severity.WARNING))
    return findings


def _nearest_redirect(wanted: str, given: list[str]) -> tuple[str, str]:
    parts = urlsplit(wanted)
    for uri in given:
        other = urlsplit(uri)
        if other.path == parts.path:
            same_host = other.netloc == parts.netloc
            return ("redirect-scheme" if same_host else "redirect-host"), uri
    return "redirect-missing", ", ".join(given) or "none"


def examine_folders(site: Site, store: Store, named: Sequence[str] = ()) -> Diagnosis:
    """Diagnose ``site`` with its own candidates and those of ``named`` sets and folders.

    Where GitLab accepts none of them, every set of ``store`` and every backup of /etc/gitlab on
    this host is looked into as well, the newest first.
    """
    more = [candidate for name in named for candidate in _named(store, name)]
    diagnosis = check(site, more)
    if diagnosis.chosen() is not None:
        return diagnosis
    more += [candidate for set_ in store.sets() for candidate in from_set(set_)]
    return check(site, more + from_config_backups(site))


def from_set(set_: BackupSet) -> list[Candidate]:
    """Return the candidates of a set: environment, config.json, gitlab-secrets.json.

    A damaged part has none; ``gitlab-mm verify`` reports the damage.
    """
    source = f"set {set_.name}"
    found: list[Candidate] = []
    try:
        with set_.open("settings") as file:
            document = json_text.parse(file.read().decode(), "settings.json")
        found += credentials.from_settings_part(document, source)
    except (Failure, OSError, UnicodeDecodeError):
        found = []
    if "etc-gitlab" not in set_.manifest.parts:  # of a standalone Mattermost
        return found
    try:
        with (
            set_.open("etc-gitlab") as packed,
            process.output(DECOMPRESS, stdin=packed) as (stream, _),
        ):
            texts = omnibus_files.packed(stream, [omnibus_files.SECRETS])
            found += credentials.from_secrets(texts, f"{source}: gitlab-secrets.json")
    except (Failure, OSError):
        return found
    return found


def from_config_backups(site: Site) -> list[Candidate]:
    """Return the candidates in ``gitlab-ctl backup-etc``'s archives, the newest first."""
    folder = site.below_root("/etc/gitlab/config_backup")
    found: list[Candidate] = []
    for name, texts in omnibus_files.own_backups(folder, [omnibus_files.SECRETS]):
        found += credentials.from_secrets(texts, f"{name}: gitlab-secrets.json")
    return found


def _named(store: Store, name: str) -> list[Candidate]:
    folder = Path(name)
    if "/" in name and folder.is_dir() and not (folder / MANIFEST).exists():
        return credentials.from_config_file(folder / "config.json", f"{folder}/config.json")
    if name == "latest":
        own = inventory.own_sets(identity.known(), store.sets())
        return from_set(own[0]) if own else []
    return from_set(open_set(folder) if "/" in name else store.find(name))
