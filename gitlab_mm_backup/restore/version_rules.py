"""Version rules: whether a set fits a Mattermost of another version, by version_rules.yml."""

from __future__ import annotations

import enum
import functools
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import Failure
from ..mattermost.effective_config import EffectiveConfig
from ..system import validation
from ..version import numbers

FILE = Path(__file__).with_name("version_rules.yml")
_COMPARISONS = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
}


_UNBUNDLED = (11,)  # the first Mattermost that came with no GitLab


class RuleAction(enum.Enum):
    """The effect of a rule that applies."""

    REFUSE = "refuse"
    WARN = "warn"


@dataclass(frozen=True)
class VersionFacts:
    """The input of the rules: the set, and the Mattermost to restore it to."""

    set: str  # version of the set's Mattermost; anything without numbers: not known
    target: str  # of the program on the host
    gitlab: str = ""  # that the set's Mattermost came with
    bundled: bool = False  # the target is one of Omnibus's, which has none from 11 on
    postgresql: str = ""  # of the target's server, as 16.11; "" where it is not known
    driver: str = "postgres"  # SqlSettings.DriverName of the target
    settings: EffectiveConfig = field(
        default_factory=lambda: EffectiveConfig({})
    )  # in force in the set
    migrations: Mapping[int, str] | None = None  # the set's db_migrations; None: not known
    gitlab_sign_in: bool | None = None  # the set's people sign in through GitLab
    licensed: bool | None = None  # the target will have a licence, or is of the Entry edition


@dataclass(frozen=True)
class Finding:
    """A rule that applies, as text."""

    code: str
    verdict: RuleAction
    reason: str
    way_out: str
    sources: Sequence[str]

    def __str__(self) -> str:
        return f"{self.reason}. {self.way_out}"


@dataclass(frozen=True)
class Rule:
    """One entry of version_rules.yml."""

    code: str
    when: Mapping[str, Any]
    verdict: RuleAction
    unknown: RuleAction | None  # None: passes where something of it cannot be known
    reason: str
    way_out: str
    sources: Sequence[str]


@functools.lru_cache(None)
def load(path: Path = FILE) -> list[Rule]:
    """Return the rules in the order of the file. Raises ValueError for an invalid one."""
    return [_rule(entry) for entry in validation.from_yaml(path.read_text(encoding="utf-8"))]


def _rule(entry: Mapping[str, Any]) -> Rule:
    fields = dict(entry)
    unknown = fields.pop("unknown")
    rule = Rule(
        **{**fields, "verdict": RuleAction(fields["verdict"])},
        unknown=None if unknown == "pass" else RuleAction(unknown),
    )
    strange = set(rule.when) - set(_CONDITIONS)
    if strange or not rule.sources:
        raise ValueError(f"{rule.code}: {', '.join(sorted(strange)) or 'no source'}")
    return rule


def evaluate(facts: VersionFacts, rules: Sequence[Rule] | None = None) -> list[Finding]:
    """Return the findings of the rules about ``facts``, refusals first."""
    found = []
    for rule in load() if rules is None else rules:
        answers = [_CONDITIONS[name](facts, value) for name, value in rule.when.items()]
        if False in answers:
            continue
        verdict = rule.unknown if None in answers else rule.verdict
        if verdict is not None:
            found.append(_finding(rule, verdict, facts))
    return sorted(found, key=lambda finding: finding.verdict is not RuleAction.REFUSE)


def _finding(rule: Rule, verdict: RuleAction, facts: VersionFacts) -> Finding:
    not_known = "of unknown version"
    words = {
        "set": facts.set if numbers(facts.set) else not_known,
        "gitlab": facts.gitlab or not_known,
        "target": facts.target if numbers(facts.target) else not_known,
        "postgresql": facts.postgresql or not_known,
    }
    reason = rule.reason.format(**words)
    if verdict is not rule.verdict:
        reason = f"Not certain: {reason}"
    return Finding(rule.code, verdict, reason, rule.way_out.format(**words), rule.sources)


def enforce(findings: Sequence[Finding]) -> list[str]:
    """Return the warnings among ``findings``; raises Failure with all refusals."""
    refused = [finding for finding in findings if finding.verdict is RuleAction.REFUSE]
    if refused:
        raise Failure(
            "The set does not fit the Mattermost on this host",
            "; ".join(finding.reason for finding in refused),
            " ".join(dict.fromkeys(finding.way_out for finding in refused)),
        )
    return [str(finding) for finding in findings]


def _within(version: str, wanted: str) -> bool | None:
    """Tell whether ``version`` meets all comparisons of ``wanted``; None if it has no numbers."""
    ours = numbers(version)
    if not ours:
        return None
    return all(_COMPARISONS[sign](ours, theirs) for sign, theirs in _comparisons(wanted))


def _comparisons(wanted: str) -> list[tuple[str, tuple[int, ...]]]:
    parts = [re.fullmatch(r"([<>=]+)(\d+(?:\.\d+)*)", word) for word in wanted.split()]
    return [(part[1], numbers(part[2])) for part in parts if part]


def _target_within(facts: VersionFacts, wanted: str) -> bool | None:
    """Do the same for the target; a bundled Mattermost of unknown version is below 11."""
    found = _within(facts.target, wanted)
    newer = any(">" in sign and theirs >= _UNBUNDLED for sign, theirs in _comparisons(wanted))
    return False if found is None and facts.bundled and newer else found


def _is_older(facts: VersionFacts, wanted: bool) -> bool | None:
    ours, theirs = numbers(facts.target), numbers(facts.set)
    return (ours < theirs) is wanted if ours and theirs else None


def _has_migration(facts: VersionFacts, wanted: Mapping[int, str]) -> bool | None:
    if facts.migrations is None:
        return None
    return any(facts.migrations.get(number) == name for number, name in wanted.items())


def _has_setting(facts: VersionFacts, wanted: Mapping[str, bool]) -> bool:
    """Tell whether one of the switches has the given value; a missing switch has none."""
    return any(_switch(facts.settings, name) is value for name, value in wanted.items())


def _switch(settings: EffectiveConfig, name: str) -> bool | None:
    section, _, key = name.partition(".")
    inside = settings.tree.get(section)
    if not isinstance(inside, Mapping) or key not in inside:
        return None
    return settings.flag(section, key)


def _same(told: bool | None, wanted: bool) -> bool | None:
    return None if told is None else told is wanted


_CONDITIONS: dict[str, Callable[[VersionFacts, Any], bool | None]] = {
    "set": lambda facts, wanted: _within(facts.set, wanted),
    "target": _target_within,
    "older_than_set": _is_older,
    "postgresql": lambda facts, wanted: _within(facts.postgresql, wanted),
    "driver": lambda facts, wanted: facts.driver == wanted,
    "migrations": _has_migration,
    "settings": _has_setting,
    "gitlab_sign_in": lambda facts, wanted: _same(facts.gitlab_sign_in, wanted),
    "licensed": lambda facts, wanted: _same(facts.licensed, wanted),
}
