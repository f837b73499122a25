"""The unit of systemd's timer: a real systemd holds the run to it, and the run still does all."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.lab.installed_package import install_product
from tests.lab.omnibus import Spec, install
from tests.lab.sandbox import Lab

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
