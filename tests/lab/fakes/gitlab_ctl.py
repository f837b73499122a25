"""Stands in for gitlab-ctl: service verbs over runit's sv, reconfigure, show-config and backup-etc.

Everything else, help included, goes to the stand-in for omnibus-ctl, which loads command files in Ruby. Each
command imports for itself: the service verbs, by far the most, need little.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import NoReturn

from . import paths, services

SERVICE_VERBS = (
    "status",
    "start",
    "stop",
    "restart",
    "hup",
    "term",
    "kill",
    "int",
    "once",
    "up",
    "down",
)
COMMAND_FILES = paths.OPT / "embedded/service/omnibus-ctl*"


def service_verb(verb: str, names: list[str]) -> int:
    """Run a verb on the named services, or on all; a service that is not enabled is passed over without a word."""
    worst = 0
    for name in names or services.every_enabled():
        if services.enabled(name):
            done = services.control(verb, name)
            sys.stdout.write(done.stdout)
            sys.stdout.flush()
            worst = max(worst, exit_code(verb, done.stdout, done.returncode))
    return worst


def exit_code(verb: str, output: str, code: int) -> int:
    """What gitlab-ctl ends with.

    Debian's sv ends a status with 0 for a stopped service; Omnibus's own, since 11.8, with 3.
    """
    word = output.partition(":")[0]
    if verb != "status":
        return 1 if code else 0
    if not paths.load_package().generation.status_code_tells:
        return 0
    return {"run": 0, "down": 3}.get(word, 4)


def show_config() -> int:
    """Print the values of gitlab.rb and the secrets; the node files are made anew on the way, as the original does."""
    from . import attributes

    package = paths.load_package()
    normal = attributes.collect(package)
    shutil.rmtree(paths.NODES, ignore_errors=True)
    attributes.publish(package, normal)
    print(json.dumps(attributes.arrange(package, normal), indent=2))
    return 0


def run_reconfigure() -> int:
    """Run reconfigure; gives the exit code."""
    from . import reconfigure

    try:
        reconfigure.converge(paths.load_package(), lambda line: print(line, flush=True))
    except reconfigure.RemovedSettings as removed:
        print(removed, flush=True)
        return 1
    return 0


def become_omnibus_ctl(command: str, arguments: list[str]) -> NoReturn:
    """Leave the command to Ruby."""
    ruby, loader = str(paths.BIN / "ruby"), str(paths.CODE / "fakes/omnibus_ctl.rb")
    os.execv(ruby, [ruby, loader, "gitlab", str(COMMAND_FILES), command, *arguments])


def main() -> int:
    """Run one command."""
    os.umask(0o022)
    command, arguments = (sys.argv[1:2] or ["help"])[0], sys.argv[2:]
    if command in SERVICE_VERBS:
        return service_verb(command, arguments)
    if command == "reconfigure":
        return run_reconfigure()
    if command == "show-config":
        return show_config()
    if command == "backup-etc" and paths.load_package().generation.has_backup_etc:
        from . import backup_etc

        return backup_etc.run(arguments)
    become_omnibus_ctl(command, arguments)
