"""The unit of systemd's timer: a real systemd holds the run to it, and the run still does all."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.lab.installed_package import install_product
from tests.lab.omnibus import Spec, install
from tests.lab.sandbox import Lab, wait_until
from tests.system.helpers.faults import QUICK, Fault, environment
from tests.system.helpers.faults_server import DIST, LOADER

HOOK = "/etc/gitlab-mm-backup/hooks/post-backup.d/70-tell"
TOLD = "/etc/gitlab-mm-backup/told"
TELL = f"""#!/bin/sh
{{
    grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/self/status
    for try in '/usr/x' '/etc/x' '/proc/sys/kernel/x' /home/x /etc/gitlab-mm-backup/x; do
        if touch $try 2>/dev/null; then echo "writes $try"; rm $try; else echo "cannot write $try"; fi
    done
    unshare --user true 2>/dev/null && echo "user namespace" || echo "no user namespace"
    [ -e /dev/kmsg ] && echo "kernel log" || echo "no kernel log"
}} >{TOLD} 2>&1
"""
# capabilities(7): chown, dac_override, dac_read_search, fowner, fsetid, kill, setgid, setuid, setpcap,
# net_admin, sys_admin.
CAPABILITIES = sum(1 << bit for bit in (0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 21))


def test_a_night_with_the_unit(base: Path, deb: Path) -> None:
    with Lab(base=base, systemd=True) as lab:
        gitlab = install(lab, Spec())
        product = install_product(lab, deb)
        gitlab.seed()
        lab.write(HOOK, TELL, mode=0o755)
        lab.run("systemctl", "daemon-reload")
        started = lab.run("systemctl", "start", "gitlab-mm-backup.service", check=False)
        assert started.returncode == 0, lab.run("journalctl", "--no-pager", check=False).stdout
        (made,) = product("list").document["sets"]
        records = json.loads(lab.read(f"{made['path']}/rehearsal.json"))["records"]
        (results,) = [
            {check["name"]: check["result"] for check in record["checks"]} for record in records
        ]
        assert set(results.values()) == {"passed"}, results
        told = lab.read(TOLD)
        (held,) = re.findall(r"^CapBnd:\s*([0-9a-f]+)$", told, re.M)
        assert int(held, 16) == CAPABILITIES
        assert re.search(r"^NoNewPrivs:\s*1$", told, re.M)
        assert re.search(r"^Seccomp:\s*2$", told, re.M)
        assert [line for line in told.splitlines() if ":" not in line] == [
            "cannot write /usr/x",
            "cannot write /etc/x",
            "cannot write /proc/sys/kernel/x",
            "writes /home/x",
            "writes /etc/gitlab-mm-backup/x",
            "no user namespace",
            "no kernel log",
        ]


def test_the_unit_of_uploads_that_a_restore_has_left(base: Path, deb: Path) -> None:
    """It is started by a boot, does nothing without them, and ends them with its few rights."""
    unit, noted = "gitlab-mm-backup-uploads.service", "/var/lib/gitlab-mm-backup/uploads.json"
    day = "/var/opt/gitlab/mattermost/data/20240101"
    with Lab(base=base, systemd=True) as lab:
        gitlab = install(lab, Spec())
        product = install_product(lab, deb)
        gitlab.seed()
        lab.write(f"{DIST}/gitlab-mm-faults.pth", LOADER)
        lab.run("sh", "-ec", f"mkdir {day}; echo earlier > {day}/file; chown -R mattermost {day}")
        made = product.backup()
        assert lab.run("systemctl", "is-enabled", unit).stdout == "enabled\n"
        assert lab.run("systemctl", "start", unit, check=False).returncode == 0
        lab.run("rm", f"{day}/file")
        words = ("restore", "--yes", *QUICK, "--uploads-later", made)
        fault = environment(Fault("restore.uploads_later:_unpack_batch"))
        killed = lab.run("gitlab-mm", *words, env=fault, check=False)
        assert killed.returncode == -9 and lab.path(noted).exists()
        lab.run("systemctl", "start", unit)
        wait_until(lambda: not lab.path(noted).exists(), 60, "the unit")
        assert lab.read(f"{day}/file") == "earlier\n"
        assert lab.run("stat", "-c", "%U", f"{day}/file").stdout == "mattermost\n"
        ended = ("systemctl", "show", "-P", "ActiveState", unit)
        wait_until(lambda: lab.run(*ended).stdout != "active\n", 20, "the end of the unit")
        assert lab.run(*ended).stdout == "inactive\n"
