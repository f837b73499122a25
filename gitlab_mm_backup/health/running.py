"""Ask the live Mattermost and GitLab: whether the service answers, and whether sign-in works."""

from __future__ import annotations

from ..checks import Check, Result
from ..errors import Failure
from ..mattermost import listener, service
from ..mattermost.site import Site
from ..sso import check, credentials
from ..sso.check import Verdict


def runs(site: Site) -> bool:
    """Return whether the service runs; a service that cannot be asked counts as stopped."""
    try:
        return service.of(site).runs()
    except Failure:
        return False


def service_check(site: Site) -> Check:
    """Check whether Mattermost runs, and answers at the address that a restore uses."""
    if not service.of(site).runs():
        return Check("service", Result.WARNING, "Mattermost is stopped")
    try:
        service.wait_until_it_answers(site, seconds=0)
    except Failure as failure:
        text = f"Mattermost runs, but does not answer as a restore expects: {failure.detail}"
        return Check("service", Result.WARNING, text)
    url = listener.of(site.settings).url
    return Check("service", Result.PASSED, f"Mattermost runs, and answers at {url}")


def sign_in_check(site: Site) -> Check:
    """Check whether sign-in through GitLab works now."""
    if not credentials.layers(site)[0] or check.effective_pair(site) is None:
        return Check("sign-in", Result.NOT_RUN, "GitLab sign-in is not set up")
    found = check.check(site)
    results = {
        Verdict.WORKS: Result.PASSED,
        Verdict.BROKEN: Result.FAILED,
        Verdict.UNKNOWN: Result.WARNING,
    }
    broken = [finding.detail for finding in found.broken]
    return Check("sign-in", results[found.verdict], "; ".join(broken) or found.probe.reason)
