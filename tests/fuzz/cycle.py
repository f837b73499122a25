"""One odd host: made, backed up, rehearsed, lost, and put back on another one that is then held against it."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz import oracle
from tests.fuzz.databases import DATABASE, ROLE
from tests.fuzz.hosts import Host
from tests.fuzz.oracle import Facts
from tests.lab.installed_package import Answer, Product, install_product
from tests.lab.omnibus import Omnibus, Spec, install
from tests.lab.sandbox import PYTHON, Bind, Lab

BACKUPS = "/srv/backups"
CONFIG = "/etc/gitlab-mm-backup/config.yml"
TIMEOUT = 300
# Rows of Mattermost's own that are at odds come back as they were; a rehearsal tells of them (docs/rehearsal.md).
REHEARSAL_ALONE = ("orphans",)

Change = Callable[[Lab, Omnibus], None]


class BadOddity(Exception):
    """An oddity could not be made: a fault of the catalogue."""


@dataclass
class Outcome:
    """What came of one host."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    codes: dict[str, int] = field(default_factory=dict)
    seconds: float = 0


def run(
    host: Host, base: Path, deb: Path, *, before: Change | None = None, harm: Change | None = None
) -> Outcome:
    """Run the whole cycle.

    For tests of this itself: `before` is done to the old host, `harm` to the restored one before it is read.
    """
    began, outcome = time.monotonic(), Outcome()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as shared:
        binds = [Bind(Path(shared), BACKUPS, True)]
        told: list[str] = []
        with Lab(base=base, binds=binds, hostname="old") as lab:
            gitlab, product = furnish(lab, deb, host)
            if before is not None:
                before(lab, gitlab)
            lost = survey(gitlab)
            backup = _backup(product, host, outcome)
            if backup is None:
                outcome.seconds = time.monotonic() - began
                return outcome
            told += backup.document["told"]
            key = str(product("kit").document["key"])
            _is_told_everywhere(product, told, outcome)
            rehearsed = _rehearse(product, host, backup, outcome)
        with Lab(base=base, binds=binds, hostname="new") as lab:
            gitlab = install(lab, Spec(backup_path=BACKUPS, seed="second", first_uid=1480))
            product = install_product(lab, deb)
            assert product("host", "trust", key).code == 0
            _prepare(lab, host, everything=host.prepared)
            fresh = None if rehearsed else survey(gitlab)
            told += _restore(product, host, backup, rehearsed, outcome)
            restored = outcome.codes["restore"] in (0, 4)
            if restored and harm is not None:
                harm(lab, gitlab)
            if restored:
                _judge(lost, survey(gitlab), told, outcome)
            elif fresh is not None:
                changed = oracle.differences(fresh, survey(gitlab))
                outcome.problems += [
                    f"changed by a refused restore: {difference}" for difference in changed
                ]
    outcome.seconds = time.monotonic() - began
    return outcome


def _judge(lost: Facts, found: Facts, told: Sequence[str], outcome: Outcome) -> None:
    untold, idle = oracle.judge(oracle.differences(lost, found), told)
    outcome.problems += [f"not told: {difference}" for difference in untold]
    outcome.problems += [f"told, and yet the same: {sentence}" for sentence in idle]


def furnish(lab: Lab, deb: Path, host: Host) -> tuple[Omnibus, Product]:
    """A server with the host's oddities, and with our package."""
    gitlab = install(lab, Spec(backup_path=BACKUPS))
    product = install_product(lab, deb)
    gitlab.seed()
    _prepare(lab, host, everything=True)
    # What is the owner's comes first, for some oddities take rights from it.
    for made in host.of_database():
        execute(lab, DATABASE, f"SET ROLE {ROLE};\n{made.owner}")
    for made in host.of_database():
        execute(lab, DATABASE, made.superuser)
    moved = [f"/srv/disk/{oddity.tag}" for oddity in host.oddities if oddity.kind == "moved"]
    if moved:
        lab.write(CONFIG, f"allow_links: {moved}\n")
    asked = json.dumps({"home": gitlab.home, "oddities": host.of_files()})
    done = lab.run(PYTHON, "-m", "tests.fuzz.planting", input=asked, cwd="/lab/src", check=False)
    if done.returncode != 0:
        raise BadOddity(done.stderr)
    return gitlab, product


def _prepare(lab: Lab, host: Host, *, everything: bool) -> None:
    """Give the server what it has for the oddities; without everything, nothing."""
    for oddity in host.oddities if everything else ():
        lab.run(
            "install", "-d", "-o", "gitlab-psql", "-g", "gitlab-psql", f"/srv/place-{oddity.tag}"
        )
    for made in host.of_database() if everything else ():
        execute(lab, "postgres", made.server)


