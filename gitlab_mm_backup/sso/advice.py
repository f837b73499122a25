"""What to do about the findings of a check: a command, or the lines to paste into GitLab."""

from __future__ import annotations

from ..mattermost.site import Kind, Site
from . import oauth
from .check import Diagnosis, Finding, Verdict, effective_pair
from .oauth import APPLICATION_NAME

# A pair is wrong, missing or differs: a repair writes one that GitLab accepts.
_PAIRS = ("no-credentials", "unknown-application", "wrong-secret", "refused", "missing", "differs")
_APPLICATIONS = "GitLab, Admin, Applications"


def fixes(site: Site, found: Diagnosis) -> list[str]:
    """Return the commands and the lines to paste, for what is broken, or else for warnings."""
    if found.verdict is Verdict.UNKNOWN:
        return ["gitlab-ctl status" if site.gitlab.database else f"curl -I {site.gitlab.url}"]
    findings = found.broken or found.findings
    lines: list[str] = []
    for finding in findings:
        lines += [line for line in _of(finding, site, found) if line not in lines]
    return lines


def _of(finding: Finding, site: Site, found: Diagnosis) -> list[str]:
    """Return what to do about one finding."""
    code = finding.code
    if code in _PAIRS or code == "unknown-form":
        return [_repair(site, found)]
    if code.startswith("redirect-"):
        return [
            f"Replace the redirect URIs of {_application(site, found)!r} ({_APPLICATIONS}) by:",
            *(f"  {uri}" for uri in oauth.redirect_uris(site)),
        ]
    if code == "scope":
        scope = site.settings.text("GitLabSettings", "Scope")
        name = _application(site, found)
        return [f"Allow the scope of {name!r} ({_APPLICATIONS}):", f"  {scope}"]
    if code == "application-renamed":
        name = _application(site, found)
        return [f"Rename {name!r} ({_APPLICATIONS}) to:", f"  {APPLICATION_NAME}"]
    if code == "duplicate-applications":
        return [f"Delete the applications that are not in use ({_APPLICATIONS})"]
    if code == "disabled":
        return _enable(site)
    if code == "endpoint-elsewhere" and site.kind is not Kind.STANDALONE:
        return ["gitlab-ctl reconfigure"]
    return ["gitlab-ctl status"] if code == "gitlab-unknown" else []


def _repair(site: Site, found: Diagnosis) -> str:
    """Return the smallest repair that works."""
    if found.chosen() is not None:
        return "gitlab-mm sso repair"
    if site.gitlab.database is None:
        return "gitlab-mm sso repair --from SET"
    rows, pair = found.applications or [], effective_pair(site)
    own = [row for row in rows if pair and row.uid == pair.id] or rows
    readable = not any(finding.code == "unknown-form" for finding in found.findings)
    return f"gitlab-mm sso repair --{'rotate' if len(own) == 1 and readable else 'register'}"


def _application(site: Site, found: Diagnosis) -> str:
    """Return the name of the application in use, in GitLab."""
    pair = effective_pair(site)
    rows = found.applications or []
    return next((row.name for row in rows if pair and row.uid == pair.id), APPLICATION_NAME)


def _enable(site: Site) -> list[str]:
    if site.kind is Kind.STANDALONE:
        return ["mmctl --local config set GitLabSettings.Enable true"]
    line = "mattermost['gitlab_enable'] = true"
    return [
        "Put this line into /etc/gitlab/gitlab.rb, then run gitlab-ctl reconfigure:",
        f"  {line}",
    ]