def execute(lab: Lab, database: str, statements: str) -> None:
    """Execute SQL as the superuser; raises BadOddity."""
    client = ("/opt/gitlab/bin/gitlab-psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", database)
    done = lab.run(*client, input=statements, check=False)
    if done.returncode != 0:
        raise BadOddity(f"{statements}\n{done.stderr}")


def survey(gitlab: Omnibus) -> Facts:
    """What the host has, as the independent reader finds it."""
    asked = json.dumps({"home": gitlab.home, "database": DATABASE})
    module = (PYTHON, "-m", "tests.fuzz.survey")
    done = gitlab.lab.run(*module, input=asked, cwd="/lab/src")
    return dict(json.loads(done.stdout))


def _ask(product: Product, *words: str) -> Answer:
    return product(*words, timeout=TIMEOUT)


def _names(host: Host, answer: Answer, told: Sequence[str] | None = None) -> bool:
    """Whether an error names something of one of the oddities, of which the backup has told too if that is given."""
    text = " ".join(answer.error.values())
    words = [word for oddity in host.oddities for word in oddity.words]
    named = [word for word in words if word in text]
    return any(told is None or any(word in sentence for sentence in told) for word in named)


def _backup(product: Product, host: Host, outcome: Outcome) -> Answer | None:
    answer = _ask(product, "backup")
    outcome.codes["backup"] = answer.code
    if answer.code not in (0, 4):
        outcome.notes.append(f"backup refused: {answer.error}")
        if not _names(host, answer):
            outcome.problems.append(
                f"backup ends with {answer.code}, no cause named: {answer.error}"
            )
        if product("list").document["sets"]:
            outcome.problems.append("a set is kept of a backup that failed")
        return None
    if (answer.code == 4) != bool(answer.document["told"]):
        outcome.problems.append(
            f"backup ends with {answer.code} and told {answer.document['told']}"
        )
    return answer


def _is_told_everywhere(product: Product, told: list[str], outcome: Outcome) -> None:
    """What the run told stands in the manifest, in list, report and kit."""
    set_ = product("list").document["sets"][0]
    manifest = json.loads(product.lab.read(f"{BACKUPS}/mattermost/{set_['name']}/manifest.json"))
    for where, words in (("manifest", manifest["told"]), ("list", set_["told"])):
        if words != told:
            outcome.problems.append(f"{where} has not what the backup told: {words}")
    for verb in ("report", "kit"):
        product.run(verb, f"/root/{verb}.html")
        page = oracle.plain_html(product.lab.read(f"/root/{verb}.html"))
        if told and oracle.one_line(told[0]) not in page:
            outcome.problems.append(f"{verb} has not what the backup told: {told[0]}")


def _rehearse(product: Product, host: Host, backup: Answer, outcome: Outcome) -> bool:
    answer = _ask(product, "rehearse")
    outcome.codes["rehearse"] = answer.code
    failed = answer.code not in (0, 4)
    if (
        failed
        and not _is_known(host)
        and (backup.code == 0 or not _names(host, answer, backup.document["told"]))
    ):
        outcome.problems.append(f"rehearsal after a backup with {backup.code}: {answer.error}")
    return not failed


def _is_known(host: Host) -> bool:
    """Whether the host has what only a rehearsal looks at."""
    return any(oddity.kind in REHEARSAL_ALONE for oddity in host.oddities)


def _restore(
    product: Product, host: Host, backup: Answer, rehearsed: bool, outcome: Outcome
) -> list[str]:
    """Plan and restore; gives what was told before anything was replaced."""
    set_ = str(backup.document["set"])
    planned = _ask(product, "restore", "--dry-run", set_)
    answer = _ask(product, "restore", "--yes", "--no-safety-backup", set_)
    outcome.codes["restore"] = answer.code
    told: list[str] = planned.document.get("warnings", [])
    if answer.code not in (0, 4):
        if rehearsed or not (_is_known(host) or _names(host, answer, backup.document["told"])):
            outcome.problems.append(f"restore after a backup with {backup.code}: {answer.error}")
        _leaves_nothing(product, outcome)
        return told
    if not rehearsed:
        outcome.notes.append("a restore was made of what a rehearsal refused")
    # In the words of PostgreSQL, which knows the right way to say what the backup has told.
    refused = any(sentence.startswith("Privileges on ") for sentence in backup.document["told"])
    late = [
        warning
        for warning in answer.document["warnings"]
        if warning not in told
        and not (refused and warning.startswith("A privilege could not be put back"))
    ]
    outcome.problems += [f"told after the exchange alone: {sentence}" for sentence in late]
    _leaves_nothing(product, outcome)
    return told


def _leaves_nothing(product: Product, outcome: Outcome) -> None:
    left = [path for path in product.leftovers() if not oracle.TAG.search(path)]
    if left:
        outcome.problems.append(f"left behind: {left}")


def reading(path: Path) -> Host:
    """A host that was written down."""
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return Host.from_json(document)
